from django.apps import AppConfig


class AgentsConfig(AppConfig):
    name = "agents"
    verbose_name = "Agents"

    def ready(self) -> None:
        from agents.selectors import agents_of_provider, agents_of_route
        from core.uses import register_users

        register_users("provider", agents_of_provider)
        register_users("route", agents_of_route)
