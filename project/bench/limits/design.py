"""A design of tables, with the statements that work on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent

GIVEN = """
    given AS MATERIALIZED (SELECT * FROM unnest(%(ids)s::bigint[], %(attempts)s::integer[]) AS given(id, attempt)),
    locked AS MATERIALIZED (SELECT id FROM plan WHERE id = %(plan)s FOR NO KEY UPDATE),
    recorded AS (
        UPDATE step SET state = 'success', world_id = NULL, ended_at = statement_timestamp()
        FROM given WHERE step.id = given.id AND step.state = 'running' AND step.attempt = given.attempt
            AND (SELECT count(*) FROM locked) = 1
        RETURNING step.id, step.attempt, step.plan_id, step.started_at
    )"""
"""Parts of a statement: what the last turn claimed is recorded, under the lock of the plan and only if it is still
that attempt."""

COUNTED = """
    counted AS (
        UPDATE plan SET revision = revision + 1, active_steps = active_steps - (SELECT count(*) FROM recorded)
        WHERE id IN (SELECT plan_id FROM recorded)
    )"""

OPENED = """
    opened AS (
        UPDATE gate SET waits_for = waits_for - 1 FROM dependency, recorded
        WHERE dependency.step_id = recorded.id AND gate.id = dependency.gate_id RETURNING gate.id, gate.waits_for
    ),
    released AS (
        UPDATE step SET state = 'ready', ready_at = statement_timestamp()
        FROM opened WHERE step.gate_id = opened.id AND opened.waits_for = 0 AND step.state = 'pending'
        RETURNING step.id, step.queue, step.priority
    ),
    counted AS (
        UPDATE plan SET revision = revision + 1,
            active_steps = active_steps - (SELECT count(*) FROM recorded) + (SELECT count(*) FROM released)
        WHERE id IN (SELECT plan_id FROM recorded)
    )"""
"""Gates are counted down, and what waits for nothing more becomes ready."""

CLAIMED = """
    claimed AS (
        UPDATE step SET state = 'running', attempt = attempt + 1, world_id = %(world)s,
            started_at = statement_timestamp()
        FROM picked WHERE step.id = picked.id AND step.state = 'ready'
            AND EXISTS (SELECT 1 FROM world WHERE world.id = %(world)s AND world.state <> 'invalidated')
        RETURNING step.id, step.attempt, step.action_id
    )
    SELECT claimed.id, claimed.attempt, action.name, action.input, action.output
    FROM claimed JOIN action ON action.id = claimed.action_id"""
"""What was picked becomes running, and its input is loaded."""


@dataclass(frozen=True, slots=True)
class Design:
    """Tables, and statements with the parameters ``ids``, ``attempts``, ``plan``, ``queue``, ``batch``, ``world``."""

    name: str
    """Of the design; its tables are in the schema ``limit_<name>``."""
    turn: str
    """Records a batch and claims the next."""
    release: str
    """Records a batch and releases what waited for it."""
    claim: str
    """Claims a batch."""
    trigger: tuple[str, ...]
    """The rows of a plan of one step, with the parameters ``plan`` and ``queue``."""
    enqueue: str | None = None
    """Makes the ready steps of ``plan`` known to claims, if their state alone does not."""

    @property
    def schema(self) -> str:
        """Where its tables are."""
        return f"limit_{self.name}"

    @property
    def tables(self) -> str:
        """SQL that makes the tables in the schema that is first on the path."""
        return "\n".join((FOLDER / f"{name}.sql").read_text(encoding="utf-8") for name in ("tables", self.name))
