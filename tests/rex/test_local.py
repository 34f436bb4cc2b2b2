"""Commands on this machine: outcomes, output, and that nothing survives a time limit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from project.rex.connections import Command, Result, Status, UnreachableError, execute, limits, local
from project.rex.connections.supervision import STOP_GRACE
from project.rex.inventory import Connection, Host

from .helpers import PATIENCE, Caught, cancelled_after_output, gone, run

HERE = Host("here", connection=Connection.LOCAL)


def test_a_command_that_succeeds() -> None:
    result, caught = run(HERE, Command("echo one; echo two >&2"))

    assert (result.status, result.exit_code, result.error) == (Status.SUCCEEDED, 0, "")
    assert (caught.text(), caught.text("stderr")) == ("one\n", "two\n")
    assert 0 < result.seconds < PATIENCE
    assert result.as_output()["status"] == "succeeded"


@pytest.mark.parametrize(
    ("text", "exit_code", "error"),
    [
        ("exit 3", 3, "exit code 3"),
        ("echo first >&2; echo '  last ' >&2; echo >&2; exit 1", 1, "last"),
        ("no-such-command-anywhere", 127, "not found"),
        ("kill -9 $$", 137, "killed by SIGKILL"),
        ("if", 2, "yntax error"),
    ],
)
def test_a_command_that_fails_says_why(text: str, exit_code: int, error: str) -> None:
    result, _ = run(HERE, Command(text))

    assert (result.status, result.exit_code) == (Status.FAILED, exit_code)
    assert error in result.error


def test_a_command_has_no_input_and_only_a_session_s_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    command = Command("cat; echo $DATABASE_PASSWORD-$REX_SITE", environment={"REX_SITE": "a b"})

    _, caught = run(HERE, command)

    assert caught.text() == "-a b\n"


def test_a_script_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    script = 'stat -c %a "$0"; dirname "$0"; echo "$0"'

    _, caught = run(HERE, Command(script, script=True))

    mode, _folder, name = caught.text().splitlines()
    assert mode == "700"
    assert not Path(name).exists()


def test_a_script_may_name_its_interpreter() -> None:
    script = f"#!{sys.executable} -I\nimport sys\nprint(sys.flags.isolated)\nsys.exit(5)\n"

    result, caught = run(HERE, Command(script, script=True))

    assert (result.exit_code, caught.text()) == (5, "1\n")


def test_an_interpreter_that_does_not_exist_is_a_failure() -> None:
    result, _ = run(HERE, Command("#!/no/such/interpreter\n", script=True))

    assert (result.status, result.exit_code) == (Status.FAILED, 127)
    assert result.error == "/no/such/interpreter: No such file or directory"


def test_a_process_that_cannot_be_started_is_unreachable() -> None:
    with pytest.raises(UnreachableError, match="Argument list too long"):
        run(HERE, Command("true " + "x" * 3_000_000))


def test_the_time_limit_kills_the_whole_process_group() -> None:
    result, caught = run(HERE, Command("sleep 60 & echo $! $$; sleep 60", time_limit=0.3))

    assert (result.status, result.exit_code) == (Status.TIMED_OUT, None)
    assert result.error == "killed after its time limit of 0.3 s"
    assert all(gone(int(pid)) for pid in caught.text().split())


def test_what_ignores_sigterm_is_killed_after_the_grace_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "STOP_GRACE", 0.1)
    command = Command("trap '' TERM; echo $$; sleep 60 & echo $!; wait", time_limit=0.2)

    result, caught = run(HERE, command)

    assert result.status is Status.TIMED_OUT
    assert all(gone(int(pid)) for pid in caught.text().split())


def test_a_command_may_end_well_in_its_grace_time() -> None:
    command = Command("trap 'echo bye; exit 0' TERM; sleep 60 & wait", time_limit=0.3)

    result, caught = run(HERE, command)

    assert (result.status, caught.text()) == (Status.TIMED_OUT, "bye\n")


def test_cancellation_kills_the_whole_process_group() -> None:
    command = Command("sleep 60 & echo $! $$; sleep 60")

    caught = asyncio.run(cancelled_after_output(HERE, command))

    assert all(gone(int(pid)) for pid in caught.text().split())


def test_a_second_cancellation_kills_at_once() -> None:
    command = Command("exec 2>&-; trap 'echo no' TERM; echo $$; while :; do sleep 0.1; done")

    async def main() -> Caught:
        caught = Caught()
        task = asyncio.create_task(execute(HERE, command, caught))
        for _ in range(2):
            await asyncio.wait_for(caught.arrived.wait(), PATIENCE)
            caught.arrived.clear()
            task.cancel()
        await asyncio.wait([task], timeout=STOP_GRACE / 2)
        assert task.cancelled()
        return caught

    pid, answer = asyncio.run(main()).text().split()

    assert answer == "no"
    assert gone(int(pid))


def test_many_at_once_do_not_mix() -> None:
    async def main() -> list[str]:
        streams = [Caught() for _ in range(20)]
        commands = (execute(HERE, Command(f"echo {n}"), caught) for n, caught in enumerate(streams))
        await asyncio.gather(*commands)
        return [caught.text() for caught in streams]

    assert asyncio.run(main()) == [f"{number}\n" for number in range(20)]


def test_no_more_at_a_time_than_the_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(limits.LIMITS, Connection.LOCAL, 1)
    command = Command(f"mkdir {tmp_path}/alone && sleep 0.01 && rmdir {tmp_path}/alone")

    async def main() -> list[Result]:
        return await asyncio.gather(*(execute(HERE, command, Caught()) for _ in range(5)))

    assert {result.status for result in asyncio.run(main())} == {Status.SUCCEEDED}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"text": " \n"}, "empty"),
        ({"text": "x", "time_limit": 0}, "above 0"),
        ({"text": "a\0b"}, "NUL"),
        ({"text": "x", "environment": {"A": "\0"}}, "NUL"),
        ({"text": "x", "environment": {"A=B": "c"}}, "no name of an environment variable"),
    ],
)
def test_commands_that_no_shell_could_run(arguments: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Command(**arguments)  # type: ignore[arg-type]


def test_local_commands_do_not_import_the_ssh_library() -> None:
    code = (
        "import asyncio, sys; from project.rex.connections import *; from project.rex.inventory import *;"
        "host = Host('h', connection=Connection.LOCAL);"
        "asyncio.run(execute(host, Command('true'), print)); sys.exit('asyncssh' in sys.modules)"
    )

    folder = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=folder).returncode == 0
