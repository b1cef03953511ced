"""A fork, its files and feedback in Chromium at each look, after real turns on a real server."""

from uuid import UUID

import pytest

from tests.admin.browser.conftest import Operator
from tests.outside.site import Server

PAGES = "sessions_app/chatsession", "sessions_app/messagefeedback"


@pytest.fixture(scope="module")
def fork(server: Server) -> UUID:
    with server.client() as http:
        asked = {
            "model": "scripted",
            "messages": [{"role": "user", "content": "Where is the <b>heliotrope</b> order?"}],
        }
        said = http.post("/chat/completions", json={**asked, "metadata": {"session_id": "shown"}})
        assert said.status_code == 200, said.text
        answer = http.get("/sessions/shown/messages").json()["data"][-1]
        for person, rating in (("ada", "up"), ("bob", "down")):
            opinion = {"rating": rating, "user_id": person, "comment": "It says <i>nothing</i> that I did not know."}
            assert http.put(f"/sessions/shown/messages/{answer['id']}/feedback", json=opinion).status_code == 200
        found = http.get("/search", params={"q": "heliotr"}).json()["data"]
        assert [(row["role"], row["session"]["external_id"]) for row in found] == [
            ("assistant", "shown"),
            ("user", "shown"),
        ]
        made = http.post("/sessions/shown/fork", json={})
        assert made.status_code == 201, made.text
        return UUID(made.json()["id"])


def test_sessions_and_feedback(operator: Operator, fork: UUID) -> None:
    sessions, feedback = PAGES
    for name, path in {
        "sessions": f"{sessions}/",
        "fork": f"{sessions}/{fork}/change/",
        "feedback": f"{feedback}/",
    }.items():
        operator.open(path)
        operator.shot(f"{name}-what-became")
        assert operator.serious() == []
    operator.page.locator("#result_list a").first.click()
    operator.page.wait_for_load_state()
    operator.shot("one-feedback")
    assert operator.serious() == []
    assert operator.page.locator("text=1 good, 1 bad").count() == 1
    operator.open(f"{sessions}/{fork}/change/")
    with operator.page.expect_download() as waited:
        operator.page.click("text=Markdown")
    assert waited.value.suggested_filename.endswith(".md")
