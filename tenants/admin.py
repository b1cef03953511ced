"""Who may enter a tenant: members and API keys."""

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from core.admin.parts import (
    ActionVariant,
    BaseDialogForm,
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminEmailInputWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextInputWidget,
    action,
    display,
)
from core.errors import ApplicationError
from tenants.admin_base import ServiceAdmin, ServiceForm, actor_of, refuse_dialog, run_dialog
from tenants.models import ApiKey, Membership, Role
from tenants.permissions import SCOPES, outranks
from tenants.principal import Principal
from tenants.services import (
    api_key_create,
    api_key_revoke,
    api_key_rotate,
    member_add,
    member_remove,
    member_update,
)

ROLE_LABELS = {"owner": "primary", "admin": "info", "operator": "info", "member": "success", "viewer": "default"}
KEY_LABELS = {"active": "success", "expired": "warning", "revoked": "danger"}
OVERLAPS = [
    ("0", "None: the old key stops at once"),
    ("3600", "One hour"),
    ("86400", "One day"),
    ("604800", "One week"),
]


def role_choices(actor: Principal, *also: str) -> list[tuple[str, str]]:
    """The roles that the actor may hand out, and those that are there already."""
    return [(str(value), str(label)) for value, label in Role.choices if outranks(actor, [value]) or value in also]


class MemberForm(ServiceForm):
    username = forms.CharField(
        max_length=150,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
        help_text="Somebody who has an account keeps their own password.",
    )
    email = forms.EmailField(required=False, widget=UnfoldAdminEmailInputWidget())
    password = forms.CharField(
        required=False,
        strip=False,
        widget=UnfoldAdminPasswordWidget(render_value=False, attrs={"autocomplete": "new-password"}),
        help_text="The first password of a new account, at least 10 characters.",
    )
    role = forms.ChoiceField(widget=UnfoldAdminSelectWidget(), initial=Role.MEMBER)
    status = forms.ChoiceField(choices=Membership.Status.choices, widget=UnfoldAdminSelectWidget())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        member = self.instance
        for name in ("email", "password", "username") if member else ("status",):
            del self.fields[name]
        role: Any = self.fields["role"]
        role.choices = role_choices(self.actor, *([member.role] if member else []))
        if member:
            self.initial = {"role": member.role, "status": member.status}

    def save(self) -> Membership:
        found = self.cleaned_data
        if self.instance:
            return member_update(
                actor=self.actor, ref=str(self.instance.id), role=found["role"], status=found["status"]
            )
        password = found["password"] or None
        return member_add(
            actor=self.actor, username=found["username"], email=found["email"], role=found["role"], password=password
        )


class MemberAdmin(ServiceAdmin):
    perm = "member"
    heading, noun = "Members", "member"
    service_form = MemberForm
    list_display = ("person", "role_label", "state", "created_at")
    list_select_related = ("user",)
    search_fields = ("user__username__startswith", "user__email__startswith")
    search_help_text = "The beginning of a username or e-mail address"
    sortable_by = ()

    @display(description="Person", header=True)
    def person(self, member: Membership) -> list[str]:
        return [member.user.username, member.user.email, member.user.username[:2]]

    @display(description="Role", label=ROLE_LABELS)
    def role_label(self, member: Membership) -> tuple[str, str]:
        return member.role, member.get_role_display()

    @display(description="Status", label={"active": "success", "suspended": "danger"})
    def state(self, member: Membership) -> tuple[str, str]:
        return member.status, member.get_status_display()

    def delete_through(self, request: HttpRequest, obj: Membership) -> None:
        member_remove(actor=actor_of(request), ref=str(obj.id))


