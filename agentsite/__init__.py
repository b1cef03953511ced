"""The composition root: settings, urls, servers and the embedded services. Nobody imports it."""
