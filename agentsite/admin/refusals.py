"""The page that an operator gets instead of what was asked for."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from agentsite.admin.sites import operator_site

HEADINGS = {400: "The request was refused", 403: "Not permitted", 404: "Nothing is here", 500: "The server failed"}
PAGES = ("/t/", "/admin/", "/platform/")


def is_page(request: HttpRequest) -> bool:
    return request.path.startswith(PAGES)


def refusal(request: HttpRequest, status: int, reason: str) -> HttpResponse:
    """`reason` for people; it says no more of a foreign tenant than of one that does not exist."""
    context = {**operator_site.each_context(request), "heading": HEADINGS[status], "reason": reason}
    return render(request, "operators/refused.html", context, status=status)
