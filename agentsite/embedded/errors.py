REFUSAL = "Cannot start: "  # comes before the text of a StartError that a process passes on to the one it serves


class StartError(Exception):
    """Why something cannot start: one line that also says what to do. Shown without a traceback, exit code 1."""
