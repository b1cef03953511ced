from django.apps import AppConfig


class LlmConfig(AppConfig):
    name = "llm"
    verbose_name = "Models"

    def ready(self) -> None:
        from core.uses import register_users
        from llm.selectors.routes import routes_of_provider

        register_users("provider", routes_of_provider)
