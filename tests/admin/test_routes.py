"""Routes and further keys in the pages: forms by strategy, the preview, the report, and secrets that stay inside."""

from typing import Any

import pytest
from django.test import Client

from audit.models import AuditEvent
from core.tenant import tenant_context
from llm.models import Provider, ProviderKey, Route
from llm.selectors.routes import target_spec
from llm.services.providers import provider_create
from tenants.models import Tenant
from tenants.principal import system_principal
from tests.admin.conftest import page, post, text_of
from tests.conftest import Actor
from tests.llm.test_route_report import record

ADD = "llm/route/add/"
SECRET = "sk-further-secret-4321"


@pytest.fixture(autouse=True)
def providers(acme: Tenant) -> dict[str, Provider]:
    system = system_principal(acme.id, acme.slug)
    with tenant_context(acme.id):
        main = provider_create(
            actor=system, slug="main", kind="openai", base_url="http://127.0.0.1:9/v1", api_key="sk-main-0000000"
        )
        return {"main": main, "robot": provider_create(actor=system, slug="robot", kind="scripted")}


def form(strategy: str, *targets: dict[str, Any], **fields: Any) -> dict[str, Any]:
    posted = {"slug": "best", "strategy": strategy, "plan-of": strategy, "is_active": "on", **fields}
    posted["plan-targets-count"] = len(targets)
    for index, target in enumerate(targets):
        values = {"enabled": "on", **target}
        posted |= {f"plan-targets-{index}-{name}": value for name, value in values.items() if value}
    return posted


@pytest.fixture
def route(olga: Client, acme: Tenant) -> Route:
    response = post(olga, ADD, form("fallback", {"model": "robot/default"}, {"model": "main/gpt"}))
    assert response.status_code == 302, text_of(response)
    with tenant_context(acme.id):
        return Route.objects.get(slug="best")


def specs(route: Route) -> list[dict[str, Any]]:
    with tenant_context(route.tenant_id):
        return [target_spec(target) for target in route.targets.select_related("provider").order_by("position")]


def test_a_route_is_added_and_changed(olga: Client, acme: Tenant, route: Route) -> None:
    assert [spec["model"] for spec in specs(route)] == ["robot/default", "main/gpt"]
    path = f"llm/route/{route.id}/change/"
    content = text_of(page(olga, path))
    assert 'name="plan-targets-0-model" value="robot/default"' in content
    assert "plan-targets-0-weight" not in content
    content = text_of(page(olga, path, strategy="weighted"))  # another strategy is looked at: the targets stay
    assert 'name="plan-targets-1-model" value="main/gpt"' in content
    assert "plan-targets-0-weight" in content
    changed = form(
        "weighted",
        {"model": "main/gpt", "weight": "3"},
        {"model": "robot/default", "weight": "1", "enabled": ""},
        name="Best",
        continues="on",
    )
    assert post(olga, path, changed).status_code == 302
    assert [(spec["model"], spec["weight"], spec["enabled"]) for spec in specs(route)] == [
        ("main/gpt", 3, True),
        ("robot/default", 1, False),
    ]
    with tenant_context(acme.id):
        stored = Route.objects.get(id=route.id)
        assert (stored.strategy, stored.name, stored.continues) == ("weighted", "Best", True)
        actions = AuditEvent.objects.filter(action__startswith="route.").values_list("action", flat=True)
        assert sorted(actions) == ["route.create", "route.update"]


def test_a_row_is_removed(olga: Client, route: Route) -> None:
    posted = form("fallback", {"model": "robot/default"}, {"model": "main/gpt"})
    posted["plan-targets-0-removed"] = "1"
    assert post(olga, f"llm/route/{route.id}/change/", posted).status_code == 302
    assert [spec["model"] for spec in specs(route)] == ["main/gpt"]


def test_rows_are_stored_in_the_order_of_the_page(olga: Client, route: Route) -> None:
    path = f"llm/route/{route.id}/change/"
    content = text_of(page(olga, path))
    assert content.count('name="plan-targets-order"') == 4  # the list's own, two rows, and the blank one
    assert 'class="schema-row-title">Target</p>' in content
    posted = form("fallback", {"model": "robot/default"}, {"model": "main/gpt"}, {"model": "main/other"})
    order = ["", "plan-targets-2", "plan-targets-0"]  # the second one was removed on a page before
    assert post(olga, path, {**posted, "plan-targets-order": order}).status_code == 302
    assert [spec["model"] for spec in specs(route)] == ["main/other", "robot/default"]
    refused = text_of(post(olga, path, {**posted, "plan-targets-order": [""]}))
    assert "A route has 1 to 20 targets." in refused


