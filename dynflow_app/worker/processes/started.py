"""Which claimed steps have started, in memory shared with the process that forked this one.

When a child dies, its supervisor reads here which steps' user code may have begun: those have an unknown outcome, the
others go back unharmed. A slot is taken when a step is claimed and freed when its outcome is in the ledger.
"""

from __future__ import annotations

import mmap
import struct

SLOTS = 4096
_EMPTY = 0


class StartedSteps:
    """Slots of eight bytes: the id of a started step, or zero. One extra slot counts finished steps."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, (SLOTS + 1) * 8)
        self._cells = memoryview(self._memory).cast("Q")
        self._free = list(range(SLOTS))
        self._slot_of: dict[int, int] = {}

    @property
    def room(self) -> int:
        """How many more steps may be claimed."""
        return len(self._free)

    def claimed(self, step_id: int) -> None:
        """Reserve a slot; the step has not started."""
        self._slot_of[step_id] = self._free.pop()

    def start(self, step_id: int) -> None:
        """User code is about to begin."""
        self._cells[self._slot_of[step_id]] = step_id

    def recorded(self, step_id: int) -> None:
        """The ledger knows what became of the step."""
        slot = self._slot_of.pop(step_id, None)
        if slot is not None:
            self._cells[slot] = _EMPTY
            self._free.append(slot)
            self._cells[SLOTS] += 1

    @property
    def known(self) -> frozenset[int]:
        """Ids of the steps this process holds."""
        return frozenset(self._slot_of)

    # --- read by the supervisor ------------------------------------------------------------------------------

    def started(self) -> frozenset[int]:
        """Ids of the steps that started and are not known to the ledger as ended."""
        return frozenset(struct.unpack(f"{SLOTS}Q", self._memory[: SLOTS * 8])) - {_EMPTY}

    def finished(self) -> int:
        """How many steps the process has recorded."""
        return int(self._cells[SLOTS])
