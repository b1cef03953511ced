"""Writes to sessions: what is said in them, who takes part, and what becomes of them."""
