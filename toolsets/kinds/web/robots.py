"""robots.txt, as RFC 9309 says: the longest rule that matches decides, and an allowing one among equals."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, quote

from core.errors import ApplicationError
from core.fetch import Admit, Fetcher, Limits, Request
from toolsets.exceptions import ToolError

PRODUCT = "agentsite"
MAX_BYTES = 512 * 1024
MAX_RULES = 1000
KEPT_SECONDS = 3600.0
KEPT_SITES = 1024
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_ASCII = "".join(map(chr, range(33, 127)))


@dataclass(frozen=True, slots=True)
class Rule:
    allows: bool
    pattern: str

    def matches(self, path: str) -> bool:
        """`*` stands for any characters and a last `$` for the end; takes linear time."""
        first, *others = self.pattern.removesuffix("$").split("*")
        if not path.startswith(first):
            return False
        ends = self.pattern.endswith("$")
        if ends and not others:
            return path == first
        last = others.pop() if ends else ""
        at = len(first)
        for part in others:
            found = path.find(part, at)
            if found < 0:
                return False
            at = found + len(part)
        return path.endswith(last) and len(path) - len(last) >= at


def rules_of(text: str) -> list[Rule]:
    """The rules for us: those of the groups that name us, else those for everybody."""
    named: dict[str, list[Rule]] = {}
    group: list[str] = []
    in_rules = False
    for key, value in _lines(text):
        if key == "user-agent":
            group = [*([] if in_rules else group), value.lower()]
            in_rules = False
            named.setdefault(value.lower(), [])
        elif key in ("allow", "disallow"):
            in_rules = True
            rule = Rule(key == "allow", _normal(value))
            for agent in group if value else ():
                named[agent].append(rule)
    return named.get(PRODUCT, named.get("*", []))[:MAX_RULES]


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.lstrip("\N{BYTE ORDER MARK}").splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        if colon:
            yield key.strip().lower(), value.strip()


def allowed(rules: list[Rule], path: str) -> bool:
    path = _normal(path)
    matching = [(len(rule.pattern), rule.allows) for rule in rules if rule.matches(path)]
    return max(matching, default=(0, True))[1]


def _normal(path: str) -> str:
    """One spelling of its percent escapes."""

    def spelled(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if _UNRESERVED.match(character) else match[0].upper()

    return _ESCAPE.sub(spelled, quote(path, safe=_ASCII))


class Robots:
    """The rules of sites, kept for an hour in this process."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[float, list[Rule]]] = {}

    async def check(self, target: SplitResult, source: Fetcher, limits: Limits, agent: str, admit: Admit) -> None:
        """Raises ToolError where the site closes the page to robots, or its robots.txt cannot be had."""
        path = f"{target.path or '/'}?{target.query}" if target.query else target.path or "/"
        if path == "/robots.txt":
            return
        if not allowed(await self._rules(target, source, limits, agent, admit), path):
            raise ToolError(
                "The site's robots.txt closes this page to robots; respect_robots of the toolset says to heed it."
            )

    async def _rules(
        self, target: SplitResult, source: Fetcher, limits: Limits, agent: str, admit: Admit
    ) -> list[Rule]:
        site = f"{target.scheme}://{target.netloc}"
        held = self._held.get(site)
        if held is not None and held[0] > time.monotonic():
            return held[1]
        request = Request(f"{site}/robots.txt", headers={"User-Agent": agent})
        try:
            answer = await source.fetch(request, limits, admit=admit)
        except ApplicationError as error:
            raise ToolError(f"The site's robots.txt could not be read. {error.message}") from None
        if answer.status >= 500 or answer.status == 429:
            raise ToolError(f"The site's robots.txt could not be read: it answered {answer.status}. Try later.")
        rules = rules_of(answer.body.decode("utf-8", "replace")) if answer.status < 300 else []
        if len(self._held) >= KEPT_SITES:
            self._held.clear()
        self._held[site] = (time.monotonic() + KEPT_SECONDS, rules)
        return rules
