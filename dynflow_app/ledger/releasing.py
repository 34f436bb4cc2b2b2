"""Release: steps whose gate has opened become ready. A consequence of what ended, not a decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import Exists, F, Min, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from dynflow_app.messages import EnvelopeKind
from dynflow_app.models import Dependency, Envelope, ExecutionPlan, Gate, Step
from dynflow_app.models.base import in_sql, is_any_of, ledger_connection, now_sql, values_table
from dynflow_app.states import COUNTED_PHASES, FLOW_PHASES, Phase, StepState

_STEP = Step._meta.db_table
_GATE = Gate._meta.db_table
_DEPENDENCY = Dependency._meta.db_table
_PLAN = ExecutionPlan._meta.db_table


@dataclass(slots=True)
class Released:
    """How many steps were made ready."""

    by_plan: Counter[UUID] = field(default_factory=Counter)
    by_queue: Counter[str] = field(default_factory=Counter)
    """Without those that their limit holds back."""
    limits: set[str] = field(default_factory=set)
    """Keys of limits that hold some of them; whoever asked admits them, at the end of its transaction."""


def open_gates(ended_steps: Collection[int], of_plans: Collection[UUID]) -> Released:
    """Count down what waited for `ended_steps` and make ready what waits for nothing more.

    Steps of plans not in `of_plans` (they are not running) stay pending behind their open gate.
    The plans must be locked.
    """
    if not ended_steps:
        return Released()
    opened: list[int] = []
    fresh, awaited = _count_down("step_id", ended_steps)
    while fresh:
        opened += fresh
        fresh, awaited = _count_down("after_gate_id", awaited) if awaited else ([], [])
    return _make_ready(opened, of_plans) if opened else Released()


def release_frontier(plan_ids: Collection[UUID]) -> Released:
    """Make ready every run step of these plans that waits for nothing: to start a plan, or to resume it."""
    connection = ledger_connection()
    plans = [ExecutionPlan._meta.pk.get_db_prep_value(plan_id, connection) for plan_id in plan_ids]
    inside, parameters = is_any_of(connection, "plan_id", plans)
    is_open = f"(gate_id IS NULL OR EXISTS (SELECT 1 FROM {_GATE} WHERE {_GATE}.id = gate_id AND waits_for = 0))"  # noqa: S608 - names are ours
    return _ready(f"{inside} AND {_IN_FLOW} AND {is_open}", parameters)


def adjust_active(delta: Counter[UUID]) -> int:
    """Add `delta` to the plans' numbers of active steps; those that reach zero get an envelope. Returns how many."""
    settled = count_active(delta)
    tell_settled(settled)
    return len(settled)


def tell_settled(plan_ids: Collection[UUID]) -> None:
    """Let the orchestrator decide what comes next for these plans, of which no step is active."""
    if plan_ids:
        Envelope.objects.bulk_create(Envelope(kind=EnvelopeKind.SETTLED.value, plan_id=plan_id) for plan_id in plan_ids)


def release_finalize(plan_ids: Collection[UUID]) -> tuple[Counter[str], set[UUID]]:
    """Make the first finalize step ready of those of these locked, running plans all of whose steps went well: after
    that there is nothing to decide. Returns queue to number of steps, and these plans."""
    of_plan = Step.objects.filter(plan=OuterRef("pk"))
    not_well = of_plan.filter(
        Q(state__in=(StepState.ERROR, StepState.CANCELLED), phase__in=COUNTED_PHASES)
        | Q(state=StepState.PENDING, phase__in=FLOW_PHASES)
    )
    plans = ExecutionPlan.objects.filter(~Exists(not_well), pk__in=plan_ids)
    return make_finalize_ready(plans.values("pk"))


