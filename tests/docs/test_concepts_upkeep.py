"""What the how-to about cleaning up promises: its examples run, and what it lists is what exists."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.db.models import F

from dynflow_app import clock
from dynflow_app.management.commands.dynflow_cleanup import Command
from dynflow_app.models import Action, ExecutionPlan, ResourceLink, ResourceLock
from dynflow_app.planning import ActionPreview, Preview, StepPreview
from dynflow_app.retention import Archive, Selection, clean_up
from dynflow_app.retention.action import Cleanup
from dynflow_app.triggering import trigger
from tests.docs.blocks import DOCS, blocks, table
from tests.docs.following import FollowedPage
from tests.engine import Engine, outcome
from tests.factories import AttemptFactory, ChunkFactory, HistoryFactory

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db(transaction=True)
LISTED = "large plan."
COMMAND = "manage.py dynflow_cleanup --archive /srv/archive/plans.jsonl.gz"
PAGE = DOCS / "how-to" / "clean-up.md"
Open = Callable[..., FollowedPage]


@pytest.fixture
def followed(page: Open, settings: SettingsWrapper) -> FollowedPage:
    found = page("clean-up", answers=lambda host: True, pay=lambda invoice: "receipt 1")
    found.follow(2)
    settings.DYNFLOW = {**settings.DYNFLOW, **found["DYNFLOW"]}
    return found


def pass_days(days: float) -> None:
    ExecutionPlan.objects.filter(ended_at__isnull=False).update(ended_at=F("ended_at") - timedelta(days=days))


def test_each_plan_is_kept_as_long_as_its_action_or_the_setting_says(followed: FollowedPage, engine: Engine) -> None:
    plans = [trigger(followed["CheckHost"], host="web-1"), trigger(followed["PayInvoice"], invoice=7)]
    for plan in plans:
        assert outcome(engine.run(plan)) == "stopped/success"
    pass_days(3)
    call_command("dynflow_cleanup", "--quiet")
    assert set(ExecutionPlan.objects.all()) == {plans[1]}
    pass_days(10_000)
    call_command("dynflow_cleanup", "--older-than", "90", "--quiet")
    assert set(ExecutionPlan.objects.all()) == {plans[1]}

    # And the same as an action
    followed.follow()
    plan = followed["plan"]
    given = plan.actions.get().input
    assert (given["older_than_days"], given["archive"]) == (90, "/srv/archive/plans.jsonl.gz")
    Action.objects.filter(plan=plan).update(input={**given, "archive": None})
    assert outcome(engine.run(plan)) == "stopped/success"
    assert Cleanup.keep_for == timedelta(days=30)


def test_the_options_are_those_of_the_command(followed: FollowedPage) -> None:
    followed.follow()
    parser = ArgumentParser(add_help=False)
    Command().add_arguments(parser)
    documented = [row[0].strip("`").split()[0] for row in table(PAGE, COMMAND)]
    assert documented == [action.option_strings[0] for action in parser._actions]


def test_the_archive_has_the_keys_of_the_example(followed: FollowedPage, engine: Engine, tmp_path: Path) -> None:
    followed.follow()
    plan = engine.run(trigger(followed["CheckHost"], host="web-1"))
    step = plan.steps.get()
    AttemptFactory(step=step, number=0)
    step.events.create(name="x", state="handled")
    HistoryFactory(plan=plan)
    ResourceLock.objects.create(plan=plan, resource="text:rack 7", state="unlocked")
    ResourceLink.objects.create(plan=plan, resource="hosts.host:1")
    ChunkFactory(action=plan.actions.get())
    ResourceLock.objects.create(plan=plan, resource="text:h1", state="unlocked")
    ResourceLink.objects.create(plan=plan, resource="text:h1")
    with Archive(tmp_path / "plans.jsonl") as archive:
        list(clean_up(Selection(older_than=timedelta(), actions=(plan.action,)), archive=archive))
    record = json.loads((tmp_path / "plans.jsonl").read_text())
    (example,) = (json.loads(block.text) for block in blocks(PAGE) if block.language == "json")
    assert example.keys() == record.keys()
    assert example["format"] == record["format"]
    for part, shown in example.items():
        if shown and part != "format":
            assert _keys(shown) <= _keys(record[part]), part
    assert record["plan"]["ended_at"] <= clock.now().isoformat()


def test_a_preview_has_what_its_page_lists(page: Open) -> None:
    found = page("preview", create_disk=None, install=None)
    found.follow(2)
    listed = {row[0].strip("`"): row[1] for row in table(found.path, LISTED)}
    names = {name for name, value in vars(Preview).items() if isinstance(value, property)}
    assert listed.keys() == names | {each.name for each in fields(Preview)}
    for part, kind in (("actions", ActionPreview), ("steps", StepPreview)):
        assert set(re.findall(r"`(\w+)`", listed[part])) == {each.name for each in fields(kind)}
    assert not ExecutionPlan.objects.exists()


def _keys(part: Any) -> set[str]:
    return set(part[0] if isinstance(part, list) else part)
