"""HTML as text: what a reader would see of it, and where links lead. Nothing is fetched."""

import re
from html.parser import HTMLParser

from toolsets.kinds.email.text import clean

MAX_LINK = 500
_NEVER_SHOWN = {"head", "script", "style", "template", "title", "object", "iframe", "svg", "math", "select", "textarea"}
_WITHOUT_END = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_LINES = {"address", "article", "blockquote", "br", "dd", "div", "dl", "dt", "footer", "form", "h1", "h2", "h3", "h4"}
_LINES |= {"h5", "h6", "header", "hr", "li", "main", "ol", "p", "pre", "section", "table", "tr", "ul"}
_CELLS = {"td", "th"}
_HIDING = re.compile(
    r"display:none|visibility:(hidden|collapse)|(?<![a-z-])opacity:0*\.?0*(?![.0-9])|mso-hide:all"
    r"|font-size:0*\.?0*(?![.0-9])|(?<![a-z-])(max-)?(height|width):0*\.?0*(px|em|%)?(;|$|!).*overflow:hidden|text-indent:-\d{3}"
)
_BLANKS = re.compile(r"[ \t\xa0]+")
_LINE_BREAKS = re.compile(r" ?\n ?")
_EMPTY_LINES = re.compile(r"\n{3,}")


def html_to_text(html: str) -> str:
    """Linear: fed once and never closed, the parser gives up at the first thing without an end, such as a comment.

    Browsers show nothing of that either. The blank ends a last `&`.
    """
    reader = _Reader()
    reader.feed(f"{html} ")
    text = _BLANKS.sub(" ", clean("".join(reader.found)))
    return _EMPTY_LINES.sub("\n\n", _LINE_BREAKS.sub("\n", text)).strip()


class _Reader(HTMLParser):
    """`_hidden` is the element that hides what it holds, `_depth` how many of its name are open within."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._hidden = ""
        self._depth = 0
        self._link = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._hidden:
            self._depth += tag == self._hidden
        elif tag in _WITHOUT_END:
            self._layout(tag)
        elif tag in _NEVER_SHOWN or _is_hidden(dict(attrs)):
            self._hidden, self._depth = tag, 1
        else:
            self._layout(tag)
            if tag == "a":
                self._link = _web_link(dict(attrs).get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        if self._hidden:
            self._depth -= tag == self._hidden
            self._hidden = self._hidden if self._depth else ""
        elif tag == "a" and self._link:
            self.found.append(f" <{self._link}>")
            self._link = ""
        elif tag not in _WITHOUT_END:
            self._layout(tag)

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.found.append(data.replace("\r", " ").replace("\n", " "))

    def parse_marked_section(self, i: int, report: int = 1) -> int:
        """`<![…]>` is skipped: the parser's own way raises AssertionError for words that it does not know."""
        end = self.rawdata.find(">", i)
        return end + 1 if end >= 0 else -1

    def _layout(self, tag: str) -> None:
        if tag in _LINES:
            self.found.append("\n")
        elif tag in _CELLS:
            self.found.append(" ")


def _is_hidden(attributes: dict[str, str | None]) -> bool:
    style = "".join((attributes.get("style") or "").lower().split())
    return "hidden" in attributes or bool(_HIDING.search(style))


def _web_link(href: str) -> str:
    href = "".join(href.split())
    return href[:MAX_LINK] if href.lower().startswith(("http://", "https://", "mailto:")) else ""
