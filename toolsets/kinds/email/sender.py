from typing import Any

from toolsets.base import ToolCallContext
from toolsets.exceptions import ToolError
from toolsets.kinds.email.addresses import is_allowed
from toolsets.kinds.email.arguments import SendMail
from toolsets.kinds.email.config import EmailConfig, SmtpServer
from toolsets.kinds.email.connection import secret
from toolsets.kinds.email.message import Mail, message_bytes, new_message_id
from toolsets.kinds.email.reader import KB, Reader
from toolsets.kinds.email.smtp import Delivery


class Sender:
    """Sends mails from the config's one address to the people that the config allows."""

    def __init__(self, config: EmailConfig, server: SmtpServer, reader: Reader | None) -> None:
        self._config = config
        self._server = server
        self._reader = reader

    async def send(self, arguments: SendMail, context: ToolCallContext) -> dict[str, Any]:
        recipients = list(dict.fromkeys([*arguments.to, *arguments.cc]))
        self._check(recipients, arguments.body)
        password = secret(context.secrets, "smtp_password") if self._server.user else ""
        references = await self._references(arguments.reply_to_uid, context)
        mail = Mail(arguments.to, arguments.cc, arguments.subject, arguments.body, references)
        message_id = new_message_id(self._server)
        delivery = Delivery(self._server, password, recipients, message_bytes(mail, self._server, message_id))
        refused = await delivery.deliver(self._config.timeout)
        accepted = [recipient for recipient in recipients if recipient not in refused]
        return {"accepted": accepted, "refused": refused, "message_id": message_id}

    def _check(self, recipients: list[str], body: str) -> None:
        strangers = [recipient for recipient in recipients if not is_allowed(recipient, self._config.recipients)]
        if strangers:
            told = ", ".join(strangers)
            raise ToolError(f"Not among the allowed recipients of this toolset: {told}. Nothing was sent.")
        if len(recipients) > self._config.max_recipients:
            limit = self._config.max_recipients
            raise ToolError(f"At most {limit} recipients are allowed (`max_recipients` of the toolset).")
        if len(body.encode()) > self._config.max_body_kb * KB:
            raise ToolError(f"The body exceeds {self._config.max_body_kb} KB (`max_body_kb` of the toolset).")

    async def _references(self, uid: int | None, context: ToolCallContext) -> list[str]:
        if uid is None:
            return []
        if self._reader is None:
            raise ToolError("This toolset reads no mail: leave reply_to_uid out, or have an operator set `imap`.")
        return await self._reader.thread(uid, context)
