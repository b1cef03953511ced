import time

import pytest

from toolsets.kinds.web.robots import allowed, rules_of

RFC = """\ufeff# RFC 9309, and what sites write
User-Agent: other
Disallow: /

user-agent: *
Disallow: /private   # not for robots
Allow: /private/open$
Disallow: /*.gif$
Disallow: /find?*q=
Allow: /same
Disallow: /same
Disallow: /caf%C3%A9
Disallow:
Nonsense
Sitemap: https://example.com/s.xml
"""


@pytest.mark.parametrize(
    ("path", "open_"),
    [
        ("/", True),
        ("/private", False),
        ("/private/x", False),
        ("/privately", False),
        ("/Private", True),
        ("/private/open", True),
        ("/private/open/x", False),
        ("/a/b.gif", False),
        ("/a/b.gif?x", True),
        ("/find?a=1&q=2", False),
        ("/find", True),
        ("/same", True),
        ("/café", False),
        ("/caf%c3%a9/x", False),
        ("/%70rivate", False),
    ],
)
def test_the_longest_rule_decides(path: str, open_: bool) -> None:
    assert allowed(rules_of(RFC), path) is open_


def test_the_group_that_names_us_is_the_one_that_counts() -> None:
    text = (
        "User-agent: *\nDisallow: /\n\nUser-agent: x\nUser-agent: AgentSite\nDisallow: /a\nUser-agent: y\nDisallow: /b"
    )
    assert [allowed(rules_of(text), path) for path in ("/", "/a", "/b")] == [True, False, True]
    assert not allowed(rules_of("User-agent: *\nDisallow: /"), "/x")
    assert allowed(rules_of("Disallow: /"), "/x")
    assert allowed(rules_of("User-agent: agentsite\nUser-agent: *\nDisallow:"), "/x")


def test_evil_rules_take_no_time() -> None:
    text = "User-agent: *\n" + ("Disallow: /" + "a*" * 200 + "b$\n") * 5000
    rules = rules_of(text)
    began = time.monotonic()
    assert allowed(rules, "/" + "a" * 4000)
    assert time.monotonic() - began < 1
