from django.apps import AppConfig


class AgentsConfig(AppConfig):
    name = "agents"
    verbose_name = "Agents"

    def ready(self) -> None:
        from agents import selectors
        from core.uses import register_users
        from toolsets.registry import add_package

        add_package("agents.tools")
        register_users("provider", selectors.agents_of_provider)
        register_users("route", selectors.agents_of_route)
        register_users("provider", selectors.readers_of_provider)
        register_users("route", selectors.readers_of_route)
        register_users("toolset", selectors.agents_of_toolset)
