"""An OpenAPI document that a tenant pasted, as JSON values. Nothing in it is trusted."""

from functools import cache
from typing import Any
from urllib.parse import unquote

import orjson

from toolsets.kinds.http.faults import Faulty

MAX_DEPTH = 200  # of YAML; orjson reads and writes as deep
MAX_EVENTS = 250_000  # of YAML, about one for each value: a second of work
MAX_CHAIN = 10  # references that lead to references
MAX_REFERENCE = 500  # characters
VERSIONS = ("3.0.", "3.1.")
# JSON's own values; YAML 1.1 would also read `on`, dates and numbers to the base of 60.
_VALUES = {
    "tag:yaml.org,2002:null": r"^(?:null|~|)$",
    "tag:yaml.org,2002:bool": r"^(?:true|false)$",
    "tag:yaml.org,2002:int": r"^-?(?:0|[1-9][0-9]{0,17})$",
    "tag:yaml.org,2002:float": r"^-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,30}(?:[eE][-+][0-9]{1,2})?$",
}


class Referred:
    """A JSON object with references to its own parts."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root

    def at(self, reference: str) -> Any:
        """What a local reference points to. Raises Faulty, for one to another document as well."""
        if not reference.startswith("#"):
            raise Faulty(
                f"The reference '{reference[:100]}' leads out of the document; only those with #/ are followed."
            )
        found: Any = self.root
        for part in reference[:MAX_REFERENCE].removeprefix("#/").split("/") if reference != "#" else ():
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, dict) else None
        if found is None:
            raise Faulty(f"The reference '{reference[:100]}' leads to nothing in the document.")
        return found

    def followed(self, value: Any) -> dict[str, Any]:
        """The object, or the one that it refers to. Raises Faulty."""
        reference = ""
        for _ in range(MAX_CHAIN):
            if not isinstance(value, dict):
                raise Faulty("An object is missing where the document should have one.")
            found = value.get("$ref")
            if not isinstance(found, str):
                return value
            reference, value = found, self.at(found)
        raise Faulty(f"The reference '{reference[:100]}' leads through more than {MAX_CHAIN} others, or to itself.")


class Document(Referred):
    """Raises Faulty for a text that is no OpenAPI 3.0 or 3.1 document."""

    def __init__(self, text: str) -> None:
        super().__init__(_read(text))
        version = self.root.get("openapi")
        if not (isinstance(version, str) and version.startswith(VERSIONS)):
            raise Faulty("This is no OpenAPI 3.0 or 3.1 document: its `openapi` must be a text such as 3.0.3 or 3.1.0.")
        if not isinstance(self.root.get("paths"), dict):
            raise Faulty("The document has no `paths`.")


def _read(text: str) -> dict[str, Any]:
    kind = "JSON" if text.lstrip().startswith("{") else "YAML"
    try:
        found = orjson.loads(text) if kind == "JSON" else _from_yaml(text)
        written = orjson.dumps(found, option=orjson.OPT_NON_STR_KEYS)
    except Faulty:
        raise
    except (ValueError, TypeError, RecursionError):  # without the parser's words, which quote the text
        raise Faulty(
            f"The document is no {kind} that can be read, or is nested deeper than {MAX_DEPTH} levels."
        ) from None
    found = found if kind == "JSON" else orjson.loads(written)  # YAML has keys that are no text, such as 200
    if not isinstance(found, dict):
        raise Faulty("The document is neither a JSON object nor a YAML mapping.")
    return found


def _from_yaml(text: str) -> Any:
    import yaml

    if not yaml.__with_libyaml__:
        raise Faulty("This server reads documents in JSON only: its YAML parser lacks libyaml.")
    try:
        _check_yaml(text)
        return yaml.load(text, Loader=_yaml_loader())  # noqa: S506 a safe loader with fewer values
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise Faulty(f"The document cannot be read as YAML{where}.") from None


def _check_yaml(text: str) -> None:
    """Refuses what makes a small text large or odd before anything is built from it."""
    import yaml

    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=yaml.CSafeLoader)):
        if number > MAX_EVENTS:
            raise Faulty(f"The document has more than {MAX_EVENTS:,} values in YAML: give it as JSON, or a part of it.")
        if getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None:
            raise Faulty("YAML anchors, aliases (& and *) and tags (!) are not read: write the values out.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise Faulty(f"The document is nested deeper than {MAX_DEPTH} levels.")


@cache
def _yaml_loader() -> Any:
    import re

    import yaml

    class Loader(yaml.CSafeLoader):
        yaml_implicit_resolvers: dict[str, Any] = {}

    for tag, pattern in _VALUES.items():
        Loader.add_implicit_resolver(tag, re.compile(pattern), None)
    return Loader
