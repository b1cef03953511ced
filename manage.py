#!/usr/bin/env python3
"""Django's commands. Works with no variable set: it finds or starts the embedded database."""

import os
import sys

from agentsite.embedded.command import enter_environment, services
from agentsite.embedded.errors import StartError


def main() -> None:
    enter_environment(__file__)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentsite.settings")
    try:
        from django.core.management import execute_from_command_line
    except ModuleNotFoundError:
        sys.exit("Django is not installed here: run `python3 start.py` once, it makes the environment.")
    try:
        with services(sys.argv[1:]):
            execute_from_command_line(sys.argv)
    except StartError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
