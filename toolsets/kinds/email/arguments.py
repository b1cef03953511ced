from datetime import date
from typing import Annotated

from pydantic import AfterValidator, Field

from toolsets.base import ToolArguments
from toolsets.kinds.email.config import Address
from toolsets.kinds.email.text import plain_text, single_line

Words = Annotated[str, Field(max_length=200), AfterValidator(single_line)]
Uid = Annotated[int, Field(ge=1, lt=2**32, description="The mail's uid, as search_mail tells it.")]
Start = Annotated[int, Field(ge=0, description="The first character to read; `next_start` of the page before.")]
MaxChars = Annotated[int, Field(ge=100, le=50_000, description="Characters of one page.")]
PAGE = 10_000


class SearchMail(ToolArguments):
    text: Words = Field("", description="Words anywhere in the mail.")
    sender: Words = Field("", alias="from", description="Part of the sender's name or address.")
    to: Words = Field("", description="Part of a recipient's name or address.")
    subject: Words = Field("", description="Part of the subject.")
    since: date | None = Field(None, description="Arrived on this day or later, such as 2026-03-01.")
    before: date | None = Field(None, description="Arrived before this day.")
    unread: bool | None = Field(None, description="true: only unread mails; false: only read ones.")
    limit: int = Field(10, ge=1, le=100)


class ReadMail(ToolArguments):
    uid: Uid
    start: Start = 0
    max_chars: MaxChars = PAGE


class ReadAttachment(ReadMail):
    index: int = Field(ge=1, description="The attachment's index, as read_mail tells it.")


class SendMail(ToolArguments):
    to: list[Address] = Field(min_length=1, max_length=100, description="Bare addresses, without names.")
    cc: list[Address] = Field(default_factory=list, max_length=100)
    subject: Annotated[str, AfterValidator(single_line)] = Field(min_length=1, max_length=200)
    body: Annotated[str, AfterValidator(plain_text)] = Field(min_length=1, description="Plain text.")
    reply_to_uid: Uid | None = Field(None, description="uid of the mail that this one answers.")
