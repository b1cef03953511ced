"""The source of a template with two versions that live at once, in one package; and agents of the older one."""

from typing import Any

from tests.conftest import Actor

ECHO = """
from templates_app.base import AgentTemplate, TemplateConfig
from templates_app.events import Answer
from templates_app.exceptions import ConfigNotMigrated
from templates_app.requirements import Requirements


class Echo:
    slug, title = "echo", "Echo"

    async def run(self, context):
        yield Answer({"role": "assistant", "content": self.version}, "stop")


class Config1(TemplateConfig):
    mood: str = "dry"
    times: int = 1


class Echo1(Echo, AgentTemplate):
    version = "1.0.0"
    deprecated = "It knows moods only; use 2.0.0."
    Config = Config1


class Echo11(Echo, AgentTemplate):
    version = "1.1.0"
    Config = Config1


class Config2(TemplateConfig):
    tone: str
    times: int = 1


class Echo2(Echo, AgentTemplate):
    version = "2.0.0"
    Config = Config2

    @classmethod
    def migrate_config(cls, from_version, config):
        if config.get("mood") == "furious":
            raise ConfigNotMigrated("No tone is furious: choose another mood first.")
        if config.get("mood") == "broken":
            return 1 / 0
        config["tone"] = config.pop("mood", "dry")
        return config


class Echo3(Echo, AgentTemplate):
    version = "3.0.0"
    Config = Config2
"""


def agent_of(actor: Actor, slug: str, config: dict[str, Any], version: str = "1.0.0", **more: Any) -> None:
    body = {"slug": slug, "name": slug, "template": "echo", "template_version": version, "model": "scripted/default"}
    made = actor.post("agents", {**body, "config": config, **more})
    assert made.status_code == 201, made.content


def migrated(actor: Actor, **body: Any) -> dict[str, Any]:
    answered = actor.post("templates/echo/migrations", body)
    assert answered.status_code == 200, answered.content
    found: dict[str, Any] = answered.json()
    return found
