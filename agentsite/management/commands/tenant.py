import re
import secrets
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from core.errors import ApplicationError
from core.tenant import tenant_context
from tenants.models import SLUG_PATTERN, Role, User
from tenants.principal import system_principal
from tenants.services import api_key_create, member_add, tenant_create


class Command(BaseCommand):
    help = "Make a tenant with its owner, and print the owner's first password and an API key."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", help="part of its addresses: a-z, 0-9 and '-'")
        parser.add_argument("--name", help="what people see (default: the slug)")
        parser.add_argument("--owner", required=True, help="username; an existing account keeps its password")

    def handle(self, *args: Any, slug: str, name: str | None, owner: str, **options: Any) -> None:
        if not re.fullmatch(SLUG_PATTERN, slug):
            raise CommandError("slug must be 1 to 63 of a-z, 0-9 and '-', beginning with a letter or digit.")
        try:
            self._make(slug, name or slug, owner)
        except ApplicationError as error:
            raise CommandError(error.message) from error

    @transaction.atomic
    def _make(self, slug: str, name: str, owner: str) -> None:
        password = None if User.objects.filter(username=owner).exists() else secrets.token_urlsafe(12)
        tenant = tenant_create(slug=slug, name=name)
        actor = system_principal(tenant.id, slug)
        with tenant_context(tenant.id):
            member_add(actor=actor, username=owner, role=Role.OWNER, password=password)
            _, token = api_key_create(actor=actor, name=f"First key of {owner}", role=Role.OWNER)
        self.stdout.write(f"Admin      /t/{slug}/admin/   user {owner}, password {password or 'unchanged'}")
        self.stdout.write(f"API key    {token}")
