"""Tables for pages, made from what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from project.bench import page
from project.bench.columns import Column, spread


def test_a_table_of_medians_with_the_range_of_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = dict.fromkeys(("python", "django", "postgresql", "valkey", "cores"), "1")
    runs = [{"ms_per_hop_median": 1.0 + number, "cpu_ms_per_hop_redis": 0.001} for number in range(3)]
    column = Column(5, "5", spread(runs), {"lean limit": spread([{"ms_per_hop_median": 0.5}])}, runs=3)
    file = tmp_path / "chain.json"
    environment = {**about, "commit_ms": 0.25}
    file.write_text(json.dumps({"kind": "chain", "environment": environment, "columns": [column.as_json()]}))

    page.main([str(file)])

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "### chain"
    assert lines[2].endswith("a commit takes 0.25 ms. Medians of 3 runs, least and most in parentheses.")
    assert lines[4:] == [
        "|  | 5 | lean limit |",
        "| --- | ---: | ---: |",
        "| ms per hop, median | 2.00 (1.00 to 3.00) | 0.50 |",  # Redis used next to nothing
        "",
    ]
