from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from llm.catalog.page import matrix_page

PAGE = settings.BASE_DIR / "docs" / "models.md"


class Command(BaseCommand):
    help = "Write docs/models.md from the shipped catalog of models."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="write nothing; fail when the page is stale")

    def handle(self, *args: Any, check: bool, **options: Any) -> None:
        page = matrix_page()
        if not check:
            PAGE.write_text(page)
        elif not PAGE.exists() or PAGE.read_text() != page:
            raise CommandError("docs/models.md is stale: run manage.py model_matrix.")
