from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from toolsets.base import Risk, Tool, ToolsetKind
from toolsets.kinds.email.arguments import ReadAttachment, ReadMail, SearchMail, SendMail
from toolsets.kinds.email.config import EmailConfig
from toolsets.kinds.email.reader import Reader
from toolsets.kinds.email.sender import Sender

GRACE = 5.0  # seconds in which a call that ran out of time can say so itself


class EmailToolset(ToolsetKind):
    slug = "email"
    title = "E-mail"
    description = (
        "Reads one folder over IMAP without changing it, and sends plain text over SMTP to allowed recipients."
    )
    Config: ClassVar[type[EmailConfig]] = EmailConfig
    secrets: ClassVar[dict[str, str]] = {
        "imap_password": "Password for reading",
        "smtp_password": "Password for sending",
    }
    places: ClassVar[frozenset[str]] = frozenset({"imap", "smtp"})

    def tools(self, config: EmailConfig) -> Sequence[Tool]:
        reader = Reader(config, config.imap) if config.imap else None
        sender = Sender(config, config.smtp, reader) if config.smtp else None
        return [*_reading(reader, config), *_sending(sender, config)]


def _reading(reader: Reader | None, config: EmailConfig) -> list[Tool]:
    if reader is None:
        return []
    tool = partial(Tool, risk=Risk.EGRESS, untrusted=True, repeatable=True, timeout=config.timeout + GRACE)
    return [
        tool("search_mail", "Finds mails in the folder, the newest first.", SearchMail, reader.search),
        tool("read_mail", "A mail's headers, text and list of attachments.", ReadMail, reader.read),
        tool("read_attachment_text", "The text of an attachment.", ReadAttachment, reader.read_attachment),
    ]


def _sending(sender: Sender | None, config: EmailConfig) -> list[Tool]:
    if sender is None:
        return []
    timeout = 2 * config.timeout + GRACE  # an answer reads the mail that it answers first
    description = "Sends a plain-text mail to allowed recipients."
    send = Tool("send_mail", description, SendMail, sender.send, Risk.EGRESS, timeout, parallel=False, approval=True)
    return [send]
