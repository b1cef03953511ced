from typing import Any

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.api import paginate
from core.api_schema import LIST_PARAMETERS, SEARCH, body_errors, errors_of, list_of
from tenants.api.base import ApiView
from usage import selectors
from usage.api import serializers as io
from usage.api.bodies import body_of, json_body
from usage.models import Budget
from usage.outlook import budget_outlook
from usage.services.budgets import budget_create, budget_delete, budget_update
from usage.validation import BudgetChangeable, BudgetFields, checked

SCOPE = OpenApiParameter("scope", str, enum=Budget.Scope.values, description="Only budgets of this scope.")
SUBJECT = OpenApiParameter("subject", str, description="Of whom, for a budget that counts each one for itself.")


def budget_json(budget: Budget) -> Any:
    return io.BudgetOutput(budget).data


class BudgetsView(ApiView):
    @extend_schema(
        parameters=[*LIST_PARAMETERS, SEARCH, SCOPE],
        responses={200: list_of(io.BudgetOutput), **errors_of()},
        operation_id="budgets_list",
        tags=["usage"],
    )
    def get(self, request: Request) -> Response:
        """Budgets with their periods under way, newest first."""
        rows = selectors.budget_list(actor=self.actor, q=request.GET.get("q", ""), scope=request.GET.get("scope", ""))
        rows = selectors.with_current_periods(rows, tenant_id=self.actor.tenant_id)
        return paginate(request, rows, budget_json)

    @extend_schema(
        request=json_body(BudgetFields),
        responses={201: io.BudgetOutput, **body_errors(409)},
        operation_id="budgets_create",
        tags=["usage"],
    )
    def post(self, request: Request) -> Response:
        """A new budget. What was spent in its period already counts."""
        budget = budget_create(actor=self.actor, **checked(BudgetFields, body_of(request)))
        return Response(budget_json(budget), status=201)


class BudgetView(ApiView):
    @extend_schema(responses={200: io.BudgetOutput, **errors_of(404)}, operation_id="budgets_get", tags=["usage"])
    def get(self, request: Request, ref: str) -> Response:
        """One budget, by id or slug."""
        return Response(budget_json(selectors.budget_get(actor=self.actor, ref=ref)))

    @extend_schema(
        request=json_body(BudgetFields),
        responses={200: io.BudgetOutput, **body_errors(404, 409)},
        operation_id="budgets_replace",
        tags=["usage"],
    )
    def put(self, request: Request, ref: str) -> Response:
        """Replace a budget; its scope, subject, unit and period must be what they are."""
        return self._update(ref, checked(BudgetFields, body_of(request)))

    @extend_schema(
        request=json_body(BudgetChangeable, partial=True),
        responses={200: io.BudgetOutput, **body_errors(404, 409)},
        operation_id="budgets_update",
        tags=["usage"],
    )
    def patch(self, request: Request, ref: str) -> Response:
        """Change some fields. Another amount takes effect at once, also for calls under way."""
        return self._update(ref, body_of(request))

    def _update(self, ref: str, changes: dict[str, Any]) -> Response:
        return Response(budget_json(budget_update(actor=self.actor, ref=ref, changes=changes)))

    @extend_schema(
        responses={204: OpenApiResponse(description="Deleted."), **errors_of(404)},
        operation_id="budgets_delete",
        tags=["usage"],
    )
    def delete(self, request: Request, ref: str) -> Response:
        """Delete a budget with its periods; usage records stay."""
        budget_delete(actor=self.actor, ref=ref)
        return Response(status=204)


class BudgetPeriodsView(ApiView):
    @extend_schema(
        parameters=LIST_PARAMETERS,
        responses={200: list_of(io.PeriodOutput), **errors_of(404)},
        operation_id="budgets_periods",
        tags=["usage"],
    )
    def get(self, request: Request, ref: str) -> Response:
        """What was spent of a budget, period by period, the latest first."""
        budget = selectors.budget_get(actor=self.actor, ref=ref)
        rows = selectors.period_list(actor=self.actor, budget=budget)
        context = {"amount": budget.amount}
        return paginate(request, rows, lambda period: io.PeriodOutput(period, context=context).data)


class BudgetForecastView(ApiView):
    @extend_schema(
        parameters=[SUBJECT],
        responses={200: io.OutlookOutput, **errors_of(404)},
        operation_id="budgets_forecast",
        tags=["usage"],
    )
    def get(self, request: Request, ref: str) -> Response:
        """What will be spent in this month (UTC), by the weekdays and the level of the last 8 weeks."""
        budget = selectors.budget_get(actor=self.actor, ref=ref)
        outlook = budget_outlook(actor=self.actor, budget=budget, subject=request.GET.get("subject", ""))
        return Response(io.OutlookOutput(outlook).data)
