import pytest

from tests.conftest import Actor, make_actor
from tests.templates_app.conftest import AddTemplate, echo

PATHS = (
    "templates",
    "templates/simple",
    "templates/simple/schema",
    "templates/simple/versions",
    "templates/simple/health",
)


def test_everybody_with_a_key_reads_the_same_templates(owner: Actor, viewer: Actor, stranger: Actor) -> None:
    for path in PATHS:
        answers = [actor.get(path) for actor in (owner, viewer, stranger)]
        assert [response.status_code for response in answers] == [200, 200, 200]
        assert len({response.content for response in answers}) == 1
    report = viewer.post("templates/simple/validate", {"config": {}})
    needs = {"model": [], "toolsets": [], "sandbox": None}
    assert report.json() == {"valid": True, "errors": [], "warnings": [], "requirements": needs}


@pytest.mark.parametrize("path", [*PATHS, "templates/nothing"])
def test_nobody_without_a_key(client: object, path: str, db: None) -> None:
    assert client.get(f"/v1/{path}").status_code == 401  # type: ignore[attr-defined]


def test_the_list_is_searched_and_paged(owner: Actor, add_template: AddTemplate) -> None:
    add_template("echo", echo("1.0.0"))
    whole = [item["slug"] for item in owner.get("templates").json()["data"]]
    assert whole == sorted(whole)
    first = owner.get("templates", limit=1).json()
    rest = owner.get("templates", limit=100, cursor=first["next_cursor"]).json()
    assert first["has_more"]
    assert [item["slug"] for item in first["data"] + rest["data"]] == whole
    found = owner.get("templates", q="ECHO").json()["data"]
    assert [item["slug"] for item in found] == ["echo"]
    assert owner.get("templates", cursor="%%%").status_code == 400
    assert owner.get("templates", limit="x").status_code == 400


def test_a_template_tells_what_it_is(owner: Actor, add_template: AddTemplate) -> None:
    add_template("echo", echo("1.0.0"))
    add_template("echo2", echo("2.0.0"))
    assert owner.get("templates/echo").json() == {
        "slug": "echo",
        "version": "2.0.0",
        "versions": ["2.0.0", "1.0.0"],
        "title": "Echo 2.0.0",
        "description": "",
        "framework": "native",
        "capabilities": [],
        "reserved_toolsets": [],
        "healthy": True,
        "deprecated": None,
    }
    versions = owner.get("templates/echo/versions").json()["data"]
    assert [(item["version"], item["default"]) for item in versions] == [("2.0.0", True), ("1.0.0", False)]


def test_the_schema_is_that_of_the_version(owner: Actor, add_template: AddTemplate) -> None:
    config = """
    from templates_app.base import TemplateConfig
    class Config(TemplateConfig):
        tone: str = 'dry'
"""
    add_template("echo", echo("1.0.0"))
    add_template("echo2", echo("2.0.0", extra=config))
    assert "tone" in owner.get("templates/echo/schema").json()["properties"]
    old = owner.get("templates/echo/schema", version="1.0.0").json()
    assert old["properties"] == {}
    assert old["additionalProperties"] is False
    missing = owner.get("templates/echo/schema", version="3.0.0")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "template_version_not_found")


@pytest.mark.parametrize("path", ["", "/schema", "/versions", "/health"])
def test_an_unknown_template_is_missing(owner: Actor, path: str) -> None:
    response = owner.get(f"templates/nothing{path}")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "template_not_found")


def test_a_broken_template_is_listed_with_its_reason(owner: Actor, add_template: AddTemplate) -> None:
    add_template("broken", "import no_such_module")
    assert owner.get("templates/broken").json()["healthy"] is False
    health = owner.get("templates/broken/health").json()
    assert health["healthy"] is False
    assert "no_such_module" in health["problems"][0]["reason"]
    assert owner.get("templates/broken/schema").status_code == 404
    assert owner.get("templates/simple/health").json()["healthy"] is True


def test_validate_tells_every_fault_at_once(owner: Actor) -> None:
    body = {"config": {"max_steps": 0, "history_turns": "many", "colour": "red"}}
    report = owner.post("templates/conversation/validate", body).json()
    assert report["valid"] is False
    assert {fault["path"] for fault in report["errors"]} == {
        "config.max_steps",
        "config.history_turns",
        "config.colour",
    }
    old = owner.post("templates/conversation/validate", {"config": {}, "version": "0.0.1"}).json()
    assert [(fault["path"], fault["code"]) for fault in old["errors"]] == [("version", "template_version_not_found")]


@pytest.mark.parametrize("body", [{}, {"config": []}, {"config": {}, "verison": "1"}, {"config": {}, "version": 1}, []])
def test_validate_refuses_a_body_of_the_wrong_form(owner: Actor, body: object) -> None:
    assert owner.post("templates/conversation/validate", body).status_code == 400


def test_a_key_without_the_scope_reads_nothing(acme: object) -> None:
    chat = make_actor(acme, "owner", scopes=["chat"])  # type: ignore[arg-type]
    assert chat.get("templates").status_code == 403
    assert chat.post("templates/simple/validate", {"config": {}}).status_code == 403
