"""The services that run beside the server without an installation: environment, PostgreSQL, child processes.

Everything but `roles`, `prepare` and `pytest_plugin` needs the standard library only: `start.py` runs it before
the virtual environment exists.
"""
