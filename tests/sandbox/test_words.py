"""What Deno says of its own flags, in words of ours."""

import pytest

from sandbox.outcome import plain


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            'TypeError: A remote specifier was requested: "https://esm.sh/x", but --no-remote is specified.',
            "TypeError: There is no network, and nothing is imported from an address: pin a package in `dependencies`.",
        ),
        (
            'TypeError: Import "lodash" not a dependency and not in import map from "main"',
            "TypeError: There is no 'lodash' to import: only packages that are pinned in `dependencies` are there.",
        ),
        (
            "npm specifiers were requested; but --no-npm is specified",
            "A package that is pinned in `dependencies` is imported by its plain name, without npm:.",
        ),
        (
            'NotCapable: Requires net access to "example.com:443", run again with the --allow-net flag\n    at main:1',
            "NotCapable: There is no network.\n    at main:1",
        ),
        (
            'NotCapable: Requires read access to "/etc/passwd", run again with the --allow-read flag',
            'NotCapable: Requires read access to "/etc/passwd"',
        ),
        ("TypeError: x is not a function", "TypeError: x is not a function"),
    ],
)
def test_flags_are_not_told(said: str, told: str) -> None:
    assert plain(said) == told
