from django.apps import AppConfig


class AgentsiteConfig(AppConfig):
    name = "agentsite"

    def ready(self) -> None:
        import agentsite.checks  # noqa: F401 registers them
        from agentsite.vendors import vendor_of  # models may be imported only now
        from usage.vendors import set_vendors

        set_vendors(vendor_of)
