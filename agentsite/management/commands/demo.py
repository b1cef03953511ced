from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from agentsite import demo


class Command(BaseCommand):
    help = "Make the demo tenants, providers, agents and keys that are missing, and write demo.json."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--base-url", default=settings.BASE_URL, help="where the server answers")
        parser.add_argument("--no-local-model", action="store_true", help="without the local model's provider")

    def handle(self, *args: Any, base_url: str, no_local_model: bool, **options: Any) -> None:
        demo.prepare(base_url, local_model=not no_local_model)
