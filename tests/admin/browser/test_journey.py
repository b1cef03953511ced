"""What an operator does in a day, in Chromium, with no console error under the strict policy."""

import json
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.admin.browser.conftest import Operator
from tests.outside.site import Server

SCRIPT = '#script [{"tool": "current_time", "args": {"timezone": "UTC"}}, {"say": "It is noon."}]'


@pytest.fixture(scope="module")
def talked(server: Server) -> dict[str, Any]:
    """A run with a tool call and its session, and a run that failed."""
    with server.client() as http:
        body = {"model": "scripted", "messages": [{"role": "user", "content": SCRIPT}]}
        done = http.post("chat/completions", json=body).json()
        body["messages"] = [{"role": "user", "content": '#script [{"fail": 400}]'}]
        assert http.post("chat/completions", json=body).status_code >= 400
    found: dict[str, Any] = done["metadata"]
    return found


def agent_of(operator: Operator, slug: str) -> str:
    with operator.server.client() as http:
        return str(http.get(f"agents/{slug}").json()["id"])


def test_an_agent_is_made_changed_compared_and_restored(operator: Operator) -> None:
    page, slug = operator.page, f"trips-{operator.look}"
    operator.open("agents/agent/add/")
    page.fill("[name=name]", "Trip planner")
    page.fill("[name=slug]", slug)
    page.select_option("[name=template]", "simple")
    expect(page.locator("[name=config-max_steps]")).to_have_count(0)
    page.select_option("[name=template]", "conversation")
    page.fill("[name=config-max_steps]", "900")
    page.fill("[name=model]", "scripted/default")
    page.fill("[name=instructions]", "Plan trips.\nBe short and kind, and always ask where the journey begins.")
    operator.shot("agent-form")
    page.click("button[name=_continue]")
    expect(page.get_by_text("Ensure this value is less than or equal to 50.")).to_be_visible()
    page.fill("[name=config-max_steps]", "4")
    page.click("button[name=_continue]")
    expect(page.get_by_text("was added.")).to_be_visible()
    page.fill("[name=instructions]", "Plan trips.\nBe brief and kind, and always ask where the journey begins.")
    page.fill("[name=config-max_steps]", "6")
    page.click("button[name=_continue]")
    expect(page.get_by_text("was saved.")).to_be_visible()
    operator.action("Versions")
    expect(page.get_by_role("heading", name="Version 2 against version 1")).to_be_visible()
    assert page.locator("del").all_inner_texts() == ["short", "4"]
    assert page.locator("ins").all_inner_texts() == ["brief", "6"]
    operator.shot("versions")
    page.get_by_role("link", name="Version 1").click()
    page.get_by_role("button", name="Restore version 1").click()
    expect(page.get_by_text("Version 1 was restored as version 3.")).to_be_visible()
    with operator.server.client() as http:
        agent = http.get(f"agents/{slug}").json()
    assert agent["config"]["max_steps"] == 4
    assert "short and kind" in agent["instructions"]


def test_a_runs_timeline_and_its_transcript(operator: Operator, talked: dict[str, Any]) -> None:
    page = operator.page
    operator.open("")
    expect(page.get_by_text("Running now")).to_be_visible()
    expect(page.locator("#live-cards")).to_be_visible()
    operator.shot("overview")
    page.goto(operator.server.base_url + f"/t/acme/admin/runs/run/?q={talked['run_id']}")
    page.locator("#result_list .field-created_at a").click()
    expect(page.get_by_text("Tool current_time")).to_be_visible()
    expect(page.get_by_text("Model answers")).to_be_visible()
    operator.shot("run")
    page.get_by_role("link", name="transcript").click()
    expect(page.get_by_text("It is noon.", exact=True)).to_be_visible()
    page.get_by_text("calls current_time").click()
    operator.shot("session")


def test_the_tenant_is_switched(desktop: Operator) -> None:
    desktop.open("agents/agent/")
    desktop.page.locator("label", has_text="Tenant").get_by_role("combobox").select_option(label="Globex")
    desktop.page.wait_for_url("**/t/globex/admin/")
    expect(desktop.page.get_by_text("Working in Globex as owner")).to_be_visible()
    desktop.page.goto(desktop.server.base_url)
    desktop.page.wait_for_url("**/t/globex/admin/")


