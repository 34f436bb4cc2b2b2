"""Output: from bytes in any pieces to text in whole lines."""

from __future__ import annotations

import pytest

from project.rex.connections import output
from project.rex.connections.output import OutputStream


def passed_on(*pieces: bytes) -> tuple[list[str], OutputStream]:
    """Feed ``pieces`` and return the texts that came out."""
    texts: list[str] = []
    stream = OutputStream("stdout", lambda _name, text: texts.append(text))
    for piece in pieces:
        stream.feed(piece)
    stream.close()
    return texts, stream


@pytest.mark.parametrize(
    ("pieces", "texts"),
    [
        ([b"a\nb\n"], ["a\nb\n"]),
        ([b"a", b"b\nc", b"d"], ["ab\n", "cd"]),
        ([b"caf\xc3", b"\xa9\n"], ["caf\u00e9\n"]),
        ([b"\xff\n"], ["\ufffd\n"]),
        ([b"end \xe2\x82"], ["end \ufffd"]),
        ([b"nul \0\n"], ["nul \ufffd\n"]),
        ([], []),
        ([b"", b"\n"], ["\n"]),
    ],
)
def test_lines_are_whole_and_characters_too(pieces: list[bytes], texts: list[str]) -> None:
    assert passed_on(*pieces)[0] == texts


def test_a_line_without_end_is_passed_on_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MAX_LINE", 4)

    assert passed_on(b"abc", b"def", b"g")[0] == ["abcdef", "g"]


def test_a_stream_that_never_ends_is_cut_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MAX_STREAM", 6)

    texts, stream = passed_on(b"abc\n", b"defg\n", b"last\n")

    assert texts == ["abc\n", "de\n[more output was not kept]\n"]
    assert stream.last_line == "last"


def test_the_last_line_is_the_last_that_says_something() -> None:
    assert passed_on(b"first\n  second \n\n \n")[1].last_line == "second"
    assert len(passed_on(b"x" * 1000)[1].last_line) == output.MAX_ERROR
