from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from core.beneath import PathRefused, check_path
from core.errors import InvalidRequest
from core.net import split_url
from core.validation import CheckedTogether, Found
from sandbox.jobs import Language
from templates_app.base import TemplateConfig
from templates_app.kinds.custom import pins
from templates_app.kinds.custom.source import inline_faults

MAX_URL = 4000
IDENTIFIER = r"^[A-Za-z_$][A-Za-z0-9_$]*$"
MAX_DEPENDENCIES = 50


class CustomConfig(CheckedTogether, TemplateConfig):
    type: Literal["inline", "file", "url"] = Field(
        title="Source", description="Where the code is: here, in a file of the shared workspace, or at an https URL."
    )
    content: str = Field(
        min_length=1,
        max_length=65_536,
        title="Code, path or URL",
        description="A file and a URL are read when this is saved, and what was read is kept with the version.",
        json_schema_extra={"format": "multiline"},
    )
    entryPoint: str = Field(  # noqa: N815 the API's name
        max_length=100, pattern=IDENTIFIER, title="Entry point", description="The function that is called."
    )
    language: Language = Field(title="Language")
    dependencies: list[str] = Field(
        default_factory=list,
        max_length=MAX_DEPENDENCIES,
        title="Dependencies",
        description="Exact pins: name==1.2.3 for Python, name@1.2.3 for JavaScript and TypeScript.",
    )
    timeout: int = Field(
        60,
        ge=1,
        le=300,
        title="Timeout",
        description="In seconds, for one answer; waiting for the model, for tools and for a person's approval counts.",
    )

    @classmethod
    def found_together(cls, data: Mapping[str, Any]) -> Iterator[Found]:
        content, language = data.get("content"), data.get("language")
        if isinstance(content, str) and content:
            for code, message in _content_faults(data, content):
                yield ("content",), code, message
        for index, code, message in pins.faults(language, data.get("dependencies", ())):
            yield ("dependencies", index), code, message


def _content_faults(data: Mapping[str, Any], content: str) -> Iterator[tuple[str, str]]:
    match data.get("type"):
        case "inline":
            yield from inline_faults(content, data.get("language"), data.get("entryPoint"))
        case "file":
            try:
                check_path(content)
            except PathRefused as refused:
                yield refused.code, refused.message
        case "url":
            yield from _url_faults(content)


def _url_faults(url: str) -> Iterator[tuple[str, str]]:
    try:
        parts = split_url(url, MAX_URL)
    except InvalidRequest as refused:
        yield refused.code, refused.message
        return
    if parts.scheme != "https":
        yield "https_only", "Code is fetched by https only: the URL must begin with https://."
    if parts.username is not None:
        yield "address_refused", "The URL must not hold a user name."