def test_an_agent_is_tried(desktop: Operator) -> None:
    page = desktop.page
    desktop.open(f"agents/agent/{agent_of(desktop, 'scripted')}/try/")
    for message in ("Hello there", "And again"):
        page.get_by_label("Your message").fill(message)
        page.keyboard.press("Enter")
        expect(page.get_by_text(f"You said: {message}")).to_be_visible()
        expect(page.get_by_role("button", name="Stop")).to_be_disabled()  # the answer has ended
    desktop.shot("try")
    page.get_by_role("link", name="Transcript").click()
    expect(page.locator(".said-assistant")).to_have_count(2)


def test_a_provider_is_tested_in_a_dialog(phone: Operator) -> None:
    phone.open("llm/provider/")
    phone.page.locator("#result_list a", has_text="scripted").click()
    phone.action("Test connection")
    phone.page.get_by_role("button", name="Test", exact=True).click()
    expect(phone.page.get_by_text("The provider answers")).to_be_visible()
    phone.shot("provider")


def test_a_model_is_entered_and_corrected(operator: Operator) -> None:
    page, slug = operator.page, f"vendor-{operator.look}"
    with operator.server.client() as http:
        http.post("providers", json={"slug": slug, "kind": "openai", "api_key": "sk-not-a-real-key"})
        for name in ("gpt-4o", "gpt-4.1", "o3"):
            assert http.post(f"providers/{slug}/models", json={"name": name}).status_code == 201
        provider = http.get(f"providers/{slug}").json()["id"]
    operator.open(f"llm/provider/{provider}/change/")
    operator.action("Models")
    expect(page.locator(".badge", has_text="parallel").first).to_be_visible()
    operator.shot("models")
    assert operator.serious() == []
    operator.open(f"llm/providermodel/add/?provider={slug}")
    page.fill("[name=name]", "org/model:7b")
    page.select_option("[name=overrides-vision]", "true")
    page.fill("[name=overrides-context_tokens]", "0")
    page.click("button[name=_continue]")
    expect(page.get_by_text("Ensure this value is greater than or equal to 1.")).to_be_visible()
    page.fill("[name=overrides-context_tokens]", "32000")
    page.click("button[name=_continue]")
    expect(page.get_by_text("was added.")).to_be_visible()
    page.select_option("[name=overrides-tools]", "false")
    operator.shot("model-form")
    assert operator.serious() == []
    page.click("button[name=_continue]")
    expect(page.get_by_text("was saved.")).to_be_visible()
    with operator.server.client() as http:
        model = http.get(f"providers/{slug}/models/org/model:7b").json()
    assert model["overrides"] == {"tools": False, "vision": True, "context_tokens": 32000}


def test_a_key_is_issued_and_shown_once(desktop: Operator) -> None:
    page = desktop.page
    desktop.open("tenants/apikey/add/")
    page.fill("[name=name]", "Website")
    page.get_by_role("button", name="Save", exact=True).click()
    token = page.locator("#token").inner_text()
    assert token.startswith("ask_")
    desktop.shot("token")
    page.get_by_role("link", name="Back to the API keys").click()
    page.locator("#result_list a", has_text="Website").first.click()
    desktop.action("Rotate")
    page.locator("#dialog").get_by_role("button", name="Rotate").click()
    expect(page.locator("#dialog #token")).to_contain_text("ask_")
    assert page.locator("#dialog #token").inner_text() != token


def test_a_faulty_form_starts_at_its_first_fault(desktop: Operator) -> None:
    page = desktop.page
    desktop.open("agents/agent/add/")
    page.select_option("[name=template]", "simple")
    expect(page.locator("#id_template_helptext")).to_contain_text("one call")
    page.select_option("[name=template]", "conversation")
    expect(page.locator("[name=config-max_steps]")).to_be_visible()
    for name, value in (("name", "Web"), ("slug", "web"), ("model", "nope/x"), ("config-max_steps", "999")):
        page.fill(f"[name={name}]", value)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("[name=model]")).to_be_focused()
    expect(page.get_by_text("Please correct the errors below.")).to_be_in_viewport()
    assert page.locator("[aria-invalid=true]").count() == 2


def test_the_palette_by_keyboard(desktop: Operator) -> None:
    page = desktop.page
    desktop.open("")
    page.keyboard.press("Control+k")
    expect(page.locator("#search-input-command")).to_be_focused()
    page.keyboard.type("script", delay=20)
    expect(page.locator("#command-results-list")).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/change/")


