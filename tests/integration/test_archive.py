"""The archive of a clean-up: what is deleted is in it, whole, and no secret is."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dynflow_app.exceptions import ArchiveError
from dynflow_app.models import (
    Event,
)
from dynflow_app.payloads.sealing import sealed
from dynflow_app.retention import Archive
from dynflow_app.retention.records import FORMAT
from tests.factories import (
    AttemptFactory,
    ChunkFactory,
    HistoryFactory,
    StepFactory,
    add_steps,
)

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

from tests.integration.old_plans import FAN, clean, left, old_plan, records, sub_plan

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("name", ["plans.jsonl", "plans.jsonl.gz"])
def test_the_archive_has_all_of_each_plan(tmp_path: Path, name: str) -> None:
    # given a plan with everything
    plan = old_plan(label="Night", tags=["a"], triggered_by="ada", result="warning")
    step = StepFactory(plan=plan, state="success", attempt=2, action__name="a.B", action__output={"size": 3})
    AttemptFactory(step=step)
    AttemptFactory(step=step, number=2, ended_as="succeeded", error=None)
    Event.objects.create(step=step, name="go", data={"n": 1}, state="handled", attempt=1)
    HistoryFactory(plan=plan)
    ChunkFactory(action=step.action, text="hello\n")
    child = sub_plan(plan)
    path = tmp_path / name

    # when it is cleaned up into an archive, twice with other plans in between
    with Archive(path) as archive:
        clean(archive=archive)
    old_plan(label="Later")
    with Archive(path) as archive:
        clean(archive=archive)

    # then the lines are there
    found = {record["plan"]["id"]: record for record in records(path)}
    assert len(records(path)) == len(found) == 3
    record = found[str(plan.pk)]
    assert record["format"] == FORMAT
    told = record["plan"]
    assert (told["label"], told["action"], told["result"], told["tags"]) == ("Night", FAN, "warning", ["a"])
    assert told["ended_at"] == plan.ended_at.isoformat()
    (action,) = record["actions"]
    assert (action["number"], action["name"]) == (1, "a.B") or action["name"] == "a.B"
    assert (action["input"], action["output"]) == ({"host": "h1"}, {"size": 3})
    assert [(each["number"], each["phase"], each["state"]) for each in record["steps"]] == [
        (step.number, "run", "success")
    ]
    assert [(each["step"], each["number"], each["ended_as"]) for each in record["attempts"]] == [
        (step.number, 1, "failed"),
        (step.number, 2, "succeeded"),
    ]
    assert record["attempts"][0]["error"]["message"] == "host h1 did not answer"
    assert [(each["step"], each["name"], each["data"]) for each in record["events"]] == [(step.number, "go", {"n": 1})]
    assert [(each["verb"], each["actor"]) for each in record["history"]] == [("resume", "ada")]
    assert [each["text"] for each in record["logs"]] == ["hello\n"]
    below = found[str(child.pk)]
    assert (below["plan"]["parent"], below["plan"]["parent_step"]) == (str(plan.pk), step.number)
    assert below["actions"] == below["steps"] == []


def test_the_archive_says_who_ran_a_step_that_succeeded_at_once(tmp_path: Path) -> None:
    step = StepFactory(plan=old_plan(), state="success")

    with Archive(tmp_path / "plans.jsonl") as archive:
        clean(archive=archive)

    ((told,),) = (record["steps"] for record in records(tmp_path / "plans.jsonl"))
    assert (told["state"], told["attempt"], told["worker"]) == ("success", 1, step.worker)
    assert (told["started_at"], told["ended_at"]) == (step.started_at.isoformat(), step.ended_at.isoformat())


def test_the_archive_does_not_mix_up_plans(tmp_path: Path) -> None:
    expected = {}
    for n in range(25):
        plan = old_plan(label=str(n))
        add_steps(plan, n % 4, "error")
        if n % 3:
            HistoryFactory(plan=plan, reason=str(n))
        expected[str(n)] = (n % 4, [str(n)] if n % 3 else [])

    with Archive(tmp_path / "a.jsonl.gz") as archive:
        clean(archive=archive, batch=7)

    found = records(tmp_path / "a.jsonl.gz")
    told = {
        each["plan"]["label"]: (len(each["steps"]), [entry["reason"] for entry in each["history"]]) for each in found
    }
    assert told == expected
    assert all(len(each["actions"]) == len(each["steps"]) == len(each["attempts"]) for each in found)


def test_secrets_are_masked_in_the_archive(tmp_path: Path, settings: SettingsWrapper) -> None:
    from cryptography.fernet import Fernet

    # given secrets of every kind: by name, sealed as they are, sealed by encryption
    secret = "hunter2-" * 3
    plan = old_plan()
    plain = sealed(secret)
    settings.DYNFLOW = {**settings.DYNFLOW, "ENCRYPTION_KEYS": (Fernet.generate_key().decode(),)}
    encrypted = sealed(secret)
    step = StepFactory(plan=plan, state="success", action__input={"password": secret, "pin": plain, "key": encrypted})
    Event.objects.create(step=step, name="go", data={"token": secret, "x": [plain]}, state="handled")
    path = tmp_path / "plans.jsonl"

    # when the plan is archived
    with Archive(path) as archive:
        clean(archive=archive)

    # then no secret was opened, and the file is for its owner only
    (record,) = records(path)
    assert record["actions"][0]["input"].keys() == {"password", "pin", "key"}
    assert secret not in path.read_text()
    assert encrypted["$sealed"] not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["plans.jsonl", "plans.jsonl.gz"])
@pytest.mark.parametrize("cut", [1, 40, 5])
def test_what_a_crash_has_torn_is_cut_off(tmp_path: Path, name: str, cut: int) -> None:
    # given an archive whose last line, or member, was torn by a crash
    path = tmp_path / name
    for n in range(2):
        old_plan(label=str(n))
        with Archive(path) as archive:
            clean(archive=archive)
        if not n:
            whole = path.stat().st_size
    data = path.read_bytes()
    path.write_bytes(data[:-cut] if cut != 5 else data[: whole + 5])

    # when more is archived, then what was whole is there, and the new
    old_plan(label="new")
    with Archive(path) as archive:
        clean(archive=archive)
    assert [record["plan"]["label"] for record in records(path)] == ["0", "new"]


@pytest.mark.parametrize("name", ["mine.txt", "mine.gz"])
def test_a_file_that_is_something_else_is_not_touched(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"my letters\nand more" if name.endswith("txt") else gzip.compress(b"my letters\n"))
    before = path.read_bytes()

    with pytest.raises(ArchiveError, match="something else"), Archive(path):
        pass

    assert path.read_bytes() == before


def test_a_damaged_archive_is_not_cut_off(tmp_path: Path) -> None:
    """Whole members may come after the damage."""
    path = tmp_path / "plans.gz"
    for _ in range(2):
        old_plan()
        with Archive(path) as archive:
            clean(archive=archive)
    data = bytearray(path.read_bytes())
    data[40] ^= 0xFF
    path.write_bytes(data)

    with pytest.raises(ArchiveError, match="damaged after byte 0"), Archive(path):
        pass
    assert path.read_bytes() == data


def test_two_processes_do_not_write_to_one_archive(tmp_path: Path) -> None:
    path = tmp_path / "plans.jsonl"
    with Archive(path), pytest.raises(ArchiveError, match="Another process"), Archive(path):
        pass


def test_what_cannot_be_archived_is_not_deleted(tmp_path: Path) -> None:
    # given an archive on a device that is full
    old_plan()
    before = left()
    path = tmp_path / "plans.jsonl"

    # when it is cleaned up, then nothing is gone
    with Archive(path) as archive:
        archive._file.close()  # type: ignore[union-attr]
        archive._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115, PTH123
        with pytest.raises(ArchiveError, match="No space left"):
            clean(archive=archive)
    assert left() == before


def test_what_goes_wrong_while_writing_leaves_no_torn_line(tmp_path: Path) -> None:
    def pieces() -> Iterator[str]:
        yield '{"half":'
        yield "x" * 200_000
        raise RuntimeError("database is away")

    for name in ("a.jsonl", "a.gz"):
        with Archive(tmp_path / name) as archive:
            archive.append(['{"format":"dynflow-plan/1",', '"n":1}\n'])
            with pytest.raises(RuntimeError):
                archive.append(pieces())
            archive.append(['{"format":"dynflow-plan/1",', '"n":2}\n'])
        assert [record["n"] for record in records(tmp_path / name)] == [1, 2]