class ApiKeyForm(ServiceForm):
    name = forms.CharField(max_length=120, widget=UnfoldAdminTextInputWidget(), help_text="Where it will be used.")
    role = forms.ChoiceField(widget=UnfoldAdminSelectWidget(), initial=Role.MEMBER)
    scopes = forms.MultipleChoiceField(
        required=False,
        choices=[(scope, scope) for scope in SCOPES],
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text="None ticked means all that the role may do.",
    )
    expires_at = forms.SplitDateTimeField(
        required=False, label="Expires", widget=UnfoldAdminSplitDateTimeWidget(), help_text="UTC; empty means never."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        role: Any = self.fields["role"]
        role.choices = role_choices(self.actor)
        self.token = ""

    def clean_expires_at(self) -> Any:
        end = self.cleaned_data["expires_at"]
        if end and end <= timezone.now():
            raise forms.ValidationError("This time has passed.")
        return end

    def save(self) -> ApiKey:
        key, self.token = api_key_create(actor=self.actor, **self.cleaned_data)
        return key


class RotateForm(BaseDialogForm):
    overlap_seconds = forms.ChoiceField(
        label="How long both keys work", choices=OVERLAPS, initial="3600", widget=UnfoldAdminSelectWidget()
    )


def state_of(key: ApiKey) -> str:
    if key.revoked_at:
        return "revoked"
    return "expired" if key.expires_at and key.expires_at <= timezone.now() else "active"


class ApiKeyAdmin(ServiceAdmin):
    """Keys are made, rotated and revoked; nothing else about a key changes."""

    perm = "api_key"
    heading, noun = "API keys", "API key"
    service_form = ApiKeyForm
    list_display = ("title", "role_label", "scope_list", "state", "last_used_at", "expires_at", "created_by")
    search_fields = ("name__startswith", "prefix__exact")
    search_help_text = "The beginning of a name, or a prefix"
    sortable_by = ()
    actions_detail = ("rotate", "revoke")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_rotate_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self.has_add_permission(request)

    @display(description="Key", header=True)
    def title(self, key: ApiKey) -> list[str]:
        return [key.name, f"ask_{key.prefix}_…"]

    @display(description="Role", label=ROLE_LABELS)
    def role_label(self, key: ApiKey) -> tuple[str, str]:
        return key.role, key.get_role_display()

    @display(description="Scopes")
    def scope_list(self, key: ApiKey) -> str:
        return ", ".join(key.scopes) or "all"

    @display(description="State", label=KEY_LABELS)
    def state(self, key: ApiKey) -> str:
        return state_of(key)

    def _changeform_view(
        self, request: HttpRequest, object_id: str | None, form_url: str, extra_context: Any
    ) -> HttpResponse:
        if object_id is None or request.method == "POST":
            return super()._changeform_view(request, object_id, form_url, extra_context)
        self.require(request, f"{self.perm}.view")
        key = self.get_or_gone(request, object_id)
        return key if isinstance(key, HttpResponse) else self._facts(request, key)

    def _facts(self, request: HttpRequest, key: ApiKey) -> TemplateResponse:
        """Actions are offered while they can work."""
        state = state_of(key)
        context = {
            "title": "API key",
            "key": key,
            "state": state,
            "state_variant": KEY_LABELS[state],
            "scopes": self.scope_list(key),
            "usable": state == "active",
            "actions_detail": self.detail_actions(request, str(key.pk)) if state == "active" else [],
        }
        return self.page(request, "operators/api_key.html", key, **context)

    def after_save(self, request: HttpRequest, form: Any, saved: Any, add: bool) -> HttpResponse:
        return self._token_page(request, saved, form.token)

    def _token_page(self, request: HttpRequest, key: ApiKey, token: str) -> TemplateResponse:
        """Shown once, by the answer to the POST itself: the token is stored nowhere, not even in a session."""
        response = self.page(request, "operators/token.html", key, token=token, title="Copy the key now", below=True)
        response["Cache-Control"] = "no-store"
        return response

    @action(
        description="Rotate",
        icon="autorenew",
        permissions=["rotate"],
        dialog={
            "title": "Rotate this key",
            "description": "A new key with the same rights is made and shown once.",
            "form_class": RotateForm,
            "form_submit_text": "Rotate",
        },
    )
    def rotate(self, request: HttpRequest, form: RotateForm, object_id: str) -> HttpResponse:
        overlap = int(form.cleaned_data["overlap_seconds"])
        try:
            key, token = api_key_rotate(actor=actor_of(request), ref=object_id, overlap_seconds=overlap)
        except ApplicationError as error:
            return refuse_dialog(request, self.url("change", object_id), error)
        url = self.url("change", key.pk)
        response = TemplateResponse(request, "operators/token_dialog.html", {"token": token, "url": url})
        response["Cache-Control"] = "no-store"
        response["HX-Retarget"], response["HX-Reselect"] = "#modal-content", "#dialog"
        response["HX-Reswap"] = "innerHTML"
        return response

    @action(
        description="Revoke",
        icon="block",
        variant=ActionVariant.DANGER,
        permissions=["rotate"],
        dialog={
            "title": "Revoke this key?",
            "description": "It is refused everywhere within five seconds, for good.",
            "form_class": BaseDialogForm,
            "form_submit_text": "Revoke",
        },
    )
    def revoke(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        def work() -> str:
            return f"The key “{api_key_revoke(actor=actor_of(request), ref=object_id)}” was revoked."

        return run_dialog(request, self.url("change", object_id), work)
