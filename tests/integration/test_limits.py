"""Steps that share a key share its limits: how many of them take a slot at once, and how many start per time."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Collection
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.db.models import F, QuerySet

from dynflow_app.actions.rate import Rate
from dynflow_app.ledger.limits import admit, declare, due_limits, keys_with_room
from dynflow_app.models import Limit, Step, Ticket
from tests.factories import PlanFactory, StepFactory

ROUNDS = 100


def throttle(number: int, key: str = "k", **fields: object) -> list[Step]:
    """Steps that have just become ready."""
    plan = PlanFactory(state="running")
    return [StepFactory(plan=plan, state="ready", limit_key=key, is_throttled=True, **fields) for _ in range(number)]


def throttled(key: str = "k") -> list[int]:
    """Steps that wait for their limit."""
    return list(Ticket.objects.filter(throttled_by=key).order_by("step").values_list("step", flat=True))


def taken(key: str = "k") -> list[int]:
    """Steps that take a slot."""
    steps = Step.objects.filter(slot=key)
    return list(steps.order_by("id").values_list("id", flat=True))


def admitted(*keys: str) -> Counter[str]:
    """Admit in a transaction of its own."""
    with transaction.atomic():
        return admit(keys or ["k"])[0]


def end(*steps: int) -> None:
    """Steps of k end, and say so to their limit."""
    with transaction.atomic():
        give_back("success", steps)
        admit(["k"])


def give_back(state: str, steps: Collection[int]) -> None:
    """Steps end, or wait for something else than a worker."""
    slot = F("slot") if state == "suspended" else None
    Step.objects.filter(id__in=steps).update(state=state, slot=slot)
    Ticket.objects.hand_in(steps)


def pass_time(**duration: float) -> None:
    """The same as if that much time had passed for all limits."""
    past = timedelta(**duration)
    Limit.objects.update(next_start_at=F("next_start_at") - past, wakes_at=F("wakes_at") - past)


@pytest.mark.django_db(transaction=True)
@pytest.mark.invented
class TestHowManyAtOnce:
    """A slot is taken by what is ready and not throttled, running or suspended."""

    def test_a_limit_lets_pass_as_many_as_it_has_slots(self) -> None:
        # given a limit of five, of which each kind of active step takes a slot
        declare([("k", 5, None)])
        for state in ("ready", "running", "suspended"):
            StepFactory(state=state, limit_key="k")
        StepFactory(state="success", limit_key="k")
        StepFactory(state="running", limit_key="other")

        # when more steps want to start, on two queues
        throttle(2, queue="rex")
        throttle(2)

        # then two may, and asking again changes nothing
        assert (admitted(), admitted()) == ({"rex": 2}, {})
        assert (len(taken()), len(throttled())) == (5, 2)
        assert due_limits(10) == []

    def test_each_end_lets_one_pass_the_most_urgent_first_then_the_oldest(self) -> None:
        # given steps that wait behind one that runs
        declare([("k", 1, None)])
        late, early, urgent = throttle(1)[0], throttle(1, priority=5)[0], throttle(1, priority=7)[0]
        running = StepFactory(state="running", limit_key="k").pk
        also_early = throttle(1, priority=5)[0]

        # when one after the other ends
        order = []
        for _ in range(4):
            end(running)
            (running,) = taken()
            order.append(running)

        # then they pass by priority and age
        assert order == [urgent.pk, early.pk, also_early.pk, late.pk]

    def test_keys_do_not_mind_each_other(self) -> None:
        declare([("a", 1, None), ("b", 2, None), ("c", None, Rate(1))])
        for key in "abcd":
            throttle(3, key)

        assert admitted("d", "c", "b", "a", "a") == {"default": 1 + 2 + 1 + 3}  # nobody declared d
        assert [len(taken(key)) for key in "abcd"] == [1, 2, 1, 3]
        assert [len(throttled(key)) for key in "abcd"] == [2, 1, 2, 0]

    def test_steps_that_are_throttled_without_need_are_found(self) -> None:
        # given steps that wait for a slot and for their time
        declare([("a", 2, None), ("b", None, Rate(1))])
        throttle(3, "a")
        throttle(2, "b")
        admitted("a", "b")
        assert keys_with_room() == []

        # when somebody forgets to admit what may pass by now
        give_back("success", taken("a")[:1])
        throttle(1, "nobody declared it")

        # then the sweep finds that
        assert sorted(keys_with_room()) == ["a", "nobody declared it"]
        assert admitted(*keys_with_room()) == {"default": 2}
        assert keys_with_room() == []

    def test_limits_change_as_they_are_declared(self) -> None:
        # given a limit of two that is exhausted
        declare([("k", 2, None)])
        throttle(6)
        admitted()

        # when it is raised and lowered
        declare([("k", 4, None)])
        admitted()
        assert len(taken()) == 4
        declare([("k", 1, None)])
        assert admitted() == {}

        # and an action that shares the key says nothing about it
        declare([("k", None, None)])
        assert Limit.objects.get().most == 1

        # and when an operator deletes it, then nothing is kept back any more
        Limit.objects.all().delete()
        assert admitted() == {"default": 2}
        assert keys_with_room() == []

    def test_declaring_takes_the_same_few_statements_for_any_number(
        self, django_assert_num_queries: Callable[..., object]
    ) -> None:
        limits = [(f"host {number}", 2, Rate(3, per=timedelta(minutes=1))) for number in range(140)]
        with transaction.atomic(), django_assert_num_queries(2):
            declare(limits)
        assert Limit.objects.filter(most=2, starts=3, period=60.0).count() == 140
        with django_assert_num_queries(1):
            declare(limits[:100])

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no row locks")
    def test_a_step_that_another_transaction_has_locked_is_looked_at_again(self) -> None:
        # given a throttled step that somebody changes, who does not end it
        declare([("k", 1, None)])
        (step,) = throttle(1)
        other = connection.copy()
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute(f"SELECT 1 FROM {Ticket._meta.db_table} WHERE step_id = %s FOR UPDATE", [step.pk])  # noqa: S608

        # when it could pass, then nobody waits for that, but the orchestrator is told to look again
        assert admitted() == {}
        assert due_limits(10) == ["k"]
        other.rollback()
        other.close()
        assert admitted(*due_limits(10)) == {"default": 1}
        assert due_limits(10) == []

    def test_two_processes_never_exceed_a_limit_nor_forget_a_step(self) -> None:
        # given steps of two keys, which both processes end and make ready again, at the same time
        most = {"a": 3, "b": 2}
        for key, number in most.items():
            declare([(key, number, None)])
            throttle(8, key)
        admitted(*most)
        wrong: list[str] = []
        together = threading.Barrier(2, timeout=20)

        def work(number: int) -> None:
            chance = random.Random(number)
            for turn in range(ROUNDS):
                together.wait()
                end_some_and_ready_others(number, chance)
                too_many = [key for key in most if len(taken(key)) > most[key]]
                together.wait()
                forgotten = [key for key in most if throttled(key) and len(taken(key)) < most[key]]
                if too_many or forgotten:
                    wrong.append(f"turn {turn}: too many of {too_many}, forgot {forgotten}")
            connections.close_all()

        # when they go on for a while
        threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        # then no key ever had too many, and none kept a step back without need
        assert wrong == []


def end_some_and_ready_others(number: int, chance: random.Random) -> None:
    """What a process does with its half of the steps in one transaction."""
    mine = Step.objects.annotate(half=F("id") % 2).filter(half=number)
    with transaction.atomic():
        give_back("success", keys(mine.filter(state="suspended")))
        admitted = mine.filter(state="ready", ticket__throttled_by=None)
        give_back(chance.choice(["suspended", "success"]), keys(admitted))
        again = keys(mine.filter(state="success"))[: chance.randint(0, 8)]
        mine.filter(id__in=again).update(state="ready")
        Ticket.objects.draw(again)
        admit(chance.sample(["a", "b"], 2))


def keys(steps: QuerySet[Step]) -> list[int]:
    """Of these steps."""
    return list(steps.values_list("id", flat=True))
