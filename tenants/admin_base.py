"""What the pages of the operators' site share: the permission table, the tenant's rows, and writes through services."""

from collections.abc import Callable
from functools import reduce
from operator import or_
from typing import Any, ClassVar, cast

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from core.admin.lists import NOT_LATELY, PER_PAGE, CappedPaginator
from core.admin.parts import AdminErrorList, AdminForm, ModelAdmin, ShowFacets
from core.admin.schema_form import split_path
from core.errors import ApplicationError
from core.ids import parse_uuid
from tenants.permissions import is_allowed, is_confined
from tenants.principal import Principal


def actor_of(request: HttpRequest) -> Principal:
    """Who asks, in the tenant of the URL; PermissionDenied outside of one."""
    principal = getattr(request, "principal", None)
    if principal is None:
        raise PermissionDenied
    return cast(Principal, principal)


def may(request: HttpRequest, permission: str) -> bool:
    principal = getattr(request, "principal", None)
    return principal is not None and request.user.is_active and is_allowed(principal, permission)


def seen_by(actor: Principal, key: str) -> str:
    """The key under which a page's figures of sessions and runs are kept: all who see the same share one."""
    return f"{key}:{actor.id}" if is_confined(actor) else key


class TenantAdmin(ModelAdmin):
    """`perm` is the noun of the permission table: `<perm>.view` opens pages, `<perm>.edit` everything else.

    People read `heading` over the list and `noun` for one of its rows.
    """

    perm: ClassVar[str]
    heading: ClassVar[str]
    noun: ClassVar[str]
    empty_value_display = "—"
    actions = None
    list_per_page = PER_PAGE
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    list_filter_submit = True
    list_fullwidth = True

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may(request, f"{self.perm}.view")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, f"{self.perm}.view")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may(request, f"{self.perm}.edit")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, f"{self.perm}.edit")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, f"{self.perm}.edit")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = cast("QuerySet[Any]", super().get_queryset(request))
        return rows.filter(tenant_id=actor_of(request).tenant_id)

    def log_addition(self, *args: Any) -> None:
        """Services write the audit event; Django's own log knows no tenant."""

    log_change = log_deletions = log_addition

    def url(self, page: str, *args: Any) -> str:
        name = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_{page}"
        return reverse(name, args=args)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """The object alone: what hangs on it is the service's matter, and may be a hundred thousand rows."""
        return [str(obj) for obj in objs], {self.opts.verbose_name_plural: len(objs)}, set(), []

    def page(self, request: HttpRequest, template: str, obj: Any, **context: Any) -> TemplateResponse:
        """A page of our own about an object, inside the site's frame."""
        request.current_app = self.admin_site.name
        frame = {**self.admin_site.each_context(request), "opts": self.opts, "original": obj, "model_admin": self}
        return TemplateResponse(request, template, {**frame, "media": self.media, **context})

    def get_or_gone(self, request: HttpRequest, object_id: str) -> Any:
        """The tenant's object, or the redirect that tells that there is none."""
        obj = self.get_object(request, unquote(object_id))
        return obj if obj is not None else self._get_obj_does_not_exist_redirect(request, self.opts, object_id)

    def detail_actions(self, request: HttpRequest, object_id: str) -> Any:
        """The buttons of `actions_detail` that this person may press, for a page of our own."""
        allowed = self.get_actions_detail(request, object_id)
        return self._get_actions_navigation(self.actions_detail, allowed, object_id)

    def require(self, request: HttpRequest, permission: str) -> Principal:
        if not may(request, permission):
            raise PermissionDenied
        return actor_of(request)


class EventAdmin(TenantAdmin):
    """An endless, read-only table: newest first, a capped pager, and a page of its own per row."""

    ordering = ("-created_at", "-id")
    empty_note = NOT_LATELY
    sortable_by = ()
    paginator = CappedPaginator
    view_template: ClassVar[str]
    search_ids: ClassVar[tuple[str, ...]] = ()

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        """A whole id, or one of `search_fields` by its lookup, which is exact or a beginning: no search inside text."""
        text = search_term.strip()
        if not text:
            return queryset, False
        conditions = [Q(**{name: text}) for name in self.search_fields]
        if (given := parse_uuid(text)) is not None:
            conditions += [Q(**{name: given}) for name in self.search_ids]
        return (queryset.filter(reduce(or_, conditions)) if conditions else queryset.none()), False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        self.require(request, f"{self.perm}.view")
        obj = self.get_or_gone(request, object_id)
        if isinstance(obj, HttpResponse):
            return obj
        return self.page(request, self.view_template, obj, **self.view_context(request, obj))

    def view_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        return {}


