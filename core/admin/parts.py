"""The one import of unfold and of Django's admin, so that a change of either is a change of this file."""

from django.contrib.admin import AdminSite, ShowFacets, SimpleListFilter
from django.contrib.admin.helpers import AdminErrorList
from django.contrib.admin.options import IS_POPUP_VAR
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import (
    AutocompleteSelectFilter,
    DropdownFilter,
    MultipleChoicesDropdownFilter,
    RangeDateTimeFilter,
    TextFilter,
)
from unfold.dataclasses import SearchResult
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import AdminForm, BaseDialogForm
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

__all__ = [
    "IS_POPUP_VAR",
    "ActionVariant",
    "AdminErrorList",
    "AdminForm",
    "AdminSite",
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
