"""Inserting: new plans with their actions, gates, steps and tickets; any number of them at once.

On PostgreSQL a small plan is one statement, and everything else is copied in; elsewhere Django's bulk inserts do it.
The columns are those of the models, so none can be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db.models import Model
from django.db.models.functions import Now

from dynflow_app.ledger import copy_in, small_plan
from dynflow_app.ledger.rows import PlanRows, StepRow
from dynflow_app.models import Action, Dependency, Gate, ResourceLink, Step, Ticket
from dynflow_app.models.base import is_postgresql, ledger_connection
from dynflow_app.states import StepState

INSERT_BATCH = 2000


def insert_plans(plans: Sequence[PlanRows]) -> None:
    """Write these plans with all that belongs to them; steps that are ready get their tickets. In the caller's
    transaction."""
    if not plans:
        return
    if not is_postgresql(ledger_connection()):
        _insert_portably(plans)
    elif len(plans) == 1 and small_plan.is_small(plans[0]):
        small_plan.insert(plans[0])
    else:
        copy_in.insert(plans)
    insert([lock for rows in plans for lock in rows.locks])
    insert([ResourceLink(plan=rows.plan, resource=key) for rows in plans for key in rows.links])


def insert(rows: Sequence[Model]) -> None:
    """Write rows of one model in bulk, none without a statement."""
    if rows:
        type(rows[0])._default_manager.bulk_create(rows, batch_size=INSERT_BATCH)


# --- any database --------------------------------------------------------------------------------------------------


def _insert_portably(plans: Sequence[PlanRows]) -> None:
    insert([rows.plan for rows in plans if not rows.is_known])
    actions = [(rows.plan, row) for rows in plans for row in rows.new_actions]
    stored = [
        Action(
            plan=plan, number=row.number, name=row.name, caller_number=row.caller_number, input=row.input,
            consumes=row.consumes,
        )
        for plan, row in actions
    ]  # fmt: skip
    insert(stored)
    for (_, row), action in zip(actions, stored, strict=True):
        row.pk = action.pk
    gates = [_gates(rows) for rows in plans]
    insert([gate for of_plan in gates for gate in of_plan])
    steps = [[_step(rows, row, of_plan) for row in rows.steps] for rows, of_plan in zip(plans, gates, strict=True)]
    insert([step for of_plan in steps for step in of_plan])
    insert([each for part in zip(plans, gates, steps, strict=True) for each in _dependencies(*part)])
    Ticket.objects.draw([step.pk for of_plan in steps for step in of_plan if step.state == StepState.READY])


def _gates(rows: PlanRows) -> list[Gate]:
    awaited = {position for spec in rows.gates for position in spec.gates}
    return [
        Gate(plan=rows.plan, waits_for=len(spec.steps) + len(spec.gates), is_awaited=position in awaited)
        for position, spec in enumerate(rows.gates)
    ]


def _step(rows: PlanRows, row: StepRow, gates: Sequence[Gate]) -> Step:
    return Step(
        plan=rows.plan, action_id=row.action.key, number=row.number, phase=row.phase, queue=row.queue,
        state=StepState.READY if row.is_ready else StepState.PENDING, ready_at=Now() if row.is_ready else None,
        priority=row.priority, is_idempotent=row.is_idempotent, weight=row.weight, is_awaited=row.is_awaited,
        limit_key=row.limit_key, start_timeout=row.start_timeout,
        gate=None if row.gate is None else gates[row.gate],
    )  # fmt: skip


def _dependencies(rows: PlanRows, gates: Sequence[Gate], steps: Sequence[Step]) -> Iterable[Dependency]:
    for gate, spec in zip(gates, rows.gates, strict=True):
        for number in spec.steps:
            yield Dependency(gate=gate, step=steps[number - 1])
        for position in spec.gates:
            yield Dependency(gate=gate, after_gate=gates[position])
