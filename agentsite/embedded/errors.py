class StartError(Exception):
    """Why something cannot start: one line that also says what to do. Shown without a traceback, exit code 1."""
