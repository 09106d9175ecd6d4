# SPDX-License-Identifier: Apache-2.0
"""The pages of bench/pktgen/report and bench/report in a real browser, from real results: nothing
is loaded or complained about, every plot is drawn, labels can be read, by day and by night, and the
figures are those of the results.

The generator's path comes in MILLRACE_PKTGEN. With MILLRACE_PICTURES, pictures are left there.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
from browser import Browser  # noqa: E402

BENCH = ROOT / "bench"
PKTGEN = BENCH / "pktgen"
PROFILES = PKTGEN / "profiles"
PROGRAM = os.environ["MILLRACE_PKTGEN"]
NO_HUGEPAGES = ("--eal=--no-huge", "--eal=-m", "--eal=256")
BENCH_RESULT = HERE / "bench-result.json"  # of bench/run, as it was
PROBE = (HERE / "probe.js").read_text()
SCHEMES = ("light", "dark")
TEXT_CONTRAST_MIN = 4.5  # WCAG 2.1, 1.4.3
MARK_CONTRAST_MIN = 3.0  # 1.4.11
LABEL_HEIGHT_MIN = 10  # pixels

Json = dict[str, Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of two runs and a search."""
    folder = tmp_path_factory.mktemp("results")
    runs = {"connections-loop": ("--rate", "20kcps"), "latency": ()}
    for name, more in runs.items():
        profile, out = str(PROFILES / f"{name}.yaml"), str(folder / f"{name}.json")
        words = [PROGRAM, profile, "--nic", "net_ring0", "--seconds", "0.3", "--json", out]
        command = [*words, *more, "--quiet", *NO_HUGEPAGES]
        subprocess.run(command, capture_output=True, check=True, timeout=60)
    words = [str(PKTGEN / "search"), "connections", str(PROFILES / "connections-loop.yaml")]
    words += ["--nic", "net_ring0", "--max", "2000", "--trial-seconds", "0.1", *NO_HUGEPAGES]
    words += ["--width", "0.5", "--program", PROGRAM, "--json", str(folder / "search.json")]
    subprocess.run(words, capture_output=True, check=True, timeout=60)
    return {path.stem: path for path in folder.glob("*.json")}


def seen(browser: Browser, page: Path, scheme: str) -> Json:
    browser.open(page, scheme=scheme)
    found: Json = browser.evaluate(PROBE)
    if "MILLRACE_PICTURES" in os.environ:
        browser.picture(Path(os.environ["MILLRACE_PICTURES"]) / f"{page.stem}-{scheme}.png")
    assert browser.requested() == [page.as_uri()]
    assert browser.complaints() == []
    return found


def meet(one: Json, other: Json) -> bool:
    is_beside = one["right"] <= other["left"] or other["right"] <= one["left"]
    return not (is_beside or one["bottom"] <= other["top"] or other["bottom"] <= one["top"])


def assert_within(inner: Json, outer: Json) -> None:
    pixel = 1.0
    assert (
        inner["left"] >= outer["left"] - pixel and inner["right"] <= outer["right"] + pixel
    ), inner
    assert (
        inner["top"] >= outer["top"] - pixel and inner["bottom"] <= outer["bottom"] + pixel
    ), inner


def assert_readable(found: Json, scheme: str) -> None:
    assert (found["paper"] > 0.9) if scheme == "light" else (found["paper"] < 0.1)
    assert found["overflow"] <= 0
    for text in found["text"]:
        assert text["contrast"] >= TEXT_CONTRAST_MIN, text
    for plot in found["plots"]:
        for label in plot["labels"]:
            assert_within(label, plot)
            assert label["contrast"] >= TEXT_CONTRAST_MIN, label
            assert label["bottom"] - label["top"] >= LABEL_HEIGHT_MIN, label
        for one, other in itertools.combinations(plot["labels"], 2):
            assert not meet(one, other), (one["text"], other["text"])


def assert_drawn(plot: Json) -> None:
    """Some mark has a size, and all are where they can be seen."""
    assert any(m["right"] - m["left"] > 1 and m["bottom"] - m["top"] > 1 for m in plot["marks"])
    for mark in plot["marks"]:
        assert_within(mark, plot)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_page_of_the_generator(
    browser: Browser, results: dict[str, Path], tmp_path: Path, scheme: str
) -> None:
    page = tmp_path / "pktgen.html"
    command: list[str | Path] = [PKTGEN / "report", *sorted(results.values()), "--output", page]
    subprocess.run(command, check=True)
    found = seen(browser, page, scheme)
    assert_readable(found, scheme)
    assert len(found["plots"]) == 4  # shares and latency of connections, latency, trials
    for plot in found["plots"]:
        assert_drawn(plot)
        for mark in plot["marks"]:
            assert mark["contrast"] >= MARK_CONTRAST_MIN, mark
    read = {name: json.loads(path.read_text()) for name, path in results.items()}
    connections, search = read["connections-loop"]["connections"], read["search"]
    stream = read["latency"]["streams"][0]
    rows = {cells[0]: cells[1:] for cells in found["cells"]}
    assert rows["opened"] == [f"{connections['opened']:,}"]
    assert rows["completed"] == [f"{connections['completed']:,}"]
    sent = [cells for cells in found["cells"] if f"{stream['sent_packets']:,}" in cells]
    assert [cells[0] for cells in sent] == [stream["name"]]
    (goal,) = search["found"]
    lower = "none" if goal["lower"] is None else f"{goal['lower']:,.0f}"
    assert rows[goal["goal"]["name"]][0] == lower
    bars = [mark for mark in found["plots"][0]["marks"] if mark["kind"] == "rect"]
    assert len(bars) == len(connections["by_target"])
    dots = [mark for mark in found["plots"][3]["marks"] if mark["kind"] == "circle"]
    assert len(dots) == len(search["trials"])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_page_of_the_benchmarks(browser: Browser, tmp_path: Path, scheme: str) -> None:
    page = tmp_path / "bench.html"
    done = subprocess.run([BENCH / "report", BENCH_RESULT], capture_output=True, check=True)
    page.write_bytes(done.stdout)
    found = seen(browser, page, scheme)
    assert_readable(found, scheme)
    result = json.loads(BENCH_RESULT.read_text())
    shown = [label["text"] for plot in found["plots"] for label in plot["labels"]]
    for figure in result["figures"]:
        runs = sorted(figure["runs"])
        place = shown.index(figure["name"], shown.index("testpmd 5tswap"))
        median = runs[len(runs) // 2]
        assert shown[place + 1] == f"{median:.3g} ({runs[0]:.3g} to {runs[-1]:.3g})"
    for plot in found["plots"]:
        assert_drawn(plot)
        for mark in (m for m in plot["marks"] if m["kind"] == "circle"):
            assert mark["contrast"] >= MARK_CONTRAST_MIN, mark
    drawn = sum(mark["kind"] == "circle" for plot in found["plots"] for mark in plot["marks"])
    net = sum(len(f["runs"]) for f in result["figures"] if f["name"].endswith(" net"))
    assert drawn == net + sum(len(figure["runs"]) for figure in result["figures"])
