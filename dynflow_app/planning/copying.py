"""New plans made from existing ones: all of it undone, or the same again.

Both read the rows of a plan that the caller has locked, and write rows in the caller's transaction; the number of
statements does not depend on the size of the plan. No user code runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from math import inf
from typing import Any

from dynflow_app import clock
from dynflow_app.actions import registry
from dynflow_app.actions.schemas import check_input
from dynflow_app.conf import settings
from dynflow_app.engine.flow import Node
from dynflow_app.engine.graph import Graph
from dynflow_app.exceptions import PlanningError, WrongStateError
from dynflow_app.ledger.inserting import insert
from dynflow_app.ledger.limits import declare
from dynflow_app.ledger.locking import copied
from dynflow_app.messages import EnvelopeKind
from dynflow_app.models import (
    Action,
    Dependency,
    Envelope,
    ExecutionPlan,
    Gate,
    Step,
)
from dynflow_app.payloads.json import encode_input
from dynflow_app.payloads.sealing import seal
from dynflow_app.planning.limit_keys import limit_key_of
from dynflow_app.states import MadeAs, Phase, PlanState, StepState

LONGEST_LABEL = 255

# --- undo --------------------------------------------------------------------------------------------------------


def reverse(plan: ExecutionPlan, *, triggered_by: str = "") -> ExecutionPlan | None:
    """Store a plan that undoes the completed steps of `plan`, each after what came after it; None if there are none.

    It has a step of phase *revert* for each run step in success whose class defines ``revert``, or is not known here.
    """
    steps = [step for step, is_reverted in reverse_preview(plan) if is_reverted]
    if not steps:
        return None
    name = plan.label or plan.action.rpartition(".")[2]
    made = _plan(plan, MadeAs.REVERT, triggered_by, label=f"Revert of {name}"[:LONGEST_LABEL])
    actions, copies = [], {}
    for number, step in enumerate(steps, start=1):
        old, known = step.action, registry.known(step.action.name)
        actions.append(Action(plan=made, number=number, name=old.name, input=old.input, output=old.output))
        # Not as planned: atomic steps count as idempotent, but reverts are not atomic.
        is_idempotent = known is not None and known.idempotent
        copies[step.pk] = _step(step, actions[-1], number=number, phase=Phase.REVERT, is_idempotent=is_idempotent)
    _store(made, actions, copies, _graph(plan).reversed(copies.keys()))
    return made


def reverse_preview(plan: ExecutionPlan) -> list[tuple[Step, bool]]:
    """The completed run steps of `plan`, last first, each with its action, and whether it will be reverted."""
    completed = Step.objects.filter(plan=plan, phase=Phase.RUN, state=StepState.SUCCESS)
    return [(step, _is_reverted(step)) for step in completed.select_related("action").order_by("-number")]


def _is_reverted(step: Step) -> bool:
    known = registry.known(step.action.name)
    return known is None or known.has_phase(Phase.REVERT)  # a worker parks the step of a class it does not know


# --- again -------------------------------------------------------------------------------------------------------


def rerun(
    plan: ExecutionPlan,
    *,
    from_step: Step | None = None,
    input: dict[str, Any] | None = None,  # noqa: A002 - what it is called everywhere
    triggered_by: str = "",
) -> ExecutionPlan:
    """Store a plan that does again what `plan` was to do; with `from_step`, one of its run steps, only part of it.

    Then what succeeded, and does not come after that step, is copied together with its output, as that is now. `input`
    replaces the input of the action of `from_step`, or else of the entry action. Raises `WrongStateError` if `plan` has
    no actions or is itself a revert, and for wrong arguments what planning raises.
    """
    _check(plan, from_step)
    old_actions = list(Action.objects.filter(plan=plan).order_by("number"))
    if not old_actions:
        raise WrongStateError(f"Plan {plan.pk} has no actions to run again. Trigger it anew.", state=plan.state)
    phases = (Phase.RUN, Phase.FINALIZE)  # the others are made when they are needed
    steps = list(Step.objects.filter(plan=plan, phase__in=phases).order_by("number"))
    graph = _graph(plan)
    done = _done(steps, graph, from_step) if from_step else []
    made = _plan(plan, MadeAs.RERUN, triggered_by, label=plan.label, fail_fast=plan.fail_fast, hooks=plan.hooks)
    made.singleton = plan.singleton
    actions = _actions(old_actions, made, done={step.action_id for step in done})
    copies = {step.pk: _step(step, actions[step.action_id]) for step in steps}
    if input is not None:
        target = actions[from_step.action_id if from_step else old_actions[0].pk]
        _replace_input(target, [step for step in copies.values() if step.action is target], input)
    for step in done:
        _complete(copies[step.pk], step)
    _store(made, actions.values(), copies, graph.begun({step.pk for step in done}))
    return made


def _check(plan: ExecutionPlan, from_step: Step | None) -> None:
    if plan.made_as == MadeAs.REVERT:
        raise WrongStateError(
            f"Plan {plan.pk} is a revert, which is not run again. Resume it if it is paused.", state=plan.state
        )
    if plan.state in (PlanState.PENDING, PlanState.SCHEDULED, PlanState.PLANNING):
        raise WrongStateError(
            f"Plan {plan.pk} is {plan.state}: there is nothing to run again yet. Trigger it anew.", state=plan.state
        )
    if from_step is not None and from_step.plan_id != plan.pk:
        raise PlanningError(f"Step {from_step.number} belongs to plan {from_step.plan_id}, not to plan {plan.pk}.")
    if from_step is not None and from_step.phase != Phase.RUN:
        raise PlanningError(f"Start from a run step; step {from_step.number} is of phase {from_step.phase}.")


def _done(steps: Iterable[Step], graph: Graph, from_step: Step) -> list[Step]:
    """The steps that are not run again."""
    after = graph.after({from_step.pk})
    return [
        step
        for step in steps
        if step.phase == Phase.RUN
        and step.state == StepState.SUCCESS
        and step.pk != from_step.pk
        and step.gate_id not in after
    ]


def _actions(olds: Iterable[Action], plan: ExecutionPlan, done: Collection[int]) -> dict[int, Action]:
    """Copies by the keys of the originals; those not `done` have the input that was planned, and no output."""
    copies = {}
    for old in olds:
        made = Action(plan=plan, number=old.number, name=old.name, caller_number=old.caller_number)
        made.consumes = old.consumes
        if old.pk in done:
            made.input, made.planned_input, made.output = old.input, old.planned_input, old.output
        else:
            made.input = old.input if old.planned_input is None else old.planned_input
        copies[old.pk] = made
    return copies


def _replace_input(action: Action, steps: Collection[Step], given: object) -> None:
    """Give `action`, with all its `steps`, another input, as if it had been planned with it."""
    name, known = action.class_name, registry.known(action.name)
    if not isinstance(given, dict):
        raise PlanningError(f"The input of {name} is a dictionary of named values, not {given!r}.")
    if known is None:
        raise PlanningError(f"This process knows no action {action.name!r}, so it cannot check input for it.")
    if not steps:
        raise PlanningError(f"{name} has no step that uses input. Start from one that does.")
    stored, referred = encode_input(given, f"{name}.input", settings.PAYLOAD_LIMIT)
    if referred:
        raise PlanningError(f"The new input of {name} refers to an output. Pass the value itself.")
    action.input, action.consumes = seal(check_input(known, stored), known.sensitive), []
    key = limit_key_of(known, name, stored)
    for step in steps:
        step.limit_key = key if step.phase == Phase.RUN else None
    if key is not None:
        declare([(key, known.concurrency_limit, known.rate_limit)])


def _complete(copy: Step, old: Step) -> None:
    """Make `copy` a step that has succeeded as `old` did."""
    copy.state, copy.attempt = StepState.SUCCESS, 1
    copy.worker = f"copied from plan {str(old.plan_id)[:13]}"
    copy.ready_at, copy.started_at = old.ready_at, old.started_at or old.ended_at or clock.now()
    copy.ended_at = old.ended_at or clock.now()


# --- both --------------------------------------------------------------------------------------------------------


def _plan(source: ExecutionPlan, made_as: MadeAs, triggered_by: str, **fields: Any) -> ExecutionPlan:
    return ExecutionPlan(
        action=source.action,
        state=PlanState.PLANNED,
        queue=source.queue,
        priority=source.priority,
        fairness_key=source.fairness_key,
        fairness_weight=source.fairness_weight,
        tags=source.tags,
        made_from=source,
        has_locks=source.has_locks,
        made_as=made_as,
        triggered_by=triggered_by,
        **fields,
    )


def _step(old: Step, action: Action, **changes: Any) -> Step:
    kept = ("number", "phase", "queue", "priority", "is_idempotent", "start_timeout", "limit_key", "weight")
    return Step(plan=action.plan, action=action, **{name: getattr(old, name) for name in kept} | changes)


def _graph(plan: ExecutionPlan) -> Graph:
    """The flow as it was planned."""
    # Gates were inserted in the order of planning, and wait only for what was planned before.
    ids = Gate.objects.filter(plan=plan).order_by("id").values_list("id", flat=True)
    graph = Graph({gate: set() for gate in ids})
    for gate, step, after in Dependency.objects.filter(gate__plan=plan).values_list("gate", "step", "after_gate"):
        graph.gates[gate].add(Node(True, after) if after else Node(False, step))
    awaited = {node.number for nodes in graph.gates.values() for node in nodes if not node.is_gate}
    numbers, lost = {}, []
    behind = Step.objects.filter(plan=plan, gate__isnull=False).values_list("pk", "gate", "number", "is_awaited")
    for step, gate, number, is_awaited in behind:
        graph.gate_of[step], numbers[step] = gate, number
        if is_awaited and step not in awaited:
            lost.append(step)
    if lost:
        _put_back(lost, graph, numbers)
    return graph


def _put_back(lost: Iterable[int], graph: Graph, numbers: Mapping[int, int]) -> None:
    """Let gates wait again for the steps that were skipped behind a closed gate, which then took their place.

    Other gates may have waited for that gate before. Not all can be told apart; but what has a smaller number than the
    step did not wait for it.
    """
    first = dict.fromkeys(graph.gates, inf)
    for step, gate in graph.gate_of.items():
        first[gate] = min(first[gate], numbers[step])
    following: dict[int, list[int]] = {}
    for gate in reversed(graph.gates):
        for is_gate, before in graph.gates[gate]:
            if is_gate:
                following.setdefault(before, []).append(gate)
                first[before] = min(first[before], first[gate])
    for step in lost:
        for gate in following.get(graph.gate_of[step], ()):
            if numbers[step] < first[gate]:
                graph.gates[gate].add(Node(False, step))


def _store(
    plan: ExecutionPlan,
    actions: Iterable[Action],
    steps: Mapping[int, Step],
    graph: Graph,
) -> None:
    """Write a plan and tell the orchestrator's inbox; `steps` (by their keys in `graph`) are pending or in success."""
    ended = {Node(False, key) for key, step in steps.items() if step.state == StepState.SUCCESS}
    awaited = {node for nodes in graph.gates.values() for node in nodes}
    gates: dict[int, Gate] = {}
    for key, nodes in graph.gates.items():
        gates[key] = Gate(plan=plan, waits_for=len(nodes - ended), is_awaited=Node(True, key) in awaited)
        if nodes <= ended:
            ended.add(Node(True, key))
    for key, step in steps.items():
        step.gate = gates[graph.gate_of[key]] if key in graph.gate_of else None
        step.is_awaited = Node(False, key) in awaited
    plan.has_finalize = any(step.phase == Phase.FINALIZE for step in steps.values())
    insert([plan])
    insert(list(actions))
    insert(list(gates.values()))
    insert(list(steps.values()))
    insert(list(_dependencies(graph, gates, steps)))
    if plan.made_from is not None:
        locks, links = copied(plan.made_from, plan)
        insert(locks)
        insert(links)
    Envelope.objects.send(EnvelopeKind.PLANNED, [plan.pk])


def _dependencies(graph: Graph, gates: Mapping[int, Gate], steps: Mapping[int, Step]) -> Iterator[Dependency]:
    for key, nodes in graph.gates.items():
        for node in sorted(nodes):
            if node.is_gate:
                yield Dependency(gate=gates[key], after_gate=gates[node.number])
            else:
                yield Dependency(gate=gates[key], step=steps[node.number])