def test_faults_stand_at_their_fields(olga: Client, acme: Tenant) -> None:
    response = post(
        olga,
        ADD,
        form("by_rule", {"model": "nobody/x", "rule": "colour == 'red'"}, {"model": "main/gpt", "rule": "tools >"}),
    )
    content = text_of(response)
    assert response.status_code == 200
    assert "There is no provider &#x27;nobody&#x27;." in content
    assert "The name &#x27;colour&#x27; is not known at line 1, column 1." in content
    assert "there is a fault at line 1, column 8" in content
    response = post(olga, ADD, form("lowest_cost", {"model": "main/gpt"}, **{"plan-settings-output_tokens": "0"}))
    assert "greater than or equal to 1" in text_of(response)
    assert "A route has 1 to 20 targets." in text_of(post(olga, ADD, form("fallback")))
    assert "is listed twice" in text_of(post(olga, ADD, form("fallback", {"model": "main/x"}, {"model": "main/x"})))
    with tenant_context(acme.id):
        assert not Route.objects.exists()


def test_an_ab_test_begins_with_two_variants(olga: Client, acme: Tenant) -> None:
    content = text_of(page(olga, ADD, strategy="ab_test"))
    assert 'name="plan-targets-0-variant" value="A"' in content
    assert 'name="plan-targets-1-variant" value="B"' in content
    assert '<option value="robot/default">' in content
    targets = [{"model": "main/gpt", "variant": "A", "weight": "9"}, {"model": "robot/default", "variant": "B"}]
    posted = form("ab_test", *targets, **{"plan-settings-salt": "spring"})
    assert post(olga, ADD, posted).status_code == 302
    with tenant_context(acme.id):
        assert Route.objects.get(slug="best").settings == {"salt": "spring"}


def test_the_preview_says_where_and_why(olga: Client, vera: Client, stan: Client, route: Route) -> None:
    path = f"llm/route/{route.id}/preview/"
    assert "Tried in this order" not in text_of(page(vera, path))
    asked = {"message": "Hello", "tools": "2", "images": "1"}
    for person in (olga, vera):
        content = text_of(post(person, path, asked))
        assert "Tried in this order" in content
        assert "fallback: number 2 of 2" in content
    assert "required" in text_of(post(olga, path, {"tools": "0", "images": "0"}))
    assert "This must be a JSON object" in text_of(post(olga, path, {**asked, "metadata": "[1]"}))
    assert post(stan, path, asked).status_code == 404
    assert post(stan, path, asked, tenant="globex").status_code == 302  # to the list, which says that there is none


def test_the_preview_of_rules(olga: Client, acme: Tenant) -> None:
    rules = ({"model": "main/gpt", "rule": "metadata.tier == 'gold'"}, {"model": "robot/default", "rule": "tools > 0"})
    assert post(olga, ADD, form("by_rule", *rules)).status_code == 302
    with tenant_context(acme.id):
        path = f"llm/route/{Route.objects.get(slug='best').id}/preview/"
    asked = {"message": "Hello", "tools": "0", "images": "0"}
    content = text_of(post(olga, path, {**asked, "metadata": '{"tier": "gold"}'}))
    assert "by rule: metadata.tier == &#x27;gold&#x27;" in content
    assert "&quot;tier&quot;: &quot;gold&quot;" in content
    assert content.index('name="message"') < content.index("Tried in this order")
    assert "its rule is not met" in content
    content = text_of(post(olga, path, asked))
    assert "callers would get the error route_empty" in content


def test_a_target_is_previewed_once_with_its_keys(olga: Client, owner: Actor, route: Route) -> None:
    assert owner.post("providers/main/keys", {"label": "eu", "api_key": SECRET}).status_code == 201
    content = text_of(post(olga, f"llm/route/{route.id}/preview/", {"message": "Hello", "tools": "0", "images": "0"}))
    assert content.count("<strong>main/gpt</strong>") == 1
    for key in ("main", "eu"):
        assert f"fallback: number 2 of 2, key {key}" in content


def test_the_report(olga: Client, vera: Client, owner: Actor, route: Route) -> None:
    path = f"llm/route/{route.id}/report/"
    assert "No call went by this route in the last 7 days." in text_of(page(olga, path))
    record(owner.tenant, variant="A")
    record(owner.tenant, variant="A", days=20, error_code="provider_error", first_token_ms=None)
    content = text_of(page(vera, path))
    assert "robot/default" in content
    assert "0.0 %" in content
    content = text_of(page(olga, path, days="30"))
    assert "50.0 %" in content
    assert '<option value="30" selected>' in content
    assert '<option value="7" selected>' in text_of(page(olga, path, days="9999"))