def test_menus_open_by_keyboard(desktop: Operator) -> None:
    page = desktop.page
    desktop.open("runs/run/")
    page.get_by_role("button", name="Filters").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Apply Filters")).to_be_visible()
    page.keyboard.press("Escape")
    account = page.locator("[role=button]", has_text="unfold_more")
    account.focus()
    page.keyboard.press(" ")
    expect(page.get_by_text("Log out")).to_be_visible()
    desktop.open("")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()


def test_the_cards_are_refreshed(desktop: Operator) -> None:
    desktop.page.clock.install()
    desktop.open("")
    with desktop.page.expect_response("**/admin/live/") as answered:
        desktop.page.clock.fast_forward(16_000)
    assert answered.value.status == 200
    expect(desktop.page.get_by_text("Running now")).to_be_visible()


def test_swagger_works_under_the_policy(desktop: Operator) -> None:
    desktop.page.goto(desktop.server.base_url + "/v1/docs/")
    expect(desktop.page.get_by_text("/v1/chat/completions").first).to_be_visible(timeout=20_000)


# `*`: looked at by axe in dark and on a phone as well.
PAGES = [
    "*",
    "agents/agent/*",
    "agents/agent/add/",
    "agents/agent/{scripted}/change/*",
    "agents/agent/{scripted}/versions/*",
    "agents/agent/{scripted}/try/",
    "templates/*",
    "templates/conversation/*",
    "templates/conversation/migrate/?agent=scripted*",
    "toolsets/toolset/",
    "toolsets/toolset/add/",
    "toolsets/toolcall/",
    "llm/provider/",
    "llm/provider/add/",
    "llm/endpointhealth/",
    "runs/run/",
    "runs/run/{run_id}/change/*",
    "sessions_app/chatsession/",
    "sessions_app/chatsession/{session_id}/change/*",
    "tenants/membership/",
    "tenants/membership/add/",
    "tenants/apikey/*",
    "tenants/apikey/add/",
    "audit/auditevent/*",
]


def test_a_preset_fills_in_a_provider(desktop: Operator) -> None:
    page = desktop.page
    desktop.open("llm/provider/add/")
    page.select_option("[name=kind]", label="Azure OpenAI")
    expect(page.locator("[name=base_url]")).to_have_value("https://YOUR-RESOURCE.openai.azure.com/openai/v1")
    expect(page.locator("[name=settings-key_header] option:checked")).to_have_text("api-key")
    desktop.shot("provider-preset")
    page.select_option("[name=kind]", label="Anthropic")
    expect(page.locator("[name=base_url]")).to_have_value("")
    expect(page.locator("[name=settings-max_tokens]")).to_have_value("8192")


def test_axe_finds_nothing_serious(operator: Operator, talked: dict[str, Any]) -> None:
    ids = {**talked, "scripted": agent_of(operator, "scripted")}
    chosen = [path for path in PAGES if operator.look == "light" or path.endswith("*")]
    paths = [f"/t/acme/admin/{path.removesuffix('*').format(**ids)}" for path in chosen]
    found: dict[str, list[str]] = {}
    for path in [*paths, "/platform/", "/platform/runs/run/"]:
        operator.page.goto(operator.server.base_url + path)
        operator.shot(path.strip("/").replace("/", "_"))
        if faults := operator.serious():
            found[path] = faults
    assert found == {}, json.dumps(found, indent=1)


def test_axe_with_things_open(desktop: Operator) -> None:
    page = desktop.page
    desktop.open("runs/run/")
    page.get_by_role("button", name="Filters").click()
    expect(page.get_by_role("button", name="Apply Filters")).to_be_visible()
    assert desktop.serious() == []
    desktop.open("tenants/apikey/")
    page.locator("#result_list a").first.click()
    desktop.action("Revoke")
    expect(page.get_by_text("Revoke this key?")).to_be_visible()
    assert desktop.serious() == []
    desktop.open("")
    page.locator("[role=button]", has_text="unfold_more").click()
    expect(page.get_by_text("Log out")).to_be_visible()
    assert desktop.serious() == []


def test_signing_in(operator: Operator) -> None:
    operator.page.context.clear_cookies()
    operator.page.goto(operator.server.base_url)
    operator.shot("login")
    assert operator.serious() == []
    operator.sign_in()
    operator.page.wait_for_url("**/t/acme/admin/")
    expect(operator.page.get_by_text("Working in Acme as owner")).to_be_visible()
