"""Schedules in the admin: made and changed here, unless code declares them; paused, resumed and run by anybody who may
change them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import F, OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from dynflow_app import control
from dynflow_app.actions.middleware import presented
from dynflow_app.admin import formats
from dynflow_app.admin.badges import outcome_badge, plan_badge, schedule_badge
from dynflow_app.admin.base import PlainAdmin
from dynflow_app.admin.schedule_form import ScheduleForm
from dynflow_app.exceptions import WrongStateError
from dynflow_app.models import ExecutionPlan, Occurrence, Schedule

SHOWN_COMING = 10
SHOWN_OCCURRENCES = 50


@admin.register(Schedule)
class ScheduleAdmin(PlainAdmin):
    """Schedules; a page per schedule with what comes and what was."""

    form = ScheduleForm
    list_display = ("state_badge", "schedule", "words", "last", "next_run", "fired", "origin")
    list_display_links = ("schedule",)
    list_filter = ("state", "is_declared")
    list_per_page = 50
    ordering = ("id",)
    search_fields = ("label", "action")
    actions = ("pause", "resume", "run_now", "skip_next")
    show_full_result_count = False
    empty_value_display = formats.EMPTY
    readonly_fields = ("state_badge", "reason_text", "coming", "history")
    fieldsets = (
        (None, {"fields": ("state_badge", "reason_text", "coming")}),
        (_("What"), {"fields": ("label", "action", "input", "purpose")}),
        (_("When"), {"fields": ("every", "cron", "time_zone", "starts_at", "ends_at", "limit", "jitter")}),
        (_("Policies"), {"fields": ("overlap", "missed", "window")}),
        (_("Occurrences"), {"fields": ("history",)}),
    )

    class Media:
        css = {"all": ["dynflow_app/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """With outcome and plan of the last occurrence."""
        last = Occurrence.objects.filter(schedule=OuterRef("pk")).order_by("-due_at")
        rows: QuerySet[Any] = super().get_queryset(request)
        shown: QuerySet[Any] = rows.annotate(
            last_outcome=Subquery(last.values("outcome")[:1]), last_plan=Subquery(last.values("plan")[:1])
        )
        return shown

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """What code declares is changed in code."""
        if obj is None or not obj.is_declared:
            return self.readonly_fields
        declared = [name for name in ScheduleForm.Meta.fields if name != "input"]
        return (*self.readonly_fields, *declared, "masked_input")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Secrets are not shown, nor what a new schedule does not have yet."""
        if obj is None:
            return self.fieldsets[1:-1]
        if self.has_change_permission(request, obj) and not obj.is_declared:
            return self.fieldsets
        shown = []
        for title, options in self.fieldsets:
            fields = tuple("masked_input" if name == "input" else name for name in options["fields"])
            shown.append((title, {"fields": fields}))
        return tuple(shown)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """One at a time, and not what code declares, which would come back."""
        return obj is not None and not obj.is_declared and super().has_delete_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save it and find its next occurrence."""
        if obj.is_declared:
            return
        try:
            control.save_schedule(obj, by=request.user)
        except WrongStateError as error:  # its purpose was taken in between
            self.message_user(request, str(error), messages.ERROR)
        except ValidationError as error:
            self.message_user(request, "; ".join(error.messages), messages.ERROR)

    # --- verbs -----------------------------------------------------------------------------------------------

    @admin.action(description=_("Pause"), permissions=["change"])
    def pause(self, request: HttpRequest, chosen: QuerySet[Any]) -> None:
        """Let nothing be due until they are resumed."""
        self._apply(request, chosen, control.pause_schedule, _t("%d paused"))

    @admin.action(description=_("Resume"), permissions=["change"])
    def resume(self, request: HttpRequest, chosen: QuerySet[Any]) -> None:
        """Let them go on with the next due time."""
        self._apply(request, chosen, control.resume_schedule, _t("%d resumed"))

    @admin.action(description=_("Run now"), permissions=["change"])
    def run_now(self, request: HttpRequest, chosen: QuerySet[Any]) -> None:
        """Make a plan of each."""
        self._apply(request, chosen, control.run_now, _t("%d run now"))

    @admin.action(description=_("Skip the next occurrence"), permissions=["change"])
    def skip_next(self, request: HttpRequest, chosen: QuerySet[Any]) -> None:
        """Skip the coming occurrence of each."""
        self._apply(request, chosen, control.skip_next, _t("%d occurrences skipped"))

    def _apply(self, request: HttpRequest, chosen: QuerySet[Any], verb: Callable[..., object], done: str) -> None:
        report = control.in_bulk(verb, Schedule.objects.filter(pk__in=chosen.values("pk")), by=request.user)
        if report.done:
            self.message_user(request, done % len(report.done), messages.SUCCESS)
        for key, why in {**report.skipped, **report.failed}.items():
            self.message_user(request, f"{key}: {why}", messages.WARNING)

    # --- columns ---------------------------------------------------------------------------------------------

    @admin.display(description=_("state"), ordering="state")
    def state_badge(self, schedule: Schedule) -> str:
        """Active, paused or ended."""
        return schedule_badge(schedule.state).__html__()

    @admin.display(description=_("schedule"))
    def schedule(self, schedule: Schedule) -> str:
        """What people call it, and under that how programs call it."""
        name = schedule.label or formats.sentence(schedule.action)
        return format_html('{}<span class="dynflow-second">{}</span>', name, schedule.action)

    @admin.display(description=_("due"))
    def words(self, schedule: Schedule) -> str:
        """The times."""
        return str(schedule.timing)

    @admin.display(description=_("last"))
    def last(self, schedule: Any) -> str:
        """What became of the last due time."""
        if schedule.last_outcome is None:
            return formats.EMPTY
        badge = outcome_badge(schedule.last_outcome).__html__()
        if schedule.last_plan is None:
            return badge
        return format_html('<a href="{}">{}</a>', _plan_url(schedule.last_plan), badge)

    @admin.display(description=_("next run"), ordering="next_at")
    def next_run(self, schedule: Schedule) -> str:
        """How soon."""
        return formats.moment(schedule.next_at)

    @admin.display(description=_("origin"))
    def origin(self, schedule: Schedule) -> str:
        """Who says when it is due."""
        return _t("code") if schedule.is_declared else _t("admin")

    @admin.display(description=_("reason"))
    def reason_text(self, schedule: Schedule) -> str:
        """Who changed it last, and why."""
        return ": ".join(filter(None, (schedule.changed_by, schedule.reason))) or formats.EMPTY

    @admin.display(description=_("input"))
    def masked_input(self, schedule: Schedule) -> SafeString:
        """The arguments, without secrets."""
        return format_html("<pre>{}</pre>", formats.pretty(presented(schedule.action, schedule.input)))

    @admin.display(description=_("comes"))
    def coming(self, schedule: Schedule) -> str:
        """The next due times, by the clocks of its zone."""
        times = control.preview(schedule, SHOWN_COMING)
        lines = format_html_join("", "<div>{}</div>", ((f"{moment:%a %Y-%m-%d %H:%M:%S %Z}",) for moment in times))
        return lines or formats.EMPTY

    @admin.display(description=_("was"))
    def history(self, schedule: Schedule) -> str:
        """The latest occurrences."""
        shown = schedule.occurrences.order_by(F("due_at").desc()).select_related("plan")[:SHOWN_OCCURRENCES]
        lines = format_html_join("", "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>", map(_line, shown))
        return format_html("<table>{}</table>", lines) if lines else formats.EMPTY


def _line(occurrence: Occurrence) -> tuple[str, str, str, str]:
    plan = occurrence.plan
    shown = "" if plan is None else format_html('<a href="{}">{}</a>', _plan_url(plan.pk), _badge_of(plan))
    badge = outcome_badge(occurrence.outcome).__html__()
    return formats.moment(occurrence.due_at), badge, shown, occurrence.reason


def _badge_of(plan: ExecutionPlan) -> str:
    return plan_badge(plan, {}).__html__()


def _plan_url(key: Any) -> str:
    return reverse("admin:dynflow_app_executionplan_change", args=[key])
