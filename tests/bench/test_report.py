"""How what was measured is told: statistics, the table, and the picture."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from project.bench import report, svg
from project.bench.columns import Column, medians, ratios, spread
from project.bench.figures import most_at_once, percentile
from project.bench.kinds import KINDS
from project.bench.labels import label
from project.bench.limits.straight import STRAIGHT
from project.bench.panels import panels_of
from project.bench.rounds import Rival, order

SVG = "{http://www.w3.org/2000/svg}"


def column(title: str, beside: dict[str, dict[str, float]] | None = None, **figures: float) -> dict[str, Any]:
    compared = {name: spread([some]) for name, some in (beside or {}).items()}
    return Column(1, title, spread([figures]), compared).as_json()


def document(*columns: dict[str, Any], kind: str = "steps") -> dict[str, Any]:
    about = dict.fromkeys(("python", "django", "postgresql", "valkey", "cores"), "1")
    return {
        "kind": kind,
        "environment": {**about, "commit_ms": 0.5},
        "statements_counted_by": "server",
        "columns": list(columns),
    }


def parsed(picture: str) -> ET.Element:
    return ET.fromstring(picture)  # noqa: S314 - ours


def elements(picture: str, tag: str, style: str) -> list[ET.Element]:
    found = parsed(picture).iter(f"{SVG}{tag}")
    return [element for element in found if style in element.get("class", "").split()]


def test_percentile_is_a_value_that_occurred() -> None:
    values = [float(number) for number in range(100)]
    assert percentile(values, 95) == 95.0
    assert percentile([7.0], 95) == 7.0


def test_one_that_begins_when_another_ends_is_not_beside_it() -> None:
    assert most_at_once([(0, 2), (1, 3), (2, 4)]) == 2


def test_one_odd_run_moves_no_median_but_is_told() -> None:
    found = spread([{"ms": 2.0}, {"ms": 90.0, "rare": 1.0}, {"ms": 1.0}])

    assert found["ms"] == {"median": 2.0, "min": 1.0, "max": 90.0}
    assert found["rare"]["median"] == 1.0
    assert medians(found) == {"ms": 2.0, "rare": 1.0}


def test_ratio_of_what_both_columns_have() -> None:
    before = Column(0, "empty", spread([{"ms": 2.0, "nothing": 0.0, "gone": 1.0}]))
    after = Column(9, "full", spread([{"ms": 3.0, "nothing": 5.0}]))

    assert medians(ratios(before, after).figures) == {"ms": 1.5}


def test_nobody_is_always_first() -> None:
    assert [order(number, ["engine", "limit"])[0] for number in range(4)] == ["engine", "limit", "engine", "limit"]


@pytest.mark.parametrize(
    ("name", "engine", "limit", "share"), [("per_second", 50.0, 100.0, 0.5), ("ms_per_hop", 4.0, 1.0, 0.25)]
)
def test_share_of_the_limit_is_that_of_speed(name: str, engine: float, limit: float, share: float) -> None:
    rival = Rival(lambda design, count: {}, name, "cpu")

    shares = rival.shares({name: engine, "cpu": 6.0}, {name: limit, "cpu": 2.0}, STRAIGHT.name)

    assert shares == {"share_of_straight": share, "cpu_times_straight": 3.0}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("steps_per_second", "steps/s, first claim to plan stopped"),
        ("cpu_ms_per_sub_plan_worker_child_1_limited", "  CPU ms per sub plan: worker child 1 limited"),
        ("cpu_ms_per_step_total", "CPU ms per step, all together"),
        ("key_checks_per_1000_hops", "foreign keys checked at commit per 1,000 hops"),
    ],
)
def test_figures_have_names_for_people(name: str, text: str) -> None:
    assert label(name) == text


def test_table_is_aligned_and_has_what_is_compared_next_to_it() -> None:
    lines = report.text(
        document(
            column("1,000", {"lean limit": {"steps_per_second": 9999.0}}, steps_per_second=1234.5),
            column("10", ms_per_step=0.5),
        )
    ).splitlines()

    table = lines[2:5]
    assert len({len(line) for line in table[:2]}) == 1
    assert table[0].split() == ["1,000", "lean", "limit", "10"]
    assert table[1].endswith("1,234       9,999     -")
    assert table[2].endswith("-           -  0.50")


def test_picture_has_a_bar_per_column_and_a_line_per_limit() -> None:
    limits = {"straight limit": {"steps_per_second": 100.0}, "lean limit": {"steps_per_second": 200.0}}
    picture = svg.drawn(
        document(column("1 & 2", limits, steps_per_second=50.0), column("3", steps_per_second=150.0)), ["steps_per"]
    )

    lengths = [float(bar.get("width", "")) for bar in elements(picture, "rect", "c0")]
    assert lengths == [pytest.approx(svg.ROOM / 4, abs=0.1), pytest.approx(svg.ROOM * 3 / 4, abs=0.1)]
    (straight,), (lean,) = elements(picture, "path", "dashed"), elements(picture, "path", "dotted")
    assert straight.get("d", "").startswith(f"M{svg.LEFT + svg.ROOM / 2:.1f} ")
    assert lean.get("d", "").startswith(f"M{svg.LEFT + svg.ROOM:.1f} ")
    texts = [text.text for text in parsed(picture).iter(f"{SVG}text")]
    assert "1 & 2" in texts
    assert "dashed: straight limit 100, dotted: lean limit 200" in texts
    assert "prefers-color-scheme: dark" in picture


def test_picture_shows_the_range_of_runs() -> None:
    several = Column(1, "1", spread([{"ms": 1.0}, {"ms": 2.0}, {"ms": 4.0}]), runs=3).as_json()
    (line,) = elements(svg.drawn(document(several), ["ms"]), "path", "range")
    start, end = (svg.LEFT + svg.ROOM / 4, svg.LEFT + svg.ROOM)
    assert line.get("d", "").startswith(f"M{start:.1f} ")
    assert line.get("d", "").endswith(f"H{end:.1f}")


def test_cpu_time_of_processes_is_one_bar_and_small_ones_are_one_part() -> None:
    spent = {"client": 1.0, "worker_child_1": 3.0, "redis": 0.01, "worker": 0.01, "total": 4.02}
    figures = {f"cpu_ms_per_{unit}_{name}": value for unit in ("step", "planned_step") for name, value in spent.items()}

    panels = panels_of(document(column("1", **figures)), ["cpu_ms_per_"])

    assert [panel.title for panel in panels] == ["CPU ms per step, by process", "CPU ms per planned step, by process"]
    ((bar,), (other,)) = (panel.bars for panel in panels)
    assert bar.parts == other.parts
    assert dict(bar.parts) == {"client": 1.0, "worker child 1": 3.0, "others": pytest.approx(0.02)}
    assert bar.length == pytest.approx(4.02)


def test_figures_of_one_family_have_one_scale() -> None:
    panels = panels_of(
        document(column("1", resident_kib_redis=10.0, resident_kib_worker=90.0, hosts_per_second=7.0)), []
    )
    assert {panel.title: panel.scale for panel in panels} == {
        "resident kB: Redis": 90.0,
        "resident kB: worker": 90.0,
        "hosts/s": 7.0,
    }


def test_every_kind_says_what_it_is() -> None:
    assert all(kind.about and kind.counts and kind.plotted for kind in KINDS.values())
