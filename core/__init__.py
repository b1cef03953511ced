"""Pieces without tables for every app: errors, tenant context, database backend, jobs, crypto, outbound guard."""
