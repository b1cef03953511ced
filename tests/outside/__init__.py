"""The product as its users meet it: a real server in a process of its own, and clients that know only the contract."""
