# SPDX-License-Identifier: Apache-2.0
"""The report: what stands in it, that it is well formed, and that it loads nothing."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "bench" / "pktgen"
sys.path.insert(0, str(FOLDER))
from plots import Axis, Series, bar_plot, line_plot  # noqa: E402
from report_page import duration, page, percentile_points, scaled, share_of  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"
LATENCY = {
    "min_ns": 100,
    "p50_ns": 119,
    "p99_ns": 2000,
    "p999_ns": 2000,
    "max_ns": 2000,
    "buckets": [[100, 119, 90], [200, 219, 9], [1990, 2005, 1]],
}
STREAM = {
    "name": "probe",
    "sent_packets": 1000,
    "sent_bytes": 60000,
    "sent_pps": 1e6,
    "given_up_ns": 0,
    "received_packets": 998,
    "lost_packets": 2,
    "reordered_packets": 0,
    "duplicate_packets": 0,
    "latency": LATENCY,
}
RUN: dict[str, Any] = {
    "format": 1,
    "program": "millrace-pktgen 0.1.0",
    "dpdk": "22.11",
    "started_at": "2026-01-31T12:00:00Z",
    "devices": ["net_ring0"],
    "machine": {"processor": "Some <CPU> & more", "cpu_count": 2},
    "profile": "latency",
    "seed": 1,
    "seconds": 10.0,
    "busy_share": 0.43,
    "blocked_share": 0.02,
    "corrupt_packets": 0,
    "streams": [STREAM],
}
CONNECTIONS = {
    "violations": {"total": 3, "moved": 3, "bad_checksum": 0},
    "opened": 1000,
    "completed": 997,
    "completed_per_second": 99.7,
    "responses": 998,
    "timed_out": 3,
    "reset": 0,
    "cut_short": 0,
    "not_over": 0,
    "flow_busy": 0,
    "segments_repeated": 18,
    "given_up_ns": 0,
    "by_target": [500, 300, 197],
    "connect_latency": LATENCY,
}
FOUND = {
    **{key: RUN[key] for key in ("format", "program", "dpdk", "devices", "machine")},
    "search": "throughput",
    "profile": "udp-64b",
    "found": [
        {
            "goal": {"name": "no loss"},
            "lower": 4e5,
            "upper": 4.02e5,
            "conditional": 4e5,
            "limit": "the balancer's limit",
        }
    ],
    "trials": [
        {"load": 1e6, "seconds": 1.0, "sent": 1000000, "lost": 600000, "is_reached": True},
        {"load": 4e5, "seconds": 1.0, "sent": 400000, "lost": 0, "is_reached": True},
    ],
}


def svgs_of(text: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


def with_connections() -> dict[str, Any]:
    return {**copy.deepcopy(RUN), "connections": CONNECTIONS}


def test_page_is_well_formed_and_loads_nothing() -> None:
    text = page("All <of> it", [RUN, with_connections(), FOUND])
    assert len(svgs_of(text)) == 4  # two latencies, shares, trials
    ElementTree.fromstring(
        text.removeprefix("<!DOCTYPE html>").replace('<meta charset="utf-8">', "")
    )
    assert "All &lt;of&gt; it" in text
    assert not re.search(r"<script|<link|<img|src=|href=|url\(|@import", text)


def test_machine_is_told_once() -> None:
    assert page("", [RUN, RUN]).count("Some &lt;CPU&gt; &amp; more") == 1
    later = {**RUN, "machine": {**RUN["machine"], "load_average": "9"}}
    assert page("", [RUN, later]).count("<h2>Machine</h2>") == 1
    other = {**RUN, "machine": {"processor": "another"}}
    assert page("", [RUN, other]).count("<h2>Machine</h2>") == 2


def test_losses_and_violations_are_shown() -> None:
    assert "0.2000 %" in page("", [RUN])
    text = page("", [with_connections()])
    assert '<p class="bad">Violations: 3</p>' in text
    assert "<td>moved</td><td>3</td>" in text
    assert "<td>bad_checksum</td>" not in text
    good = with_connections()
    good["connections"] = {**CONNECTIONS, "violations": {"total": 0, "moved": 0}}
    assert '<p class="good">Violations: 0</p>' in page("", [good])


def test_wrong_checksums_are_shown() -> None:
    assert "wrong checksum: 7" in page("", [{**RUN, "corrupt_packets": 7}])


def test_limit_is_named_and_so_is_what_the_generator_did() -> None:
    assert "the balancer&#x27;s limit" in page("", [FOUND])
    assert "generator busy 43 %, nic full 2 %" in page("", [RUN])


def test_percentiles_are_steps_of_the_histogram() -> None:
    points = percentile_points(LATENCY)
    assert points[0] == (0.0, 100.0)
    assert points[1] == (0.0, 119.0)  # from 0 to 90 %
    assert points[2] == (pytest.approx(1.0), 219.0)  # to 99 %
    assert points[3] == (pytest.approx(2.0), 2000.0)  # no more than the maximum


def test_percentile_axis_names_each_nine() -> None:
    shares = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"]
    assert [share_of(nines) for nines in range(6)] == shares
    assert share_of(0.5) == ""


def test_plot_has_a_line_per_series_within_its_frame() -> None:
    x_axis, y_axis = Axis("x", 0, 10), Axis("y", 1, 1000, True)
    lines = [Series("a", [(0, 1), (10, 1000)]), Series("<b>", [(5, 10)], is_line=False)]
    svg = ElementTree.fromstring(line_plot("t", x_axis, y_axis, lines))
    (line,) = [e for e in svg.iter(f"{SVG}path") if e.get("fill") == "none"]
    assert line.get("d") == "M80.0 274.0L690.0 34.0"
    (dot,) = svg.iter(f"{SVG}circle")
    assert (dot.get("cx"), dot.get("cy")) == ("385.0", "194.0")
    assert "<b>" in [text.text for text in svg.iter(f"{SVG}text")]


def test_bars_are_as_high_as_their_numbers() -> None:
    svg = ElementTree.fromstring(bar_plot("t", Axis("x", 1, 2), Axis("y", 0, 100), [100, 25]))
    bars = [float(e.get("height", "0")) for e in svg.iter(f"{SVG}rect")]
    assert bars == [240.0, 60.0]


def test_ticks_are_round_numbers() -> None:
    assert Axis("", 0, 43_000).ticks() == [0, 10_000, 20_000, 30_000, 40_000]
    assert Axis("", 70, 2e6, True).ticks() == [100, 1000, 10_000, 100_000, 1_000_000]
    assert Axis("", 5, 5).ticks() == [5]


def test_numbers_have_units() -> None:
    assert [scaled(n) for n in (12, 4_500, 14_880_952, 2e9)] == ["12", "4.5 k", "14.9 M", "2 G"]
    assert [duration(n) for n in (70, 2500, 3e6, 2e9)] == ["70 ns", "2.5 µs", "3 ms", "2 s"]


def test_program_writes_the_page_and_refuses_what_is_no_result(tmp_path: Path) -> None:
    result, out = tmp_path / "result.json", tmp_path / "report.html"

    def report() -> subprocess.CompletedProcess[str]:
        command = [str(FOLDER / "report"), str(result), "--output", str(out), "--title", "Ours"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    result.write_text(json.dumps(RUN))
    assert report().returncode == 0
    assert "<h1>Ours</h1>" in out.read_text()
    for wrong in ("{", "[]", '{"format": 2}'):
        result.write_text(wrong)
        refused = report()
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"report: {result}: ")


if __name__ == "__main__":
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:], __file__]))
