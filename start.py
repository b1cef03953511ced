#!/usr/bin/env python3
"""One command: makes the environment, starts the embedded services, serves until Ctrl-C; `test` runs the tests.

It needs Python alone, and parses on old ones, to be able to say that they are too old.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Agentsite needs Python 3.11 or newer, this is %d.%d: run it as `python3.11 start.py`." % sys.version_info[:2]
    )

import argparse
import signal

from agentsite.embedded.console import say
from agentsite.embedded.errors import StartError
from agentsite.embedded.home import Home, open_home
from agentsite.embedded.install import RUNTIME, TESTS, install, install_local_model
from agentsite.embedded.run_tests import run_tests
from agentsite.embedded.serve import Address, serve

INTERRUPTED = 130


def main(arguments: "list[str]") -> int:
    try:
        _end_by_signals()
        home = open_home()
        if arguments[:1] == ["test"]:
            return test(home, arguments[1:])
        return start(home, parse(arguments))
    except StartError as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{error.strerror or error}: {error.filename or 'start.py'}")
    except KeyboardInterrupt:
        say()
        return INTERRUPTED


def _end_by_signals() -> None:
    """All as Ctrl-C, which a shell's background job ignores otherwise; a hang-up counts unless nohup disabled it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def fail(reason: str) -> int:
    print(reason, file=sys.stderr, flush=True)
    return 1


def parse(arguments: "list[str]") -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Serve Agentsite until Ctrl-C.", epilog="start.py test [pytest options] runs the tests."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=port, default=8000, help="port to listen on (default 8000)")
    parser.add_argument("--no-local-model", action="store_true", help="install and use no local model")
    return parser.parse_args(arguments)


def port(text: str) -> int:
    number = int(text)
    if not 0 < number < 65536:
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return number


def start(home: Home, options: argparse.Namespace) -> int:
    """Holds the home's lock as long as it serves."""
    lock = home.lock("start")
    if not lock.acquire(wait=False):
        raise StartError(f"Another start.py uses {home.path}: stop it, or set AGENTSITE_HOME to another folder.")
    address = Address(options.host, options.port)
    address.require_free()
    install(home, RUNTIME)
    local_model = not options.no_local_model and install_local_model(home)
    serve(home, address, local_model=local_model)
    return 0


def test(home: Home, arguments: "list[str]") -> int:
    install(home, RUNTIME, TESTS)
    install_local_model(home)
    return run_tests(home, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
