"""A budget that is reached tells people by e-mail, through a mail server that is really asked."""

from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import Message
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from tests.usage.conftest import call
from usage.budgets import Payer
from usage.models import Budget
from usage.services.spending import settle
from usage.tasks import notify


class Inbox:
    def __init__(self) -> None:
        self.mails: list[tuple[list[str], Message]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
        return "250 OK"


@pytest.fixture
def inbox(settings: Any, unused_tcp_port: int) -> Iterator[Inbox]:
    inbox = Inbox()
    controller = Controller(inbox, hostname="127.0.0.1", port=unused_tcp_port)
    controller.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", unused_tcp_port
    yield inbox
    controller.stop()


@pytest.mark.django_db
def test_a_mail_arrives(inbox: Inbox, payer: Payer, new_budget: Callable[..., Budget], settings: Any) -> None:
    budget = new_budget(
        scope="end_user", amount="0.02", notify_at=[50], notify_emails=["a@example.com", "b@example.com"]
    )
    settle(tenant_id=payer.tenant_id, calls=[call(payer)])
    notify(budget_id=str(budget.id), subject="ada", percent=50)
    ((to, mail),) = inbox.mails
    assert to == ["a@example.com", "b@example.com"]
    assert mail["From"] == settings.DEFAULT_FROM_EMAIL
    assert mail["Subject"] == "Budget cap of end user ada: 50 % reached"
    text = mail.get_payload(decode=True)
    assert isinstance(text, bytes)
    assert "50 % of the budget 'cap' of end user ada (0.02 usd for each month) is spent." in text.decode()