def make_finalize_ready(plans: QuerySet[Any] | Collection[UUID]) -> tuple[Counter[str], set[UUID]]:
    """Make the first finalize step of each of these locked plans ready; returns queue to number of steps, and the plans
    that have one."""
    waiting = Step.objects.filter(plan_id__in=plans, phase=Phase.FINALIZE, state=StepState.PENDING).order_by()
    first = Step.objects.filter(pk__in=waiting.values("plan_id").annotate(first=Min("pk")).values("first"))
    found = list(first.values_list("pk", "plan_id", "queue"))
    if found:
        steps = Step.objects.filter(pk__in=[step_id for step_id, _, _ in found])
        steps.transition([StepState.PENDING], StepState.READY, ready_at=Now())
        ready = ExecutionPlan.objects.filter(pk__in=[plan_id for _, plan_id, _ in found])
        ready.update(active_steps=F("active_steps") + 1)
    return Counter(queue for _, _, queue in found), {plan_id for _, plan_id, _ in found}


def count_active(delta: Counter[UUID]) -> list[UUID]:
    """Add `delta` to the plans' numbers of active steps; returns those that reached zero."""
    if not delta:
        return []
    connection = ledger_connection()
    key = ExecutionPlan._meta.pk
    rows = [(key.get_db_prep_value(plan_id, connection), by) for plan_id, by in delta.items()]
    table, parameters = values_table(connection, {"plan_id": "uuid", "delta": "int"}, rows)
    sql = f"""
        UPDATE {_PLAN} SET active_steps = active_steps + changed.delta, revision = revision + 1
        FROM {table} AS changed WHERE {_PLAN}.id = changed.plan_id
        RETURNING {_PLAN}.id, {_PLAN}.active_steps
    """  # noqa: S608 - names are ours
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return [key.to_python(row[0]) for row in cursor.fetchall() if row[1] == 0]


def _count_down(column: str, ended: Collection[int]) -> tuple[list[int], list[int]]:
    """Returns the gates that opened, and which of them other gates wait for."""
    connection = ledger_connection()
    condition, parameters = is_any_of(connection, column, ended)
    sql = f"""
        UPDATE {_GATE} SET waits_for = waits_for - ended.n
        FROM (
            SELECT gate_id, COUNT(*) AS n FROM {_DEPENDENCY}
            WHERE {column} IS NOT NULL AND {condition} GROUP BY gate_id
        ) AS ended
        WHERE {_GATE}.id = ended.gate_id RETURNING {_GATE}.id, {_GATE}.waits_for, {_GATE}.is_awaited
    """  # noqa: S608 - names are ours
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        opened = [(row[0], row[2]) for row in cursor.fetchall() if row[1] == 0]
    return [gate for gate, _ in opened], [gate for gate, is_awaited in opened if is_awaited]


def _make_ready(gates: Collection[int], of_plans: Collection[UUID]) -> Released:
    connection = ledger_connection()
    plans = [ExecutionPlan._meta.pk.get_db_prep_value(plan_id, connection) for plan_id in of_plans]
    behind, gate_parameters = is_any_of(connection, "gate_id", gates)
    inside, plan_parameters = is_any_of(connection, "plan_id", plans)
    return _ready(f"{behind} AND {inside} AND {_IN_FLOW}", gate_parameters + plan_parameters)


def _ready(condition: str, parameters: list[Any]) -> Released:
    released = Released()
    connection = ledger_connection()
    sql = f"""
        UPDATE {_STEP} SET state = 'ready', ready_at = {now_sql(connection)}, is_held = limit_key IS NOT NULL,
            alarm = CASE WHEN start_timeout IS NULL THEN '' ELSE 'start' END,
            alarm_at = CASE WHEN start_timeout IS NOT NULL THEN {in_sql(connection, "start_timeout")} END
        WHERE {condition} AND state = 'pending' RETURNING plan_id, queue, limit_key
    """  # noqa: S608 - names are ours
    key = ExecutionPlan._meta.pk
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        for plan_id, queue, limit in cursor.fetchall():
            released.by_plan[key.to_python(plan_id)] += 1
            if limit is None:
                released.by_queue[queue] += 1
            else:
                released.limits.add(limit)
    return released


_IN_FLOW = "phase IN ('run', 'revert')"