def test_a_viewer_changes_nothing(vera: Client, stan: Client, route: Route) -> None:
    path = f"llm/route/{route.id}/change/"
    content = text_of(page(vera, path))
    assert 'name="plan-targets-0-model"' in content
    assert post(vera, path, form("fallback", {"model": "main/gpt"})).status_code == 403
    assert post(vera, f"llm/route/{route.id}/delete/", {"post": "yes"}).status_code == 403
    assert post(stan, path, form("fallback", {"model": "main/gpt"}), tenant="globex").status_code == 302
    assert len(specs(route)) == 2


def test_a_route_in_use_is_not_deleted(olga: Client, owner: Actor, acme: Tenant, route: Route) -> None:
    body = {"slug": "helper", "name": "Helper", "template": "simple", "model": "route/best"}
    assert owner.post("agents", body).status_code == 201
    path = f"llm/route/{route.id}/delete/"
    response = post(olga, path, {"post": "yes"})
    assert "in use by the agent helper" in text_of(olga.get(response["Location"]))
    assert owner.delete("agents/helper").status_code == 204
    assert post(olga, path, {"post": "yes"}).status_code == 302
    with tenant_context(acme.id):
        assert not Route.objects.exists()


def test_lists_take_few_queries(olga: Client, owner: Actor, django_assert_max_num_queries: Any) -> None:
    for number in range(10):
        body = {"slug": f"r-{number}", "strategy": "fallback", "targets": [{"model": "main/gpt"}]}
        assert owner.post("routes", body).status_code == 201
        key = {"label": f"key-{number}", "api_key": SECRET}
        assert owner.post("providers/main/keys", key).status_code == 201
    page(olga, "llm/route/")
    with django_assert_max_num_queries(10):
        assert "route/r-9" in text_of(page(olga, "llm/route/"))
    with django_assert_max_num_queries(10):
        assert "key-9" in text_of(page(olga, "llm/providerkey/"))


def test_search_finds_routes_of_the_tenant_only(olga: Client, route: Route) -> None:
    assert "best" in text_of(page(olga, "search/", s="bes", extended="1"))
    assert "best" not in text_of(page(olga, "search/", tenant="globex", s="bes", extended="1"))


# --- further keys


def test_a_key_is_added_from_its_provider(
    olga: Client, vera: Client, acme: Tenant, providers: dict[str, Provider]
) -> None:
    main = providers["main"]
    response = page(olga, f"llm/provider/{main.id}/keys/")
    assert response["Location"].endswith(f"/t/acme/admin/llm/providerkey/?provider__id__exact={main.id}")
    content = text_of(olga.get(response["Location"]))
    assert "_changelist_filters=provider__id__exact" in content
    content = text_of(page(olga, "llm/providerkey/add/", _changelist_filters=f"provider__id__exact={main.id}"))
    assert f'<option value="{main.id}" selected>main</option>' in content
    assert f'<option value="{providers["robot"].id}"' not in content  # its kind takes no keys
    posted = {"provider": str(main.id), "label": "eu", "api_key": SECRET, "rpm": "60", "enabled": "on"}
    response = post(olga, "llm/providerkey/add/", posted)
    assert response["Location"].endswith(f"provider__id__exact={main.id}")
    with tenant_context(acme.id):
        key = ProviderKey.objects.get(label="eu")
    assert (key.rpm, key.tpm, key.secret_last4, key.enabled) == (60, None, "4321", True)
    path = f"llm/providerkey/{key.id}/change/"
    for person in (olga, vera):
        for shown in (path, "llm/providerkey/", "search/?s=eu&extended=1"):
            assert SECRET not in text_of(page(person, shown))
    assert "ends in …4321; type to replace" in text_of(page(olga, path))
    assert post(olga, path, {"label": "us", "tpm": "90000"}).status_code == 302
    with tenant_context(acme.id):
        key.refresh_from_db()
    assert (key.label, key.rpm, key.tpm, key.secret_last4, key.enabled) == ("us", None, 90000, "4321", False)
    assert post(vera, path, {"label": "mine"}).status_code == 403
    assert post(olga, f"llm/providerkey/{key.id}/delete/", {"post": "yes"}).status_code == 302
    with tenant_context(acme.id):
        assert not ProviderKey.objects.exists()


def test_faults_of_a_key_stand_at_their_fields(olga: Client, providers: dict[str, Provider]) -> None:
    posted = {"provider": str(providers["main"].id), "label": "eu", "api_key": "two words", "rpm": "0"}
    content = text_of(post(olga, "llm/providerkey/add/", posted))
    assert "greater than or equal to 1" in content
    assert "two words" not in content
    posted["rpm"] = ""
    assert "printable ASCII without blanks" in text_of(post(olga, "llm/providerkey/add/", posted))
