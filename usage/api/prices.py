from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.api import paginate, validated
from core.api_schema import LIST_PARAMETERS, body_errors, errors_of, list_of
from tenants.api.base import ApiView
from usage import selectors
from usage.api import serializers as io
from usage.api.bodies import body_of, json_body
from usage.quotes import price_quote
from usage.services.prices import price_create, price_delete
from usage.validation import PriceFields, checked

PROVIDER = OpenApiParameter("provider", str, description="A provider's slug.")
MODEL = OpenApiParameter("model", str, description="A model's name, as the provider knows it.")


class PricesView(ApiView):
    @extend_schema(
        parameters=[*LIST_PARAMETERS, PROVIDER, MODEL],
        responses={200: list_of(io.PriceOutput), **errors_of()},
        operation_id="prices_list",
        tags=["usage"],
    )
    def get(self, request: Request) -> Response:
        """The tenant's own prices and mark-ups, newest first."""
        provider, model = request.GET.get("provider", ""), request.GET.get("model", "")
        rows = selectors.price_list(actor=self.actor, provider=provider, model=model)
        return paginate(request, rows, lambda price: io.PriceOutput(price).data)

    @extend_schema(
        request=json_body(PriceFields),
        responses={201: io.PriceOutput, **body_errors(409)},
        operation_id="prices_create",
        tags=["usage"],
    )
    def post(self, request: Request) -> Response:
        """A price of a model, of all whose names begin alike (`gpt-4o*`), or of all (`*`); what is recorded stays."""
        price = price_create(actor=self.actor, **checked(PriceFields, body_of(request)))
        return Response(io.PriceOutput(price).data, status=201)


class PriceView(ApiView):
    @extend_schema(responses={200: io.PriceOutput, **errors_of(404)}, operation_id="prices_get", tags=["usage"])
    def get(self, request: Request, ref: str) -> Response:
        """One price, by id."""
        return Response(io.PriceOutput(selectors.price_get(actor=self.actor, ref=ref)).data)

    @extend_schema(
        responses={204: OpenApiResponse(description="Deleted."), **errors_of(404)},
        operation_id="prices_delete",
        tags=["usage"],
    )
    def delete(self, request: Request, ref: str) -> Response:
        """Delete a price; the one before it, or the list price, is in force again."""
        price_delete(actor=self.actor, ref=ref)
        return Response(status=204)


class PriceQuoteView(ApiView):
    @extend_schema(
        parameters=[
            OpenApiParameter(PROVIDER.name, str, required=True, description=PROVIDER.description),
            OpenApiParameter(MODEL.name, str, required=True, description=MODEL.description),
        ],
        responses={200: io.QuoteOutput, **errors_of()},
        operation_id="prices_quote",
        tags=["usage"],
    )
    def get(self, request: Request) -> Response:
        """What a model costs now, and why: the tenant's own price, or the list price of the provider's vendor."""
        asked = validated(io.QuoteParameters, request.GET.dict())
        return Response(io.QuoteOutput(price_quote(actor=self.actor, **asked)).data)
