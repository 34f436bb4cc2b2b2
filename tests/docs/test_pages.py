"""The other pages: their code runs or at least is Python, their links lead somewhere, the README keeps its promise."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dynflow_app.conf import KNOWN_KEYS
from tests.docs.blocks import DOCS, REPOSITORY, blocks, run_code

if TYPE_CHECKING:
    from tests.docs.project_of_page import ReadersProject
    from tests.engine import Engine

README = REPOSITORY / "README.md"
PAGES = [README, REPOSITORY / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = _LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).resolve().exists()] == []


def test_the_index_lists_every_page() -> None:
    listed = {(DOCS / link).resolve() for link in _LINK.findall((DOCS / "index.md").read_text(encoding="utf-8"))}
    assert listed == set(DOCS.rglob("*.md")) - {DOCS / "index.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_is_python(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, f"{page.name}:{block.line}", "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_in_examples_exist(page: Path) -> None:
    for block in blocks(page):
        for keys in re.findall(r"^DYNFLOW = \{(.*?)\}", block.text, re.MULTILINE):
            assert set(re.findall(r'"(\w+)":', keys)) <= KNOWN_KEYS, f"{page.name}:{block.line}"


@pytest.mark.django_db(transaction=True)
def test_the_first_screen_of_the_readme(readers_project: Callable[[Path], ReadersProject]) -> None:
    project = readers_project(README)
    project.follow()
    plan = project.namespace["plan"].wait()
    steps = plan.steps.select_related("action").order_by("number")
    seen = [f"ProvisionHost {plan.state}, {plan.result}"]
    seen += [f"{step.number} {step.phase} {step.action.class_name} {step.state}" for step in steps]
    (tree,) = [block for block in blocks(README) if block.language == "text"]
    promised = [" ".join(re.sub("[├└─]", " ", line).split()) for line in tree.text.splitlines()]
    assert promised == seen


@pytest.mark.django_db(transaction=True)
def test_idempotent_steps(engine: Engine) -> None:
    from dynflow_app.triggering import trigger

    page = DOCS / "how-to" / "write-idempotent-steps.md"
    namespace: dict[str, object] = {"__name__": __name__}
    for block in blocks(page):
        run_code(block, namespace)
    engine.run(trigger(namespace["AddToGroup"], group="staff", user="ada"))
    engine.run(trigger(namespace["Charge"]))
    engine.run(trigger(namespace["Announce"], "it works"))
    assert namespace["directory"] == {"staff": {"ada"}}
    assert list(namespace["payments"].values()) == ["receipt 1"]
    assert namespace["announcements"] == ["it works"]


@pytest.mark.django_db(transaction=True)
def test_rescuing(engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from dynflow_app.triggering import trigger
    from tests.docs.breaking import Outage, TwoParts

    monkeypatch.setattr(Outage, "attempts", 0)
    plan = engine.run(trigger(TwoParts))
    namespace: dict[str, object] = {"user": "ada"}
    code = [block for block in blocks(DOCS / "how-to" / "rescue-a-paused-plan.md") if block.language == "python"]
    find, resume, retry, skip, rerun, in_bulk = code
    run_code(find, namespace)
    assert namespace["plan"] == plan
    assert capsys.readouterr().out == f"{plan.pk} 2 Outage ConnectionError nobody answers\n"
    for again in (resume, retry):
        run_code(again, namespace)
        engine.run(plan)
        assert plan.state == "paused", "the outage is not over"
    run_code(skip, namespace)
    engine.run(plan)
    assert (plan.state, plan.result) == ("stopped", "warning")
    assert Outage.attempts == 3, "once, resumed, retried, but not after the skip"
    run_code(rerun, namespace)
    engine.run(namespace["again"])
    assert [entry.verb for entry in plan.history.order_by("pk")] == ["resume", "retry", "skip", "resume", "rerun"]
    assert [action.input for action in namespace["again"].actions.order_by("number")] == [{}, {}, {"host": "web-2"}]
    assert namespace["again"].state == "paused", "the outage is still not over"
    capsys.readouterr()
    monkeypatch.setattr(Outage, "is_over", True)
    run_code(in_bulk, namespace)
    assert capsys.readouterr().out == "1 {} {}\n"
    assert (engine.run(namespace["again"]).result, Outage.attempts) == ("success", 5)
