"""Rules for lists of endless tables: no count, a last page, and a time range instead of more pages."""

from datetime import timedelta
from typing import Any, cast

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property

from core.admin.parts import DropdownFilter

PER_PAGE = 50
LAST_PAGE = 20
NOT_LATELY = "Nothing in the last 7 days, which is what this list shows until its time filter says otherwise."


def whole_number(text: str) -> int:
    """A number that somebody put into an address or form; 0 for anything else, and for what no column holds."""
    return int(text) if text.isdecimal() and len(text) < 9 else 0


class CappedPaginator(Paginator):
    """Counts no further than the last page, so that a list costs the same with a thousand rows and with a billion."""

    template_name = "unfold/helpers/pagination_capped.html"

    @cached_property
    def count(self) -> int:
        return cast(QuerySet[Any], self.object_list).order_by().values("pk")[: self.limit + 1].count()

    @property
    def limit(self) -> int:
        return LAST_PAGE * self.per_page

    @property
    def is_capped(self) -> bool:
        return self.count > self.limit

    @property
    def num_pages(self) -> int:
        return min(super().num_pages, LAST_PAGE)


class SinceFilter(DropdownFilter):
    """When it was created; the last seven days unless somebody asks for more."""

    title = "time"
    parameter_name = "since"
    all_option = ("", "Last 7 days")
    spans = {
        "1h": ("Last hour", timedelta(hours=1)),
        "24h": ("Last 24 hours", timedelta(hours=24)),
        "30d": ("Last 30 days", timedelta(days=30)),
        "all": ("Any time", None),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(key, label) for key, (label, _) in self.spans.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        _, span = self.spans.get(self.value() or "", ("", timedelta(days=7)))
        return queryset if span is None else queryset.filter(created_at__gte=timezone.now() - span)
