from django.apps import AppConfig


class ToolsetsConfig(AppConfig):
    name = "toolsets"
    verbose_name = "Toolsets"
