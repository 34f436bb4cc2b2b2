"""Badges: state and result as one thing to read. Glyph, word and tone; never colour alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from dynflow_app.models import ExecutionPlan
from dynflow_app.states import OccurrenceOutcome, PlanResult, PlanState, ScheduleState, StepState, WorldState


@dataclass(frozen=True, slots=True)
class Badge:
    """What is shown of a state."""

    glyph: str
    word: str | Promise
    tone: str
    """Name of a class in the style sheet: bad, run, wait, quiet, warn or good."""

    def __html__(self) -> SafeString:
        """Templates print it as it is."""
        return format_html(
            '<span class="dynflow-badge dynflow-{}"><span aria-hidden="true">{}</span> {}</span>',
            self.tone,
            self.glyph,
            self.word,
        )

    def __str__(self) -> str:
        return self.__html__()


_PLAN: dict[str, Badge] = {
    PlanState.PENDING: Badge("◔", _("Planning"), "quiet"),
    PlanState.PLANNING: Badge("◔", _("Planning"), "quiet"),
    PlanState.SCHEDULED: Badge("◷", _("Scheduled"), "warn"),
    PlanState.PLANNED: Badge("…", _("Waiting"), "wait"),
    PlanState.RUNNING: Badge("▶", _("Running"), "run"),
    PlanState.PAUSED: Badge("‖", _("Paused, needs you"), "bad-filled"),
}
_RUNNING_WITH_ERRORS = Badge("▶!", _("Running with errors"), "run-bad")
_SUSPENDED = Badge("…", _("Waiting"), "wait")
_STOPPED: dict[str, Badge] = {
    PlanResult.SUCCESS: Badge("✓", _("Done"), "good"),
    PlanResult.WARNING: Badge("✓!", _("Done with warnings"), "warn"),
    PlanResult.ERROR: Badge("✕", _("Failed"), "bad"),
    PlanResult.CANCELLED: Badge("⊘", _("Cancelled"), "quiet"),
}
_STEP: dict[str, Badge] = {
    StepState.PENDING: Badge("○", _("Pending"), "quiet"),
    StepState.READY: Badge("◔", _("Ready"), "wait"),
    StepState.RUNNING: Badge("▶", _("Running"), "run"),
    StepState.SUSPENDED: Badge("‖", _("Suspended"), "wait"),
    StepState.SUCCESS: Badge("✓", _("Success"), "good"),
    StepState.SKIPPING: Badge("⇥…", _("Skipping"), "warn"),
    StepState.SKIPPED: Badge("⇥", _("Skipped"), "warn"),
    StepState.ERROR: Badge("✕", _("Error"), "bad"),
    StepState.CANCELLED: Badge("⊘", _("Cancelled"), "quiet"),
}
_WORLD: dict[str, Badge] = {
    WorldState.ACTIVE: Badge("✓", _("Active"), "good"),
    WorldState.INVALIDATED: Badge("✕", _("Declared dead"), "bad"),
}
_SCHEDULE: dict[str, Badge] = {
    ScheduleState.ACTIVE: Badge("↻", _("Active"), "good"),
    ScheduleState.PAUSED: Badge("‖", _("Paused"), "warn"),
    ScheduleState.ENDED: Badge("■", _("Ended"), "quiet"),
}
_OUTCOME: dict[str, Badge] = {
    OccurrenceOutcome.FIRED: Badge("✓", _("Fired"), "good"),
    OccurrenceOutcome.SKIPPED: Badge("⇥", _("Skipped"), "quiet"),
    OccurrenceOutcome.MISSED: Badge("✕", _("Missed"), "warn"),
}
SILENT = Badge("!", _("Silent"), "bad")


def plan_badge(plan: ExecutionPlan, counts: Mapping[str, int]) -> Badge:
    """The badge of a plan whose steps are in these states."""
    if plan.state == PlanState.STOPPED:
        return _STOPPED.get(plan.result) or _unknown(plan.result)
    if plan.state == PlanState.RUNNING:
        return _running(counts)
    return _PLAN.get(plan.state) or _unknown(plan.state)


def step_badge(state: str) -> Badge:
    """The badge of a step."""
    return _STEP.get(state) or _unknown(state)


def world_badge(state: str) -> Badge:
    """The badge of a process."""
    return _WORLD.get(state) or _unknown(state)


def schedule_badge(state: str) -> Badge:
    """The badge of a schedule."""
    return _SCHEDULE.get(state) or _unknown(state)


def outcome_badge(outcome: str) -> Badge:
    """The badge of an occurrence."""
    return _OUTCOME.get(outcome) or _unknown(outcome)


def _running(counts: Mapping[str, int]) -> Badge:
    if counts.get(StepState.ERROR):
        return _RUNNING_WITH_ERRORS
    in_hand = sum(counts.get(state, 0) for state in (StepState.READY, StepState.RUNNING, StepState.SKIPPING))
    if counts.get(StepState.SUSPENDED) and not in_hand:
        return _SUSPENDED
    return _PLAN[PlanState.RUNNING]


def _unknown(state: str) -> Badge:
    return Badge("?", state, "quiet")
