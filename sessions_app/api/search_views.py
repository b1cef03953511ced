from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api import envelope, id_cursor, page_limit
from core.api_schema import LIST_PARAMETERS, errors_of, list_of
from sessions_app.models import Message
from sessions_app.selectors.search import LONGEST, Hit, message_search
from tenants.api.base import ApiView


class FoundSession(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="session_id")
    external_id = serializers.CharField(allow_null=True)
    title = serializers.CharField()


class SearchHitOutput(serializers.Serializer[Hit]):
    session = FoundSession(source="*")
    message_id = serializers.UUIDField()
    seq = serializers.IntegerField()
    role = serializers.ChoiceField(Message.Role.choices)
    snippet = serializers.CharField(help_text="A piece of the message, as plain text in one line.")
    hits = serializers.ListField(
        child=serializers.ListField(child=serializers.IntegerField(), min_length=2, max_length=2),
        help_text="Where the snippet has what was sought: `[start, end]` in Unicode characters, `end` not included.",
    )
    created_at = serializers.DateTimeField()


class SearchView(ApiView):
    @extend_schema(
        parameters=[
            *LIST_PARAMETERS,
            OpenApiParameter(
                "q",
                {"type": "string", "maxLength": LONGEST},
                required=True,
                description='Words, of the last one a beginning; `"a phrase"`, `or`, `-without`.',
            ),
        ],
        responses={200: list_of(SearchHitOutput), **errors_of()},
        operation_id="search",
        tags=["chat"],
    )
    def get(self, request: Request) -> Response:
        """The messages that have all these words, newest first, of the sessions that you may see.

        `q` has at most 16 words. A page may have fewer hits than `limit`, or none, while `has_more` is true: a phrase
        is looked for in a bounded number of messages at once. Of a message its first 50,000 characters are searched.
        """
        limit, before = page_limit(request), id_cursor(request)
        page = message_search(actor=self.actor, q=request.GET.get("q", ""), before=before, limit=limit)
        return envelope([SearchHitOutput(hit).data for hit in page.hits], page.before)
