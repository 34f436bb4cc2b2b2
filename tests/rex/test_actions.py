"""A command on many hosts: its sub-plans, and what the report says of each way in which it can end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dynflow_app import control
from dynflow_app.models import Action, ExecutionPlan, OutputChunk
from dynflow_app.states import PlanState
from dynflow_app.triggering import trigger
from project.rex.actions import RunOnHosts, environment_of
from project.rex.inventory import Connection, Host
from project.rex.models import HostResult, Report
from project.rex.templates import TemplateError
from tests.engine import Engine, outcome
from tests.rex.helpers import gone
from tests.rex.scripted import lose, make_sub_plans
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def hosts(number: int) -> list[Host]:
    """Hosts that are all this machine: h0, h1 and so on."""
    return [Host(f"h{n}", ("web",), {"site": "lab", "n": n}, Connection.LOCAL) for n in range(number)]


def nowhere() -> Host:
    """A host whose address refuses connections."""
    return Host("nowhere", connection=Connection.SSH, address="127.0.0.1", port=1, known_hosts=__file__)


def statuses(plan: ExecutionPlan) -> dict[str, str]:
    """Host to status, as the report has it."""
    return dict(Report.objects.get(plan_id=plan.pk).results.values_list("host", "status"))


def sub_plans(plan: ExecutionPlan) -> dict[str, str]:
    """Host to state and result of its sub-plan."""
    children = ExecutionPlan.objects.filter(parent_step__plan=plan, position__isnull=False)
    return {child.label: f"{child.state}/{child.result}" for child in children}


# --- how it goes ---------------------------------------------------------------------------------------------------


def test_each_host_has_a_sub_plan_of_its_name_and_a_line_in_the_report(engine: Engine) -> None:
    # given three hosts, on one of which the command fails
    plan = engine.run(trigger(RunOnHosts, hosts(3), "echo $REX_HOST $REX_SITE; echo so >&2; exit $((REX_N == 1))"))

    # then each has a sub-plan, whose answer is in its output, whose output is in its log, and in the report
    assert outcome(plan) == "stopped/success"
    assert sub_plans(plan) == dict.fromkeys(["h0", "h1", "h2"], "stopped/success")
    assert statuses(plan) == {"h0": "succeeded", "h1": "failed", "h2": "succeeded"}
    report = Report.objects.get()
    assert report.lines[1] | {"seconds": 0} == {
        "host": "h1", "status": "failed", "exit_code": 1, "seconds": 0, "error": "so",
    }  # fmt: skip
    child = Action.objects.get(plan__label="h1")
    assert (child.output["status"], child.output["exit_code"]) == ("failed", 1)
    chunks = OutputChunk.objects.filter(action=child).order_by("pk").values_list("text", flat=True)
    assert "".join(chunks) == "h1 lab\nstderr: so\n"
    # and the plan has the totals
    assert report.counts == {"succeeded": 2, "failed": 1}
    assert plan.actions.get().output["counts"] == report.counts
    assert report.ended_at is not None
    assert not report.all_succeeded


def test_no_more_hosts_are_busy_than_allowed(engine: Engine, tmp_path: Path) -> None:
    # given a command that would notice if two hosts were at it
    command = f"mkdir {tmp_path}/alone && sleep 0.01 && rmdir {tmp_path}/alone"
    plan = trigger(RunOnHosts, hosts(5), command, concurrency=1)
    while not plan.is_stopped:
        engine.run(plan)
        engine.pass_time(1)
    assert Report.objects.get().counts == {"succeeded": 5}


def test_a_command_that_takes_too_long_is_killed_and_told_apart(engine: Engine) -> None:
    plan = engine.run(trigger(RunOnHosts, hosts(1), "echo $$; sleep 60", time_limit=0.2))
    assert statuses(plan) == {"h0": "timed_out"}
    assert gone(int(OutputChunk.objects.get().text))


def test_without_hosts_there_is_nothing_to_do(engine: Engine) -> None:
    plan = engine.run(trigger(RunOnHosts, [], "true"))
    assert outcome(plan) == "stopped/success"
    assert Report.objects.get().all_succeeded


def test_a_command_that_no_shell_could_run_is_refused_and_leaves_nothing() -> None:
    with pytest.raises(ValueError, match="empty"):
        trigger(RunOnHosts, hosts(1), " ")
    with pytest.raises(ValueError, match="at least 1"):
        trigger(RunOnHosts, hosts(1), "true", concurrency=0)
    assert not Report.objects.exists()


def test_a_command_knows_its_host() -> None:
    variables = {"site": "lab", "ok": True, "n": 3, "list": [1], "a-b": 1, "nul": "\0", "none": None}

    assert environment_of(Host("h", ("a", "b"), variables)) == {
        "REX_HOST": "h",
        "REX_GROUPS": "a,b",
        "REX_SITE": "lab",
        "REX_OK": "true",
        "REX_N": "3",
        "REX_NUL": "",
    }


# --- when hosts cannot be reached, or workers die ------------------------------------------------------------------


def test_an_unreachable_host_is_tried_three_times_and_holds_nobody_up(engine: Engine) -> None:
    # given a host that refuses connections beside one that works
    plan = engine.run(trigger(RunOnHosts, [nowhere(), *hosts(1)], "true"))
    child = ExecutionPlan.objects.get(label="nowhere")
    for tries in (1, 2):
        assert child.steps.get(phase="run").attempts.count() == tries
        assert outcome(plan) == "running/pending"
        engine.pass_time(60)
        engine.run(plan)

    # then its sub-plan ends with a warning, and the plan ends well
    assert child.steps.get(phase="run").attempts.filter(ended_as="failed").count() == 3
    assert sub_plans(plan) == {"nowhere": "stopped/warning", "h0": "stopped/success"}
    assert outcome(plan) == "stopped/success"
    assert Report.objects.get().counts == {"succeeded": 1, "unreachable": 1}
    assert "refused the connection" in HostResult.objects.get(host="nowhere").error


def test_a_host_whose_key_cannot_be_checked_is_not_tried_again(engine: Engine) -> None:
    host = Host("h", connection=Connection.SSH, known_hosts="/nowhere/known_hosts")
    plan = engine.run(trigger(RunOnHosts, [host], "true"))
    assert statuses(plan) == {"h": "unreachable"}
    assert ExecutionPlan.objects.get(label="h").steps.get(phase="run").attempts.filter(ended_as="failed").count() == 1


def test_if_a_worker_dies_the_host_waits_for_a_person_who_may_give_it_up(engine: Engine) -> None:
    # given three hosts, and a worker that died with one of them
    plan = trigger(RunOnHosts, hosts(3), "true")
    make_sub_plans(engine)
    assert lose(1) == ["h0"]
    engine.run(plan)

    # then its sub-plan is paused, and so is the plan once the others have ended: nothing ran twice
    assert sub_plans(plan) == {"h0": "paused/error", "h1": "stopped/success", "h2": "stopped/success"}
    assert outcome(plan) == "paused/error"

    # when somebody gives it up and resumes both, then the report says what nobody knows
    child = ExecutionPlan.objects.get(label="h0")
    control.skip(child.steps.get(phase="run"))
    control.resume(child)
    control.resume(plan)
    engine.run(plan)
    assert outcome(plan) == "stopped/success"
    assert statuses(plan) == {"h0": "lost", "h1": "succeeded", "h2": "succeeded"}
    assert "unknown whether its effects took place" in HostResult.objects.get(host="h0").error


# --- when somebody ends it -----------------------------------------------------------------------------------------


def cancelled_while_running(engine: Engine, plan: ExecutionPlan, output: Callable[[], object]) -> None:
    """Cancel `plan` once `output` is there, and let everything end."""
    engine.decide()
    with engine.working():
        wait_until(output, describe="the command runs")
        control.cancel(plan, by="ada")
        engine.decide()
    engine.run(plan)
    engine.pass_time(1)  # free places are filled a moment later
    engine.run(plan)


def test_cancelling_kills_what_runs_and_begins_nothing_more(engine: Engine, tmp_path: Path) -> None:
    # given a command that runs on two of three hosts, each with a child process
    command = (
        f"sleep 60 & echo $! $$ > {tmp_path}/$REX_HOST.new; mv {tmp_path}/$REX_HOST.new {tmp_path}/$REX_HOST; wait"
    )
    plan = trigger(RunOnHosts, hosts(3), command, concurrency=2)

    # when the plan is cancelled
    cancelled_while_running(engine, plan, lambda: len(list(tmp_path.glob("h?"))) == 2)

    # then the processes are gone, with all they started, and the report tells the killed from those never begun
    assert outcome(plan) == "stopped/cancelled"
    assert sub_plans(plan) == dict.fromkeys(["h0", "h1"], "stopped/cancelled")
    for file in tmp_path.glob("h?"):
        assert all(gone(int(pid)) for pid in file.read_text().split())
    errors = dict(HostResult.objects.values_list("host", "error"))
    assert Report.objects.get(plan_id=plan.pk).counts == {"cancelled": 3}
    assert ["killed" in errors[host] for host in ("h0", "h1", "h2")] == [True, True, False]


def test_cancelling_one_host_leaves_the_others_alone(engine: Engine) -> None:
    # given two hosts that have not begun, when one is cancelled
    plan = trigger(RunOnHosts, hosts(2), "true")
    make_sub_plans(engine)
    control.cancel(ExecutionPlan.objects.get(label="h1"))
    engine.run(plan)

    # then that is no failure of the plan
    assert outcome(plan) == "stopped/success"
    assert statuses(plan) == {"h0": "succeeded", "h1": "cancelled"}


def test_a_plan_that_is_cancelled_before_it_began_has_a_report_too(engine: Engine) -> None:
    plan = trigger(RunOnHosts, hosts(2), "true")
    control.cancel(plan)
    engine.run(plan)
    assert Report.objects.get(plan_id=plan.pk).counts == {"cancelled": 2}


def test_halting_says_lost_of_hosts_that_had_begun(engine: Engine) -> None:
    # given a host whose worker died, and one that waits for a worker
    plan = trigger(RunOnHosts, hosts(2), "true")
    make_sub_plans(engine)
    assert lose(1) == ["h0"]

    # when the plan is halted, then nobody waits for either
    control.halt(plan)
    engine.run(plan)
    assert statuses(plan) == {"h0": "lost", "h1": "cancelled"}


# --- once more -----------------------------------------------------------------------------------------------------


def test_running_one_host_again_corrects_the_report(engine: Engine, tmp_path: Path) -> None:
    # given a host on which something was missing
    plan = engine.run(trigger(RunOnHosts, hosts(2), f"test $REX_HOST = h0 || cat {tmp_path}/missing"))
    assert Report.objects.get().counts == {"succeeded": 1, "failed": 1}

    # when that is there, and its sub-plan is run again
    (tmp_path / "missing").touch()
    again = control.rerun(ExecutionPlan.objects.get(label="h1"))
    engine.run(again)

    # then its line and the totals are new, and the line names the plan that wrote it
    assert Report.objects.get(plan_id=plan.pk).counts == {"succeeded": 2}
    assert HostResult.objects.get(host="h1").plan_id == again.pk


def test_running_all_again_makes_another_report(engine: Engine) -> None:
    plan = engine.run(trigger(RunOnHosts, hosts(2), "true"))
    again = engine.run(control.rerun(plan))
    assert outcome(again) == "stopped/success"
    assert [report.counts for report in Report.objects.all()] == [{"succeeded": 2}] * 2
    assert statuses(again) == {"h0": "succeeded", "h1": "succeeded"}


# --- templates -----------------------------------------------------------------------------------------------------

SCRIPT = """\
# input: package
# input: version = 1.0
echo install {{ package }}-{{ version }} on {{ host }} at {{ site }}
"""


def test_a_template_is_rendered_for_each_host(engine: Engine) -> None:
    values = {"package": "it's; a $(trap)"}
    plan = engine.run(trigger(RunOnHosts, hosts(2), SCRIPT, script=True, values=values))
    assert statuses(plan) == {"h0": "succeeded", "h1": "succeeded"}
    assert sorted(OutputChunk.objects.values_list("text", flat=True)) == [
        f"install it's; a $(trap)-1.0 on h{n} at lab\n" for n in range(2)
    ]


def test_variables_that_do_not_fit_are_refused_before_anything_is_stored() -> None:
    with pytest.raises(TemplateError, match="package"):
        trigger(RunOnHosts, hosts(2), SCRIPT, script=True, values={})
    assert not Report.objects.exists()
    assert not ExecutionPlan.objects.exclude(state=PlanState.STOPPED).exists()
