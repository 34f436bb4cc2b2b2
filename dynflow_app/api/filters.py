"""What lists can be narrowed by."""

from __future__ import annotations

from typing import Any

import django_filters as filters
from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django_filters.utils import translate_validation
from rest_framework.request import Request

from dynflow_app.models import ExecutionPlan, Step
from dynflow_app.states import Phase, PlanResult, PlanState, StepState

MAX_IDS = 200


class _Ids(filters.BaseInFilter, filters.UUIDFilter):  # type: ignore[misc]  # untyped library
    """Ids, separated by commas."""


class PlanFilterForm(forms.Form):
    """What is checked beyond single values."""

    def clean_id__in(self) -> Any:
        """Longer lists make statements that no database likes."""
        ids = self.cleaned_data["id__in"]
        if ids and len(ids) > MAX_IDS:
            raise ValidationError(f"At most {MAX_IDS} ids.", code="max_length")
        return ids


class PlanFilter(filters.FilterSet):  # type: ignore[misc]  # untyped library
    """Plans. A parameter given twice, where values are from a list, means either."""

    state = filters.MultipleChoiceFilter(choices=PlanState.choices)
    result = filters.MultipleChoiceFilter(choices=PlanResult.choices)
    action = filters.CharFilter()
    label = filters.CharFilter(lookup_expr="istartswith", label="beginning of the label")
    parent = filters.UUIDFilter(field_name="parent_step__plan_id")
    created_after = filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    created_before = filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt")
    started_after = filters.IsoDateTimeFilter(field_name="started_at", lookup_expr="gte")
    started_before = filters.IsoDateTimeFilter(field_name="started_at", lookup_expr="lt")
    ended_after = filters.IsoDateTimeFilter(field_name="ended_at", lookup_expr="gte")
    ended_before = filters.IsoDateTimeFilter(field_name="ended_at", lookup_expr="lt")
    id__in = _Ids(field_name="id", lookup_expr="in")

    class Meta:
        model = ExecutionPlan
        form = PlanFilterForm
        fields: tuple[str, ...] = ()


class StepFilter(filters.FilterSet):  # type: ignore[misc]  # untyped library
    """Steps of one plan."""

    state = filters.MultipleChoiceFilter(choices=StepState.choices)
    phase = filters.MultipleChoiceFilter(choices=[choice for choice in Phase.choices if choice[0] != Phase.PLAN])
    queue = filters.CharFilter()

    class Meta:
        model = Step
        fields: tuple[str, ...] = ()


def narrowed(filter_class: type[Any], request: Request, rows: QuerySet[Any]) -> QuerySet[Any]:
    """The rows that the request asks for. Raises DRF's `ValidationError`."""
    given = filter_class(request.query_params, queryset=rows)
    if not given.is_valid():
        raise translate_validation(given.errors)
    found: QuerySet[Any] = given.qs
    return found


def names(filter_class: type[Any]) -> frozenset[str]:
    """The parameters it understands."""
    return frozenset(filter_class.base_filters)
