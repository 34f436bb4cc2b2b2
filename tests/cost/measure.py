"""Measures everything anew: ``python -m tests.cost.measure`` prints a budget, with ``--write`` it becomes the one."""

from __future__ import annotations

import argparse
import os
import sys

from tests.servers_plugin import State, prepare


def main() -> int:
    """Measure on servers of its own, or on those of the environment; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure what the engine costs.")
    parser.add_argument("--write", action="store_true", help="replace the budget, rather than print one")
    is_to_write = parser.parse_args().write
    os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings.test"
    prepare(sqlite=False)
    try:
        if State.skip_reason:
            sys.stderr.write(f"{State.skip_reason}\n")
            return 1
        text = measured()
    finally:
        if State.servers is not None:
            State.servers.stop()
    from tests.cost.budget import FILE

    if is_to_write:
        FILE.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


def measured() -> str:
    """A budget, from a database of its own."""
    import django
    from django.db import connections
    from django.test.utils import setup_databases, teardown_databases

    django.setup()
    from tests.cost.budget import written

    databases = setup_databases(verbosity=0, interactive=False)
    try:
        return written(figures_of_all())
    finally:
        connections.close_all()
        teardown_databases(databases, verbosity=0)


def figures_of_all() -> dict[str, dict[str, float]]:
    """Each scenario in an empty database."""
    from django.core.management import call_command

    from tests.cost.scenarios import SCENARIOS, measure
    from tests.cost.steady import steady_engine

    figures = {}
    for name in SCENARIOS:
        call_command("flush", verbosity=0, interactive=False, inhibit_post_migrate=True)
        with steady_engine() as engine:
            figures[name] = measure(name, engine).figures
    return figures


if __name__ == "__main__":
    sys.exit(main())
