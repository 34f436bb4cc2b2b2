"""A page whose blocks are followed one by one, as the module of actions that its reader writes."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from tests.docs.blocks import DOCS, blocks, run_code, run_dialogue

MODULE = "hosts.actions"
"""Where the pages' actions are defined, as their dialogues show."""


class FollowedPage:
    """The python and pycon blocks of one how-to, run in the names of one module."""

    def __init__(self, name: str, module: ModuleType) -> None:
        self.path = DOCS / "how-to" / f"{name}.md"
        self.names: dict[str, Any] = vars(module)
        self.names["user"] = "ada"
        self._ahead = [block for block in blocks(self.path) if block.language in ("python", "pycon")]

    def __getitem__(self, name: str) -> Any:
        """What the page, or the test, calls `name`."""
        return self.names[name]

    def __setitem__(self, name: str, value: object) -> None:
        self.names[name] = value

    def follow(self, count: int = 1) -> None:
        """Run the next blocks."""
        for _ in range(count):
            block = self._ahead.pop(0)
            (run_dialogue if block.language == "pycon" else run_code)(block, self.names)

    def skip(self, count: int = 1) -> None:
        """Leave the next blocks out."""
        del self._ahead[:count]

    @property
    def is_read(self) -> bool:
        """Whether the end was reached."""
        return not self._ahead
