"""An answer goes on for its readers: after a reload, after the server was killed, after the socket was cut."""

import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.chat.component.conftest import APPLICATION, Come, Person
from tests.outside.fleet import Member
from tests.outside.processes import free_port
from tests.outside.site import Server, Site, answers, server_command

WORDS = " ".join(str(number) for number in range(120))
SLOW = {"say": WORDS, "delay_ms": 60}


@pytest.fixture
def mortal(site: Site) -> Iterator[tuple[Server, Member]]:
    """A server that can be killed and comes back on its port, and a worker that takes its runs over."""
    port = free_port()
    base_url = f"http://127.0.0.1:{port}"
    log = site.home / f"mortal-{port}.log"
    command = server_command("uvicorn", str(port), APPLICATION)
    member = Member(command, env=site.env, log=log, ready=lambda: answers(base_url))
    work = [sys.executable, "manage.py", "worker"]
    worker = Member(work, env=site.env, log=site.home / "worker.log", ready=lambda: True)
    try:
        member.until_ready()
        yield Server(site, "uvicorn", base_url, member.pid, log), member
    finally:
        member.stop()
        worker.stop()


def test_a_reload_in_the_middle_of_an_answer_goes_on(iris: Person) -> None:
    iris.script(SLOW)
    expect(iris.answers.first).to_contain_text("10 11 12")
    session = iris.session
    iris.open(session=session)
    expect(iris.answers.first).to_contain_text("0 1 2 3")
    expect(iris.page.get_by_role("button", name="Stop")).to_be_visible()
    expect(iris.answers.first.locator(".markdown")).to_have_text(WORDS)
    expect(iris.said).to_have_count(1)
    expect(iris.answers).to_have_count(1)


@pytest.mark.parametrize("gracefully", [True, False])
def test_the_answer_survives_its_server(
    mortal: tuple[Server, Member], come: Come, server: Server, gracefully: bool
) -> None:
    second, member = mortal
    iris = come("iris", at=second)
    iris.open()
    iris.script(SLOW)
    expect(iris.answers.first).to_contain_text("10 11 12")
    iris.field.fill("a draft")
    if gracefully:
        member.end()
    else:
        member.kill()
    expect(iris.page.get_by_text("The connection is lost")).to_be_visible()
    iris.shot("offline")
    member.until_ready()
    expect(iris.answers.first.locator(".markdown")).to_have_text(WORDS, timeout=90_000)
    expect(iris.page.get_by_text("The connection is lost")).to_be_hidden()
    expect(iris.answers).to_have_count(1)
    expect(iris.said).to_have_count(1)
    expect(iris.field).to_have_value("a draft")
    iris.faults.clear()  # the console says that the server was away
    iris.say("still there?")
    expect(iris.answers.nth(1)).to_contain_text("You said: still there?")


def test_what_was_said_while_the_socket_was_cut_is_sent_once(come: Come) -> None:
    iris = come()
    sockets: list[WebSocketRoute] = []
    iris.page.route_web_socket("**/ws/v1/**", lambda ws: sockets.append(ws) or ws.connect_to_server() and None)
    iris.open()
    iris.script(SLOW)
    expect(iris.answers.first).to_contain_text("10 11 12")
    sockets[-1].close(code=4000)
    iris.say("after the cut")
    expect(iris.answers.first.locator(".markdown")).to_have_text(WORDS)
    expect(iris.answers.nth(1)).to_contain_text("You said: after the cut")
    expect(iris.said).to_have_count(2)
    assert len(sockets) == 2
    iris.open(session=iris.session)
    expect(iris.said).to_have_count(2)
    expect(iris.answers).to_have_count(2)


def test_who_may_no_longer_see_it_is_told_so(iris: Person) -> None:
    iris.say("hello")
    expect(iris.answers.first).to_contain_text("You said")
    with iris.server.client() as http:
        assert http.delete(f"sessions/{iris.session}").status_code == 204
    iris.page.goto(iris.page.url + f"&session={iris.session}")
    expect(iris.page.get_by_text("This conversation is closed to you")).to_be_visible()
    expect(iris.field).to_be_hidden()
    iris.faults.clear()  # the console has the 404
    iris.shot("refused")
