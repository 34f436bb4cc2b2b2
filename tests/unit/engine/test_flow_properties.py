"""Random programs of sequences, concurrences and references: the graph orders what must be ordered, and no more."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynflow_app.engine.director import Decision, Verdict, decide
from dynflow_app.engine.flow import BlockKind, Flow, Node
from dynflow_app.states import ACTIVE_STEP_STATES, TERMINAL_STEP_STATES, PlanResult, Rescue, StepState


@dataclass(frozen=True)
class Place:
    """A step of a program. It refers to the earlier steps that `picks` choose, whatever their number."""

    picks: tuple[int, ...]


@dataclass(frozen=True)
class Block:
    """Items in sequence or side by side."""

    kind: BlockKind
    items: tuple[Place | Block, ...]


PLACES = st.builds(Place, st.lists(st.integers(0, 1000), max_size=3).map(tuple))
PROGRAMS = st.builds(
    Block,
    st.just(BlockKind.CONCURRENCE),
    st.lists(
        st.recursive(
            PLACES,
            lambda items: st.builds(Block, st.sampled_from(BlockKind), st.lists(items, max_size=5).map(tuple)),
            max_leaves=25,
        ),
        max_size=5,
    ).map(tuple),
)

Order = dict[int, set[int]]
"""Step number to the numbers of all steps that must end before it."""


@given(PROGRAMS)
def test_the_graph_implies_exactly_the_order_that_was_asked_for(program: Block) -> None:
    """Sound: everything required precedes. Complete: nothing else does."""
    built = Built(program)

    assert built.order() == required_order(program)


@given(PROGRAMS)
def test_whatever_is_waited_for_says_so(program: Block) -> None:
    """`awaited` decides whether the end of a step is looked up in the gates at all."""
    built = Built(program)

    assert built.flow.awaited == {number for gate in built.flow.gates for number in gate.steps}


@given(PROGRAMS)
def test_gates_wait_only_for_what_was_planned_before(program: Block) -> None:
    """So there is no cycle, and counting down always ends."""
    built = Built(program)

    for position, gate in enumerate(built.flow.gates):
        assert all(before < position for before in gate.gates)
        assert len(set(gate.steps)) == len(gate.steps)
        assert len(set(gate.gates)) == len(gate.gates)
        assert gate.steps or gate.gates, "a gate that waits for nothing never opens"
    for number, position in built.gate_of.items():
        assert all(before < number for before in built.behind(position))


@given(st.integers(1, 60), st.integers(1, 60))
def test_joins_add_up(above: int, below: int) -> None:
    """N steps joined to M steps cost N rows of dependencies and one gate that M steps name."""
    row = [Block(BlockKind.CONCURRENCE, (Place(()),) * width) for width in (above, below)]
    built = Built(Block(BlockKind.CONCURRENCE, (Block(BlockKind.SEQUENCE, tuple(row)),)))

    assert sum(len(gate.steps) + len(gate.gates) for gate in built.flow.gates) == above
    assert len(built.gate_of) == below
    assert len(built.flow.gates) == 1


@given(st.integers(1, 30), st.integers(1, 30))
def test_the_same_references_share_a_gate(above: int, below: int) -> None:
    """M steps that refer to the same N outputs cost as much as if they came after a concurrence."""
    flow = Flow()
    for number in range(1, above + 1):
        flow.add_step(number, set())
    for number in range(above + 1, above + below + 1):
        flow.add_step(number, set(range(1, above + 1)))

    assert [len(gate.steps) for gate in flow.gates] == [above]


@given(PROGRAMS, st.randoms(use_true_random=False))
def test_every_flow_comes_to_its_end_in_order(program: Block, chance: random.Random) -> None:
    """Counting gates down releases every step, none before what it must wait for."""
    built, required = Built(program), required_order(program)

    ended = run(built, chance, fails=frozenset(), required=required)

    assert ended == dict.fromkeys(required, StepState.SUCCESS)


@given(PROGRAMS, st.randoms(use_true_random=False), st.randoms(use_true_random=False), st.data())
def test_what_becomes_of_a_flow_does_not_depend_on_who_ends_first(
    program: Block, one: random.Random, other: random.Random, data: st.DataObject
) -> None:
    """With the same failures, any order of outcomes leads to the same states and the same verdict."""
    built, required = Built(program), required_order(program)
    fails = frozenset(data.draw(st.sets(st.sampled_from(sorted(required))))) if required else frozenset()

    first, second = (run(built, chance, fails=fails, required=required) for chance in (one, other))

    assert first == second
    failed = {number for number, state in first.items() if state is StepState.ERROR}
    assert all((state is StepState.PENDING) == bool(required[number] & failed) for number, state in first.items()), (
        "exactly what comes after a failure is left"
    )
    verdict = decide(count(first), {}).verdict
    assert verdict is (Verdict.PAUSE if failed else Verdict.STOP)


class Built:
    """A program put through Flow, and what the graph says about it."""

    def __init__(self, program: Block) -> None:
        self.flow = Flow()
        self.gate_of: dict[int, int] = {}
        self.number = 0
        for item in program.items:
            self._place(item)

    def _place(self, item: Place | Block) -> None:
        if isinstance(item, Block):
            self.flow.open(item.kind)
            for each in item.items:
                self._place(each)
            self.flow.close()
            return
        self.number += 1
        gate = self.flow.add_step(self.number, referred(item, self.number))
        if gate is not None:
            self.gate_of[self.number] = gate

    def behind(self, position: int) -> set[int]:
        """The steps that a gate waits for, itself or through other gates."""
        gate = self.flow.gates[position]
        return set(gate.steps).union(*(self.behind(before) for before in gate.gates))

    def order(self) -> Order:
        """What the graph implies."""
        direct = {
            number: self.behind(self.gate_of[number]) if number in self.gate_of else set()
            for number in range(1, self.number + 1)
        }
        return closed(direct)


def referred(place: Place, number: int) -> set[int]:
    """The steps that step `number` refers to."""
    return {1 + pick % (number - 1) for pick in place.picks} if number > 1 else set()


def required_order(program: Block) -> Order:
    """The naive model: who refers waits, and in a sequence everything waits for everything in earlier items."""
    direct: Order = {}

    def walk(item: Place | Block, before: set[int]) -> set[int]:
        if isinstance(item, Place):
            number = len(direct) + 1
            direct[number] = before | referred(item, number)
            return {number}
        inside: set[int] = set()
        for each in item.items:
            inside |= walk(each, before | inside if item.kind is BlockKind.SEQUENCE else before)
        return inside

    walk(program, set())
    return closed(direct)


def closed(direct: Order) -> Order:
    """The transitive closure."""
    order = dict(direct)
    grown = True
    while grown:  # steps mostly wait for smaller numbers, so once is mostly enough
        grown = False
        for number in sorted(order):
            wider = order[number].union(*(order[before] for before in order[number]))
            grown = grown or wider != order[number]
            order[number] = wider
    return order


def run(built: Built, chance: random.Random, *, fails: frozenset[int], required: Order) -> dict[int, StepState]:
    """Run all that can run, by counting gates down as the ledger does, in an order that `chance` chooses."""
    waits_for = [len(gate.steps) + len(gate.gates) for gate in built.flow.gates]
    states = dict.fromkeys(required, StepState.PENDING)

    def ready() -> list[int]:
        return [
            number
            for number, state in states.items()
            if state is StepState.PENDING and (number not in built.gate_of or not waits_for[built.gate_of[number]])
        ]

    while frontier := ready():
        number = chance.choice(frontier)
        assert all(states[before] is StepState.SUCCESS for before in required[number])
        if number in fails:
            states[number] = StepState.ERROR
            continue
        states[number] = StepState.SUCCESS
        count_down(built.flow, waits_for, Node(False, number))
    return states


def count_down(flow: Flow, waits_for: list[int], ended: Node) -> None:
    """A step has ended, or a gate has opened: what waited for it waits for one thing less."""
    for position, gate in enumerate(flow.gates):
        if ended.number in (gate.gates if ended.is_gate else gate.steps):
            waits_for[position] -= 1
            assert waits_for[position] >= 0
            if not waits_for[position]:
                count_down(flow, waits_for, Node(True, position))


def count(states: dict[int, StepState]) -> dict[str, int]:
    """How many steps are in each state."""
    return {state: list(states.values()).count(state) for state in set(states.values())}


# --- the director's totals ---------------------------------------------------------------------------------------

COUNTS = st.dictionaries(st.sampled_from(StepState), st.integers(0, 3))


@given(COUNTS, COUNTS)
def test_the_director_has_an_answer_for_any_totals(run_steps: dict[str, int], finalize: dict[str, int]) -> None:
    """Waits exactly while something is active, stops exactly when all has ended, and then knows the result."""
    there = {
        phase: {state for state, number in counts.items() if number}
        for phase, counts in (("run", run_steps), ("finalize", finalize))
    }
    everything = there["run"] | there["finalize"]

    decision = decide(run_steps, finalize, [Rescue.PAUSE])

    if everything & ACTIVE_STEP_STATES:
        assert decision.verdict is Verdict.WAIT
    elif StepState.ERROR not in everything and StepState.CANCELLED in everything:
        assert decision == Decision(Verdict.CANCEL, PlanResult.CANCELLED)
    elif everything <= TERMINAL_STEP_STATES:
        assert decision.verdict is Verdict.STOP
        assert decision.result is not PlanResult.PENDING
    elif StepState.ERROR in everything or StepState.PENDING in there["run"]:
        assert decision.verdict is Verdict.PAUSE
    else:
        assert decision.verdict is Verdict.FINALIZE
    assert (decision.verdict in {Verdict.WAIT, Verdict.FINALIZE}) == (decision.result is PlanResult.PENDING)


@pytest.mark.parametrize(
    ("states", "result"),
    [
        ((), PlanResult.SUCCESS),
        ((StepState.SUCCESS,), PlanResult.SUCCESS),
        ((StepState.SUCCESS, StepState.SKIPPED), PlanResult.WARNING),
        ((StepState.SUCCESS, StepState.SKIPPED, StepState.CANCELLED), PlanResult.CANCELLED),
    ],
)
def test_the_gravest_of_what_happened_is_the_result(states: tuple[StepState, ...], result: PlanResult) -> None:
    """Cancelled before error before warning before success, in whichever phase it happened."""
    totals = dict.fromkeys(states, 1)

    assert decide(totals, {}).result is result
    assert decide({}, totals).result is result
