"""The isolated action of the how-to about ending plans, in a module that its process can import."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.docs.following import FollowedPage

FILE = "DYNFLOW_TEST_CONVERTED"
memory: list[str] = []


def convert(file: str) -> None:
    """Remember it here, which does not survive, and in a file, which does."""
    memory.append(file)
    Path(os.environ[FILE]).write_text(f"{os.getpid()} {' '.join(memory)}")


_page = FollowedPage("end-a-plan", sys.modules[__name__])
_page.follow()
_page.skip(2)
_page.follow()
