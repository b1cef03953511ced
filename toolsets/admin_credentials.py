"""Whose credentials are stored for toolsets that act for persons; they are never shown, and can be taken away."""

from typing import Any

from django.http import HttpRequest

from core.admin.parts import display
from tenants.admin_base import EventAdmin, actor_of, may
from toolsets.credentials import credential_remove
from toolsets.models import ToolsetCredential


class ToolsetCredentialAdmin(EventAdmin):
    perm = "toolset"
    heading, noun = "Personal credentials", "personal credential"
    view_template = "operators/toolset_credential.html"
    ordering = ("-updated_at", "-id")
    list_display = ("whose", "toolset", "names", "updated_at")
    list_select_related = ("toolset", "member__user")
    search_fields = ("person",)
    search_help_text = "Whose they are: user:… or end_user:…, in full"

    @display(description="Person", header=True)
    def whose(self, credential: ToolsetCredential) -> list[str]:
        return [credential.member.user.username if credential.member else "end user", credential.person]

    @display(description="Secrets")
    def names(self, credential: ToolsetCredential) -> str:
        return ", ".join(credential.secret_names)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, "toolset.edit")

    def delete_model(self, request: HttpRequest, obj: ToolsetCredential) -> None:
        credential_remove(actor=actor_of(request), credential_id=obj.id)

    def view_context(self, request: HttpRequest, obj: ToolsetCredential) -> dict[str, Any]:
        may_delete = self.has_delete_permission(request, obj)
        title = f"Credentials of {obj.person}"
        return {"title": title, "credential": obj, "delete_url": self.url("delete", obj.pk) if may_delete else ""}
