"""What PostgreSQL is told beyond the models: how full tables are packed, when they are vacuumed, and our functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FUNCTIONS = Path(__file__).resolve().parents[1] / "ledger" / "functions_1.sql"

STORAGE = {
    # A step is updated three times at most while it runs; with room on its page no index is touched by that.
    "dynflow_app_step": "fillfactor = 45",
    "dynflow_app_gate": "fillfactor = 80",
    "dynflow_app_executionplan": "fillfactor = 80",
    # Rows come and go; what is left of them is looked through by claims.
    "dynflow_app_ticket": "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000",
    "dynflow_app_envelope": "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000",
}


def tune(apps: Any, schema_editor: Any) -> None:
    """Set the tables up and create the functions; nothing on other databases."""
    if schema_editor.connection.vendor != "postgresql":
        return
    for table, options in STORAGE.items():
        schema_editor.execute(f"ALTER TABLE {table} SET ({options})")
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(FUNCTIONS.read_text())


def forget(apps: Any, schema_editor: Any) -> None:
    """Drop the functions; the rest goes with the tables."""
    if schema_editor.connection.vendor == "postgresql":
        for name in ("dynflow_turn_1", "dynflow_plan_1", "dynflow_draw_1"):
            schema_editor.execute(f"DROP FUNCTION IF EXISTS {name}")
