"""Schedules and their occurrences, to look at."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import django_filters as filters
from django.http import Http404
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from dynflow_app import control
from dynflow_app.actions.middleware import presented
from dynflow_app.api.filters import names as names_of
from dynflow_app.api.filters import narrowed
from dynflow_app.api.pagination import PARAMETERS, Keyset
from dynflow_app.api.permissions import CanViewSchedules
from dynflow_app.api.serializers import Linked, utc
from dynflow_app.api.views import ReadOnlyView
from dynflow_app.models import Occurrence, Schedule
from dynflow_app.reading import rest
from dynflow_app.states import OccurrenceOutcome, ScheduleState

SHOWN_COMING = 10

if TYPE_CHECKING:
    ScheduleBase = serializers.ModelSerializer[Schedule]
    OccurrenceBase = serializers.ModelSerializer[Occurrence]
else:
    ScheduleBase = OccurrenceBase = serializers.ModelSerializer


class ScheduleSerializer(Linked, ScheduleBase):
    """A schedule. Distances are seconds."""

    href = serializers.SerializerMethodField()
    every = serializers.SerializerMethodField()
    window = serializers.SerializerMethodField()
    jitter = serializers.SerializerMethodField()
    starts_at = utc()
    ends_at = utc()
    due_at = utc()
    next_at = utc()
    links = serializers.SerializerMethodField()

    class Meta:
        model = Schedule
        fields: tuple[str, ...] = (
            "id", "href", "label", "action", "is_declared", "state", "changed_by", "reason", "every", "cron",
            "time_zone", "overlap", "missed", "window", "jitter", "starts_at", "ends_at", "limit", "purpose", "due_at",
            "next_at", "fired", "links",
        )  # fmt: skip

    def get_href(self, schedule: Schedule) -> str:
        return self.link("schedule", schedule.pk)

    def get_links(self, schedule: Schedule) -> dict[str, str]:
        return {"occurrences": self.link("occurrences", schedule.pk)}

    def get_every(self, schedule: Schedule) -> float | None:
        return _seconds(schedule.every)

    def get_window(self, schedule: Schedule) -> float | None:
        return _seconds(schedule.window)

    def get_jitter(self, schedule: Schedule) -> float | None:
        return _seconds(schedule.jitter)


class ScheduleDetailSerializer(ScheduleSerializer):
    """A schedule by itself, with its input and its next due times."""

    input = serializers.SerializerMethodField()
    coming = serializers.SerializerMethodField()

    class Meta(ScheduleSerializer.Meta):
        fields = (*ScheduleSerializer.Meta.fields, "input", "coming")

    def get_input(self, schedule: Schedule) -> Any:
        return presented(schedule.action, schedule.input)

    def get_coming(self, schedule: Schedule) -> list[str]:
        times = control.preview(schedule, SHOWN_COMING)
        return [moment.astimezone(UTC).isoformat().replace("+00:00", "Z") for moment in times]


class OccurrenceSerializer(Linked, OccurrenceBase):
    """What became of one due time."""

    due_at = utc()
    decided_at = utc()
    plan = serializers.SerializerMethodField()

    class Meta:
        model = Occurrence
        fields = ("due_at", "outcome", "reason", "plan", "decided_at")

    def get_plan(self, occurrence: Occurrence) -> str | None:
        return None if occurrence.plan_id is None else self.link("plan", occurrence.plan_id)


class ScheduleFilter(filters.FilterSet):  # type: ignore[misc]  # untyped library
    """Schedules."""

    state = filters.MultipleChoiceFilter(choices=ScheduleState.choices)
    action = filters.CharFilter()
    is_declared = filters.BooleanFilter()

    class Meta:
        model = Schedule
        fields: tuple[str, ...] = ()


class OccurrenceFilter(filters.FilterSet):  # type: ignore[misc]  # untyped library
    """Occurrences of one schedule."""

    outcome = filters.MultipleChoiceFilter(choices=OccurrenceOutcome.choices)
    due_after = filters.IsoDateTimeFilter(field_name="due_at", lookup_expr="gte")
    due_before = filters.IsoDateTimeFilter(field_name="due_at", lookup_expr="lt")

    class Meta:
        model = Occurrence
        fields: tuple[str, ...] = ()


class ScheduleView(ReadOnlyView):
    """For those who may look at schedules."""

    permission_classes = (IsAuthenticated, CanViewSchedules)


class ScheduleList(ScheduleView):
    """Schedules, newest first."""

    parameters = PARAMETERS | names_of(ScheduleFilter)
    keyset = Keyset(("id",), descending=True)

    def get(self, request: Request) -> Response:
        """One page."""
        page = self.keyset.page(request, narrowed(ScheduleFilter, request, Schedule.objects.all()))
        rows = ScheduleSerializer(page.rows, many=True, context=self.serializer_context()).data
        version = rest.digest([rows, page.next, page.previous])
        return self.with_links(self.answer(f"schedules-{version}", lambda: self.page_body(page, rows)), page)


class ScheduleDetail(ScheduleView):
    """One schedule."""

    def get(self, request: Request, schedule_id: int) -> Response:
        """Policies, state, input and what comes."""
        schedule = Schedule.objects.filter(pk=schedule_id).first()
        if schedule is None:
            raise Http404
        body = ScheduleDetailSerializer(schedule, context=self.serializer_context()).data
        return self.answer(f"schedule-{rest.digest(body)}", lambda: body)


class OccurrenceList(ScheduleView):
    """Occurrences of a schedule, the latest first."""

    parameters = PARAMETERS | names_of(OccurrenceFilter)
    keyset = Keyset(("due_at",), descending=True)

    def get(self, request: Request, schedule_id: int) -> Response:
        """One page."""
        if not Schedule.objects.filter(pk=schedule_id).exists():
            raise Http404
        rows = Occurrence.objects.filter(schedule_id=schedule_id)
        page = self.keyset.page(request, narrowed(OccurrenceFilter, request, rows))
        found = OccurrenceSerializer(page.rows, many=True, context=self.serializer_context()).data
        version = rest.digest([found, page.next, page.previous])
        return self.with_links(self.answer(f"occurrences-{version}", lambda: self.page_body(page, found)), page)


def _seconds(length: timedelta | None) -> float | None:
    return None if length is None else length.total_seconds()
