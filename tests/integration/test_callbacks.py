"""Callback URLs: whoever has one may send one event to one step, until it expires. Nobody else may do anything."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from django.db import OperationalError, connection
from django.http import HttpResponse
from django.test import Client

from dynflow_app import clock
from dynflow_app.callbacks.tokens import callback_url
from dynflow_app.callbacks.views import BODY_LIMIT
from dynflow_app.models import Event, ExecutionPlan, Step
from dynflow_app.states import StepState
from dynflow_app.triggering import trigger
from tests.engine import Engine, outcome
from tests.support import REPOSITORY
from tests.testapp.journal import Journal
from tests.testapp.polling import WaitForCallback

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

BASE = "https://example.org/dynflow/callbacks/"
DAY = 24 * 3600.0


@pytest.fixture(autouse=True)
def _callback_url(settings: SettingsWrapper) -> None:
    settings.DYNFLOW = {**settings.DYNFLOW, "CALLBACK_URL": BASE}


@pytest.fixture
def plan(engine: Engine, journal: Journal) -> ExecutionPlan:
    """A plan whose only step waits for a callback; its URL is in the journal."""
    waiting = trigger(WaitForCallback)
    engine.run(waiting)
    assert step_of(waiting).state == StepState.SUSPENDED
    return waiting


@pytest.fixture
def url(plan: ExecutionPlan, journal: Journal) -> str:
    """The URL that the step of `plan` has handed out."""
    return journal.lines[0]


def step_of(plan: ExecutionPlan) -> Step:
    return Step.objects.select_related("action").get(plan=plan)


def post(url: str, body: Any = b"", content_type: str = "application/json") -> HttpResponse:
    """Post as an outside system does: without session and without CSRF token."""
    client = Client(enforce_csrf_checks=True, raise_request_exception=True)
    answer: HttpResponse = client.post(urlsplit(url).path, body, content_type=content_type)
    return answer


def refusal(answer: HttpResponse) -> tuple[int, str]:
    """Status and type of a problem."""
    assert answer["Content-Type"] == "application/problem+json"
    assert answer["Cache-Control"] == "no-store"
    problem = json.loads(answer.content)
    assert problem["status"] == answer.status_code
    assert problem["title"]
    assert problem["detail"]
    return answer.status_code, problem["type"]


@pytest.mark.django_db(transaction=True)
def test_what_is_posted_reaches_the_step_that_waits_for_it(engine: Engine, plan: ExecutionPlan, url: str) -> None:
    # given a step that handed out a URL below the address of the setting
    assert url.startswith(BASE)

    # when somebody posts to it
    answer = post(url, {"disk": ["a", 1, None]})

    # then it is accepted, and the step gets it
    assert (answer.status_code, json.loads(answer.content)) == (202, {"accepted": True})
    engine.run(plan)
    assert outcome(plan) == "stopped/success"
    assert step_of(plan).action.output == {"name": "finished", "data": {"disk": ["a", 1, None]}}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json"])
def test_a_post_without_body_is_an_event_without_data(
    engine: Engine, plan: ExecutionPlan, url: str, content_type: str
) -> None:
    assert post(url, b"", content_type).status_code == 202

    engine.run(plan)
    assert step_of(plan).action.output == {"name": "finished", "data": None}


@pytest.mark.django_db(transaction=True)
def test_a_url_is_good_for_one_event(engine: Engine, plan: ExecutionPlan, url: str) -> None:
    # given a URL that was used
    post(url, {"n": 1})

    # when it is used again, before and after the step has ended
    assert refusal(post(url, {"n": 2})) == (409, "used")
    engine.run(plan)
    assert refusal(post(url, {"n": 2}))[0] == 409

    # then the first event is the only one
    assert [event.data for event in Event.objects.all()] == [{"n": 1}]


@pytest.mark.django_db(transaction=True)
def test_a_url_sends_to_its_own_step_only(engine: Engine, plan: ExecutionPlan, url: str) -> None:
    # given another plan that waits, too
    other = trigger(WaitForCallback)
    engine.run(other)

    # when somebody posts to the first one's URL
    post(url, {"n": 1})
    engine.run()

    # then the other one goes on waiting
    assert outcome(plan) == "stopped/success"
    assert outcome(other) == "running/pending"


@pytest.mark.django_db(transaction=True)
def test_nobody_listens_once_the_step_has_ended(engine: Engine, plan: ExecutionPlan, url: str) -> None:
    # given two URLs of one step, of which one has made it succeed
    second = callback_url(step_of(plan).pk, "finished", DAY)
    post(url)
    engine.run(plan)

    # when the other is used
    # then that is refused
    assert refusal(post(second)) == (409, "finished")

    # and when the plan is gone, there is nothing
    plan.delete()
    assert refusal(post(second)) == (404, "not-found")


@pytest.mark.django_db(transaction=True)
def test_a_token_with_any_byte_altered_is_worth_nothing(url: str) -> None:
    # given a valid token
    token = url.removeprefix(BASE).rstrip("/")

    # when any one character is another, is missing, or is there twice
    altered = {
        f"{token[:n]}{change}{token[n + 1 :]}"
        for n, old in enumerate(token)
        for change in ("", "A" if old != "A" else "B", "=" if n % 2 else "%3A", old * 2)
        if not old == ":" == change.replace("%3A", ":")
    }

    # then all that is said is that there is nothing
    answers = {refusal(post(f"{BASE}{each}/")) for each in altered - {""}}
    assert answers == {(404, "not-found")}
    assert not Event.objects.exists()
    assert post(url).status_code == 202


@pytest.mark.django_db(transaction=True)
def test_an_expired_url_is_gone(plan: ExecutionPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a URL that is good for an hour
    url = callback_url(step_of(plan).pk, "finished", 3600)

    # when the hour has passed
    later = clock.now() + timedelta(hours=1, seconds=1)
    with monkeypatch.context() as patch:
        patch.setattr(clock, "now", lambda: later)
        answer = post(url)

    # then it is refused, and by a clock that is set back it would not have been
    assert refusal(answer) == (410, "expired")
    assert post(url).status_code == 202


@pytest.mark.django_db(transaction=True)
def test_a_url_that_was_good_for_no_time_has_expired(plan: ExecutionPlan) -> None:
    assert refusal(post(callback_url(step_of(plan).pk, "finished", 0))) == (410, "expired")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_only_a_post_does_anything(url: str, method: str) -> None:
    answer = Client().generic(method, urlsplit(url).path)

    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert not Event.objects.exists()
    assert post(url).status_code == 202


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "body",
    [
        b"{", b"{}x", b"NaN", b"1e400", b"1e17", b"[" * 50_000, b"[" * 65 + b"]" * 65, b"\xff", b'"\\ud800"',
        b'"\\u0000"', b'{"$output": 1}', b'{"\\u0000": 1}', b"9" * 5000, b" ",
    ],
)  # fmt: skip
def test_what_cannot_be_stored_is_refused_and_the_url_stays_good(url: str, body: bytes) -> None:
    assert refusal(post(url, body)) == (400, "invalid-input")

    assert not Event.objects.exists()
    assert post(url, {"n": 1}).status_code == 202


@pytest.mark.django_db(transaction=True)
def test_a_body_has_a_limit(url: str) -> None:
    # given a body of the largest size, and one that is a byte longer
    largest = b'"' + b"a" * (BODY_LIMIT - 2) + b'"'

    # when they are posted
    # then the longer one is refused
    assert refusal(post(url, largest + b" ")) == (413, "too-large")
    assert refusal(post(url, b"a" * 10_000_000)) == (413, "too-large")
    assert post(url, largest).status_code == 202


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"],
)
def test_only_json_is_read(url: str, content_type: str) -> None:
    assert refusal(post(url, b'{"n": 1}', content_type)) == (415, "unsupported-media-type")
    assert not Event.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("content_type", ["Application/JSON; charset=utf-8", "application/cloudevents+json"])
def test_json_has_many_names(url: str, content_type: str) -> None:
    assert post(url, b'{"n": "\xc3\xa9"}', content_type).status_code == 202
    assert Event.objects.get().data == {"n": "é"}


@pytest.mark.django_db(transaction=True)
def test_while_the_database_is_away_the_sender_is_asked_to_try_again(url: str) -> None:
    # given a database that answers nothing
    def away(*args: Any) -> Any:
        raise OperationalError("server closed the connection unexpectedly")

    # when somebody posts
    with connection.execute_wrapper(away):
        answer = post(url)

    # then the same request may be made later
    assert refusal(answer) == (503, "unavailable")
    assert int(answer["Retry-After"]) > 0
    assert post(url).status_code == 202


@pytest.mark.django_db(transaction=True)
def test_a_token_is_never_logged(url: str, caplog: pytest.LogCaptureFixture) -> None:
    # given a log that misses nothing
    caplog.set_level(logging.DEBUG)
    token = url.removeprefix(BASE).rstrip("/")

    # when the URL is used in wrong ways, and in the right one
    Client().get(urlsplit(url).path)
    for body, content_type in ((b"{", "application/json"), (b"a" * 100_000, "text/plain"), (b"a", "text/plain")):
        post(url, body, content_type)
    post(f"{BASE}{token[:-1]}/")
    assert [post(url).status_code for _ in range(2)] == [202, 409]

    # then it is nowhere in the log
    assert token[:-1] not in caplog.text


PROGRAM = """
import sys
sys.modules["rest_framework"] = sys.modules["django_filters"] = sys.modules["django_rq"] = None
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["dynflow_app"], DYNFLOW={"EXECUTOR": "in-process"}, USE_TZ=True)
django.setup()
import dynflow_app.callbacks.urls
"""


def test_callbacks_need_nothing_but_django() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
