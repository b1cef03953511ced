"""What a model is known not to take is refused before a provider is asked and before anything is written."""

from typing import Any

import pytest

from audit.models import AuditEvent
from llm.capabilities import forget_models
from llm.models import ProviderModel
from runs.models import IdempotencyKey, Run
from tenants.models import Tenant
from tests.conftest import Actor

pytestmark = pytest.mark.django_db

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("part", "lacking"),
    [
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "vision"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "audio"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "documents"),
        ({"tools": [TOOL]}, "tools"),
        ({"response_format": SCHEMA}, "json_schema"),
    ],
)
@pytest.mark.parametrize("name", ["scripted/default", "helper"])
async def test_a_request_is_refused_before_anything_is_written(
    owner: Actor, scripted: str, in_acme: Tenant, part: dict[str, Any], lacking: str, name: str
) -> None:
    """For a bare model and for an agent on it; and answered once the tenant says that the model can."""
    body = {"model": name, "messages": [{"role": "user", "content": "Hello"}], **part}
    headers = {**owner.headers, "Idempotency-Key": "once"}
    models = ProviderModel.objects.filter(name="default")
    await models.aupdate(overrides={lacking: False})
    refused = await owner.ahttp.post("/v1/chat/completions", body, "application/json", headers=headers)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "unsupported_by_model")
    assert error["param"].split(".")[0] in part
    assert not await Run.objects.aexists()
    assert not await IdempotencyKey.objects.aexists()
    assert not await AuditEvent.objects.filter(action="run.create").aexists()
    await models.aupdate(overrides={lacking: True})
    forget_models(owner.tenant.id, "scripted")
    answered = await owner.ahttp.post("/v1/chat/completions", body, "application/json", headers=headers)
    assert answered.status_code == 200, answered.content
