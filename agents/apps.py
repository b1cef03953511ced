from django.apps import AppConfig


class AgentsConfig(AppConfig):
    name = "agents"
    verbose_name = "Agents"

    def ready(self) -> None:
        from agents.selectors import agents_of_provider, agents_of_route, readers_of_provider, readers_of_route
        from core.uses import register_users
        from toolsets.registry import add_package

        add_package("agents.tools")
        register_users("provider", agents_of_provider)
        register_users("route", agents_of_route)
        register_users("provider", readers_of_provider)
        register_users("route", readers_of_route)
