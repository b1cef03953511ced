"""The one import of unfold and of Django's admin, so that a change of either is a change of this file."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from django.contrib.admin import AdminSite, ShowFacets, SimpleListFilter
from django.contrib.admin.helpers import AdminErrorList
from django.contrib.admin.options import IS_POPUP_VAR
from unfold import decorators
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import (
    AutocompleteSelectFilter,
    DropdownFilter,
    MultipleChoicesDropdownFilter,
    RangeDateTimeFilter,
    TextFilter,
)
from unfold.dataclasses import SearchResult
from unfold.enums import ActionVariant
from unfold.forms import AdminForm, AuthenticationForm, BaseDialogForm
from unfold.sites import UnfoldAdminSite
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminEmailInputWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

F = TypeVar("F", bound=Callable[..., Any])


def display(**options: Any) -> Callable[[F], F]:
    """unfold's `display`, with types: a column's header, label colours and so on."""
    return cast("Callable[[F], F]", decorators.display(**options))


def action(**options: Any) -> Callable[[F], F]:
    """unfold's `action`, with types. One that changes something needs `dialog`: without it, it runs on GET."""
    return cast("Callable[[F], F]", decorators.action(**options))


__all__ = [
    "IS_POPUP_VAR",
    "ActionVariant",
    "AdminErrorList",
    "AdminForm",
    "AdminSite",
    "AuthenticationForm",
    "AutocompleteSelectFilter",
    "BaseDialogForm",
    "DropdownFilter",
    "ModelAdmin",
    "MultipleChoicesDropdownFilter",
    "RangeDateTimeFilter",
    "SearchResult",
    "ShowFacets",
    "SimpleListFilter",
    "TextFilter",
    "UnfoldAdminCheckboxSelectMultipleWidget",
    "UnfoldAdminDecimalFieldWidget",
    "UnfoldAdminEmailInputWidget",
    "UnfoldAdminIntegerFieldWidget",
    "UnfoldAdminPasswordWidget",
    "UnfoldAdminSelectWidget",
    "UnfoldAdminSite",
    "UnfoldAdminSplitDateTimeWidget",
    "UnfoldAdminTextInputWidget",
    "UnfoldAdminTextareaWidget",
    "UnfoldBooleanSwitchWidget",
    "action",
    "display",
]
