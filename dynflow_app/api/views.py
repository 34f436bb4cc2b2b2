"""The views: read-only, made for polling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.http import Http404
from django.utils.http import parse_etags
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from dynflow_app.api import filters, problems
from dynflow_app.api.pagination import PARAMETERS, Keyset, Page
from dynflow_app.api.permissions import CanViewPlans
from dynflow_app.api.serializers import (
    FindingSerializer,
    PlanDetailSerializer,
    PlanSerializer,
    StepDetailSerializer,
    StepSerializer,
    poll_after,
)
from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.reading import rest
from dynflow_app.reading.explaining import explain


class ReadOnlyView(APIView):
    """Authentication, throttling and renderers are the project's; the rest is ours."""

    permission_classes: tuple[type[BasePermission], ...] = (IsAuthenticated, CanViewPlans)
    http_method_names = ["get", "head"]
    parameters: frozenset[str] = frozenset()
    """Query parameters it understands."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse parameters that are not known: a mistyped filter would return everything."""
        super().initial(request, *args, **kwargs)
        known = self.parameters | {self.settings.URL_FORMAT_OVERRIDE}
        unknown = sorted(set(request.query_params) - known)
        if request.method in ("GET", "HEAD") and unknown:
            raise problems.InvalidInput(dict.fromkeys(unknown, "Unknown parameter."), code="unknown")

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        """Problem details, for these views only."""
        return problems.handle

    def answer(self, version: str, body: Callable[[], Any], wait: int | None = None) -> Response:
        """200 with the body, or 304 without making it if the client has this version."""
        etag = f'W/"{version}"'
        headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
        if wait is not None:
            headers["Retry-After"] = str(wait)
        given = parse_etags(self.request.headers.get("If-None-Match", ""))
        if given == ["*"] or etag in (item if item.startswith("W/") else f"W/{item}" for item in given):
            return Response(status=304, headers=headers)
        return Response(body(), headers=headers)

    def page_body(self, page: Page, results: Any) -> dict[str, Any]:
        """A page and the addresses of those around it."""
        return {"next": self._at(page.next), "previous": self._at(page.previous), "results": results}

    def with_links(self, response: Response, page: Page) -> Response:
        """The same addresses as a header."""
        links = {"next": self._at(page.next), "prev": self._at(page.previous)}
        header = ", ".join(f'<{address}>; rel="{name}"' for name, address in links.items() if address)
        if header:
            response["Link"] = header
        return response

    def serializer_context(self, **more: Any) -> dict[str, Any]:
        """What serializers need."""
        return {"request": self.request, **more}

    def _at(self, cursor: str | None) -> str | None:
        if cursor is None:
            return None
        query = self.request.query_params.copy()
        query["cursor"] = cursor
        return f"{self.request.path}?{query.urlencode()}"


class PlanList(ReadOnlyView):
    """Plans, newest first."""

    parameters = PARAMETERS | filters.names(filters.PlanFilter)
    keyset = Keyset(("created_at", "id"), descending=True)

    def get(self, request: Request) -> Response:
        """One page."""
        page = self.keyset.page(request, filters.narrowed(filters.PlanFilter, request, rest.plans()))
        counts = rest.counts_of([plan.pk for plan in page.rows])

        def body() -> dict[str, Any]:
            context = self.serializer_context(counts=counts)
            return self.page_body(page, PlanSerializer(page.rows, many=True, context=context).data)

        versions = [(str(plan.pk), counts[plan.pk].version(plan.revision)) for plan in page.rows]
        version = rest.digest([versions, page.next, page.previous])
        return self.with_links(self.answer(f"plans-{version}", body), page)


class PlanDetail(ReadOnlyView):
    """One plan."""

    def get(self, request: Request, plan_id: str) -> Response:
        """State, result, progress, and when to ask again."""
        plan = rest.plans().filter(pk=_uuid(plan_id)).first()
        if plan is None:
            raise Http404
        counts = rest.counts_of([plan.pk])
        locks = rest.locks_of(plan)
        states = rest.digest([lock.state for lock in locks]) if locks else ""
        version = f"{plan.pk}-{counts[plan.pk].version(plan.revision)}{states}"
        context = self.serializer_context(counts=counts, locks=locks)
        wait = poll_after(plan.state, plan.created_at)
        return self.answer(version, lambda: PlanDetailSerializer(plan, context=context).data, wait)


class PlanExplanation(ReadOnlyView):
    """Why one plan does not move."""

    def get(self, request: Request, plan_id: str) -> Response:
        """The reason first; an empty list if it has stopped or simply goes on. Asks Redis, too: it has no version."""
        plan = ExecutionPlan.objects.filter(pk=_uuid(plan_id)).only("pk").first()
        if plan is None:
            raise Http404
        reasons: Any = explain(plan)  # the stubs do not know many=True
        return Response({"reasons": FindingSerializer(reasons, many=True).data}, headers={"Cache-Control": "no-store"})


class StepList(ReadOnlyView):
    """Steps of a plan, by number."""

    parameters = PARAMETERS | filters.names(filters.StepFilter)
    keyset = Keyset(("number",))

    def get(self, request: Request, plan_id: str) -> Response:
        """One page. A client that has it already costs one query."""
        plan = rest.head_of(_uuid(plan_id))
        if plan is None:
            raise Http404
        rows = filters.narrowed(filters.StepFilter, request, rest.steps().filter(plan_id=plan.id))
        page: Page | None = None

        def body() -> dict[str, Any]:
            nonlocal page
            page = self.keyset.page(request, rows)
            return self.page_body(page, StepSerializer(page.rows, many=True, context=self.serializer_context()).data)

        response = self.answer(f"{plan.id}-{plan.version}", body, poll_after(plan.state, plan.created_at))
        return response if page is None else self.with_links(response, page)


class StepDetail(ReadOnlyView):
    """One step, with input, output, attempts and the end of its log."""

    def get(self, request: Request, plan_id: str, number: str) -> Response:
        """Everything about it."""
        step: Any = rest.step(_uuid(plan_id), _number(number))  # with annotations
        if step is None:
            raise Http404
        version = f"{step.pk}-{step.plan.revision}-{step.state}-{step.attempt}-{step.newest_chunk}"
        return self.answer(version, lambda: self._body(step), poll_after(step.plan.state, step.plan.created_at))

    def _body(self, step: Step) -> Any:
        context = self.serializer_context(attempts=rest.attempts_of(step), chunks=rest.chunks_of(step))
        return StepDetailSerializer(step, context=context).data


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Http404 from None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Http404
    return int(text)