class ServiceForm(forms.Form):
    """A form whose `save` calls a service. `instance` is the object being changed, None for a new one."""

    fieldsets: ClassVar[list[tuple[str | None, list[Any]]] | None] = None

    def __init__(self, *args: Any, actor: Principal, instance: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.actor = actor
        self.instance = instance

    def save(self) -> Model:
        """Raises ApplicationError, which the page shows at the field it names."""
        raise NotImplementedError

    def disable(self) -> None:
        """Show what is, to somebody who may not change it."""
        for field in self.fields.values():
            field.disabled = True

    def sections(self) -> list[tuple[str | None, dict[str, Any]]]:
        shown = self.fieldsets or [(None, list(self.fields))]
        return [(title, {"fields": names}) for title, names in shown]

    def add_service_error(self, error: ApplicationError) -> None:
        faults = error.details or [{"path": error.param or "", "message": error.message}]
        for fault in faults:
            self.add_path_error(split_path(str(fault.get("path", ""))), str(fault["message"]))

    def add_path_error(self, path: list[str], message: str) -> None:
        if path and path[0] in self.fields:
            self.add_error(path[0], message)
        else:
            self.add_error(None, f"{'.'.join(path)}: {message}" if path else message)


class ServiceAdmin(TenantAdmin):
    """Add, change and delete pages that are plain forms before services; no row is saved here."""

    service_form: ClassVar[type[ServiceForm]]
    change_form_template = "operators/service_form.html"
    warn_unsaved_form = True

    def build_form(self, request: HttpRequest, obj: Any) -> ServiceForm:
        data = request.POST if request.method == "POST" else None
        return self.service_form(data, actor=actor_of(request), instance=obj)

    def delete_through(self, request: HttpRequest, obj: Any) -> None:
        raise NotImplementedError

    def after_save(self, request: HttpRequest, form: ServiceForm, saved: Any, add: bool) -> HttpResponse:
        word = "added" if add else "saved"
        messages.success(request, f"The {self.noun} “{saved}” was {word}.")
        if "_addanother" in request.POST:
            return HttpResponseRedirect(self.url("add"))
        if "_continue" in request.POST:
            return HttpResponseRedirect(self.url("change", saved.pk))
        return HttpResponseRedirect(self.url("changelist"))

    def _changeform_view(
        self, request: HttpRequest, object_id: str | None, form_url: str, extra_context: Any
    ) -> HttpResponse:
        obj = None
        if object_id is not None:
            self.require(request, f"{self.perm}.view")
            obj = self.get_or_gone(request, object_id)
            if isinstance(obj, HttpResponse):
                return obj
        editable = self.has_add_permission(request) if obj is None else self.has_change_permission(request, obj)
        if not editable and (obj is None or request.method == "POST"):
            raise PermissionDenied
        form = self.build_form(request, obj)
        if request.method == "POST" and form.is_valid():
            try:
                return self.after_save(request, form, form.save(), add=obj is None)
            except ApplicationError as error:
                form.add_service_error(error)
        if not editable:
            form.disable()
        return self._form_page(request, form, obj, editable, form_url, extra_context)

    def _form_page(
        self, request: HttpRequest, form: ServiceForm, obj: Any, editable: bool, form_url: str, extra: Any
    ) -> HttpResponse:
        adminform = AdminForm(form, form.sections(), {}, model_admin=self)
        verb = "Add" if obj is None else "Change" if editable else "View"
        context = {
            **self.admin_site.each_context(request),
            "title": f"{verb} {self.noun}",
            "subtitle": str(obj) if obj else None,
            "adminform": adminform,
            "object_id": obj.pk if obj else None,
            "original": obj,
            "is_popup": False,
            "to_field": None,
            "media": self.media + adminform.media,
            "inline_admin_formsets": [],
            "errors": AdminErrorList(cast(Any, form), []),
            "preserved_filters": self.get_preserved_filters(request),
            "show_save_and_add_another": False,
            **self.form_context(request, form, obj),
            **(extra or {}),
        }
        add = obj is None
        page = self.render_change_form(request, context, add=add, change=not add, obj=obj, form_url=form_url)
        return cast(HttpResponse, page)

    def form_context(self, request: HttpRequest, form: ServiceForm, obj: Any) -> dict[str, Any]:
        return {}

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.delete_through(request, obj)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        try:
            context = {**(extra_context or {}), "model_admin": self}
            return cast(HttpResponse, super().delete_view(request, object_id, context))
        except ApplicationError as error:
            messages.error(request, error.message)
            return HttpResponseRedirect(self.url("change", unquote(object_id)))


def run_dialog(request: HttpRequest, url: str, work: Callable[[], str]) -> HttpResponse:
    """Do a dialog's work, which returns what to tell, and load `url`; a service's refusal is told there as well."""
    try:
        messages.success(request, work())
    except ApplicationError as error:
        return refuse_dialog(request, url, error)
    return load(url)


def refuse_dialog(request: HttpRequest, url: str, error: ApplicationError) -> HttpResponse:
    messages.error(request, error.message)
    return load(url)


def load(url: str) -> HttpResponse:
    """The answer to a dialog's POST that closes it and loads a page."""
    response = HttpResponse(status=204)
    response["HX-Redirect"] = url
    return response
