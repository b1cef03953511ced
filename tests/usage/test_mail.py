"""A budget that is reached tells people by e-mail, through a mail server that is really asked."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from email import message_from_bytes
from email.message import Message
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from audit.models import AuditEvent
from tests.usage.conftest import call
from usage.budgets import Payer
from usage.models import Budget
from usage.services.spending import settle
from usage.tasks import MAX_TRIES, notify, notify_subjects

pytestmark = pytest.mark.django_db
NewBudget = Callable[..., Budget]


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


TWO = ["a@example.com", "b@example.com"]


def text_of(mail: Message) -> str:
    text = mail.get_payload(decode=True)
    assert isinstance(text, bytes)
    return text.decode()


def queued() -> list[ProcrastinateJob]:
    return list(ProcrastinateJob.objects.filter(task_name__startswith="usage.notify").order_by("id"))


def work(queue: list[ProcrastinateJob]) -> None:
    """What waits, without its time."""
    for waiting in queue:
        {"usage.notify": notify, "usage.notify_subjects": notify_subjects}[waiting.task_name](
            **waiting.args["arguments"]
        )


def test_a_mail_arrives_and_its_readers_do_not_see_each_other(
    inbox: Inbox, payer: Payer, new_budget: NewBudget, settings: Any, django_capture_on_commit_callbacks: Any
) -> None:
    new_budget(scope="end_user", subject="ada\nBcc: x@example.com", amount="0.02", notify_at=[50], notify_emails=TWO)
    with django_capture_on_commit_callbacks(execute=True):
        settle(tenant_id=payer.tenant_id, calls=[call(replace(payer, end_user="ada\nBcc: x@example.com"))])
    work(queued())
    ((to, mail),) = inbox.mails
    assert to == TWO
    assert (mail["From"], mail["To"], mail["Bcc"]) == (settings.DEFAULT_FROM_EMAIL, None, None)
    assert mail["Subject"] == "Budget cap of end user ada Bcc: x@example.com: 50 % reached"
    assert "(0.02 usd for each month) is spent." in text_of(mail)


def test_what_each_one_reaches_is_one_mail_an_hour(
    inbox: Inbox, payer: Payer, new_budget: NewBudget, django_capture_on_commit_callbacks: Any
) -> None:
    new_budget(scope="end_user", amount="0.02", notify_at=[50, 100], notify_emails=TWO)
    for number in range(1, 12):
        with django_capture_on_commit_callbacks(execute=True):
            one = replace(payer, end_user=f"user {min(number, 10)}")
            settle(tenant_id=payer.tenant_id, calls=[call(one, number)])
    assert AuditEvent.objects.filter(action="budget.reached").count() == 11
    (waiting,) = queued()
    hour = datetime.fromisoformat(waiting.args["arguments"]["hour"])
    assert waiting.scheduled_at == hour + timedelta(hours=1, minutes=1)
    assert hour <= timezone.now() < waiting.scheduled_at
    work([waiting])
    ((to, mail),) = inbox.mails
    assert to == TWO
    assert mail["Subject"] == "Budget cap of each end user: 50 % or more reached by 10"
    assert "100 % is spent by 1.\n50 % is spent by 9." in text_of(mail).replace("\r", "")
    assert "user 1" not in text_of(mail)


def test_a_mail_is_tried_again_for_some_hours(
    settings: Any, unused_tcp_port: int, payer: Payer, new_budget: NewBudget
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", unused_tcp_port  # where nobody listens
    budget = new_budget(notify_at=[50], notify_emails=TWO)
    notify(budget_id=str(budget.id), subject="", percent=50)
    for tries, minutes in enumerate((1, 5, 25, 125), 2):
        waiting = queued()[-1]
        assert waiting.args["arguments"]["tries"] == tries
        assert timedelta(0) <= timezone.now() + timedelta(minutes=minutes) - waiting.scheduled_at < timedelta(seconds=9)
        if tries < MAX_TRIES:
            work([waiting])
    with pytest.raises(RuntimeError, match="5 tries"):
        work([waiting])
    assert len(queued()) == 4
