"""Pieces without tables that every app may use: errors, tenant context, database backend, jobs, crypto, outbound guard."""
