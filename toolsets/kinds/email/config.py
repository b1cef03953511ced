import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from core.validation import CheckedTogether, Found
from toolsets.base import ToolsetConfig
from toolsets.kinds.email.addresses import address, recipient_rule
from toolsets.kinds.email.text import single_line

_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")  # or IPv6


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise ValueError(
            "write the server's name in ASCII, such as mail.example.com; an international one in xn-- form"
        )
    return text


Host = Annotated[str, Field(max_length=253, examples=["mail.example.com"]), AfterValidator(_host)]
Line = Annotated[str, Field(max_length=200), AfterValidator(single_line)]
Address = Annotated[str, Field(max_length=320, examples=["anna@example.com"]), AfterValidator(address)]
RecipientRule = Annotated[str, Field(max_length=320), AfterValidator(recipient_rule)]
Security = Literal["tls", "starttls", "none"]
SECURITY = (
    "tls: encrypted from the start; starttls: encrypted before the password is sent, or not used; none: in clear."
)


class Server(BaseModel):
    model_config = ConfigDict(extra="forbid")

    host: Host = Field(title="Server")
    security: Security = Field("tls", title="Encryption", description=SECURITY)


class ImapServer(Server):
    port: int = Field(993, ge=1, le=65535, title="Port", description="Usually 993 for tls, else 143.")
    user: Line = Field(min_length=1, title="User name")
    folder: Line = Field("INBOX", min_length=1, title="Folder", description="The one folder that may be read.")


class SmtpServer(Server):
    port: int = Field(465, ge=1, le=65535, title="Port", description="Usually 465 for tls, 587 for starttls, else 25.")
    user: Line | None = Field(None, min_length=1, title="User name", description="Left out: it does not sign in.")
    from_address: Address = Field(title="Sender's address")
    from_name: Line = Field("", title="Sender's name")


class EmailConfig(CheckedTogether, ToolsetConfig):
    imap: ImapServer | None = Field(None, title="Reading (IMAP)")
    smtp: SmtpServer | None = Field(None, title="Sending (SMTP)")
    recipients: list[RecipientRule] = Field(
        default_factory=list,
        max_length=1000,
        title="Allowed recipients",
        description="Addresses, or *@example.com for all of a domain. An empty list sends to nobody.",
    )
    max_recipients: int = Field(10, ge=1, le=100, title="Recipients of one mail")
    max_body_kb: int = Field(100, ge=1, le=1000, title="Text of a sent mail, in KB")
    max_messages: int = Field(20, ge=1, le=100, title="Mails that one search tells of")
    max_text_kb: int = Field(512, ge=1, le=2048, title="Text fetched of one mail or attachment, in KB")
    timeout: int = Field(30, ge=1, le=120, title="Seconds for one call, connecting included")

    @classmethod
    def found_together(cls, data: Mapping[str, Any]) -> Iterator[Found]:
        if data.get("imap") is None and data.get("smtp") is None:
            yield (), "missing", "give imap to read mail, smtp to send it, or both"
