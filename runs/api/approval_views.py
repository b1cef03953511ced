from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from core.aio import in_db_thread
from core.api import paginate
from core.api_schema import LIST_PARAMETERS, SEARCH, body_errors, errors_of, list_of
from runs import agui, runner, selectors
from runs.api.serializers import ApprovalOutput, RunOutput, approval_json, run_json
from runs.models import ToolApproval
from tenants.api.base import ApiView, AsyncApiView

STATUS = OpenApiParameter("status", OpenApiTypes.STR, enum=ToolApproval.Status.values, description="Only these.")
RUN = OpenApiParameter("run_id", OpenApiTypes.STR, description="Only those of this run.")


class ApprovalsView(ApiView):
    @extend_schema(
        parameters=[*LIST_PARAMETERS, SEARCH, STATUS, RUN],
        responses={200: list_of(ApprovalOutput), **errors_of()},
        operation_id="approvals_list",
        tags=["runs"],
    )
    def get(self, request: Request) -> Response:
        """What runs ask persons about calls of their tools, newest first. `POST /v1/runs/{id}/resume` answers."""
        filters = {name: request.GET.get(name, "") for name in ("status", "run_id", "q")}
        return paginate(request, selectors.approval_list(actor=self.actor, **filters), approval_json)


class ApprovalView(ApiView):
    @extend_schema(responses={200: ApprovalOutput, **errors_of(404)}, operation_id="approvals_get", tags=["runs"])
    def get(self, request: Request, ref: str) -> Response:
        """One approval."""
        return Response(approval_json(selectors.approval_get(actor=self.actor, ref=ref)))


class RunResumeView(AsyncApiView):
    @extend_schema(
        request=agui.Resume,
        responses={200: RunOutput, **body_errors(404, 409)},
        operation_id="runs_resume",
        tags=["runs"],
    )
    async def post(self, request: Request, ref: str) -> Response:
        """Decide about calls of tools that a run waits for: all of these, or none where one cannot be decided.

        Each is decided once, by somebody with the role that the toolset's policy names, until it expires.
        `payload.editedArgs` replaces the call's arguments. The run goes on with the last of them.
        """
        run = await runner.resume(actor=self.actor, ref=ref, decisions=agui.decisions(request.data))
        return Response(await in_db_thread(run_json, run))
