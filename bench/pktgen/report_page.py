# SPDX-License-Identifier: Apache-2.0
"""A page of HTML from results of millrace-pktgen and bench/pktgen/search."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from plots import Axis, Series, bar_plot, line_plot

STYLE = """:root{color-scheme:light dark;--ink:#222;--paper:#fff;--line:#ddd;--bad:#b00020;
--good:#1b7f3b}@media(prefers-color-scheme:dark){:root{--ink:#ddd;--paper:#181818;--line:#444;
--bad:#ff7b86;--good:#62c987}}body{font-family:sans-serif;max-width:62em;margin:2em auto;
padding:0 1em;color:var(--ink);background:var(--paper)}table{border-collapse:collapse;
margin:.6em 0}td,th{padding:.25em .8em;text-align:right;border-bottom:1px solid var(--line)}
td:first-child,th:first-child{text-align:left}svg{width:100%;height:auto;margin:.6em 0}
.bad{color:var(--bad);font-weight:bold}.good{color:var(--good);font-weight:bold}"""

UNITS = {
    "throughput": "packets per second",
    "connections": "connections per second",
    "concurrent": "connections open at once",
}

# What of a machine differs from run to run.
PASSING = ("load_average", "huge_page_bytes", "cpu_mhz")

Json = dict[str, Any]


def scaled(number: float) -> str:
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= factor:
            return f"{number / factor:.3g}{unit}"
    return f"{number:.4g}"


def duration(ns: float) -> str:
    for factor, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if ns >= factor:
            return f"{ns / factor:.3g} {unit}"
    return f"{ns:.0f} ns"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def cells(tag: str, values: Sequence[object]) -> str:
        return "".join(f"<{tag}>{html.escape(str(value))}</{tag}>" for value in values)

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><tr>{cells('th', head)}</tr>{body}</table>"


def share_of(nines: float) -> str:
    """A label of an axis that gives each nine the same room; nothing between them."""
    if nines != int(nines):
        return ""
    return f"{100 * (1 - 10**-nines):.{max(0, int(nines) - 2)}f} %"


def percentile_points(latency: Json) -> list[tuple[float, float]]:
    """(nines, ns) for each bucket: nines is 1 for 90 %, 2 for 99 %, ..."""
    total = sum(count for _, _, count in latency["buckets"])
    points = [(0.0, float(max(latency["min_ns"], 1)))]
    seen = 0
    for _, last, count in latency["buckets"]:
        above = total - seen
        seen += count
        ns = float(min(last, latency["max_ns"]))
        points.append((max(0.0, -math.log10(above / total)), max(points[-1][1], ns)))
    return points


def latency_plot(title: str, latencies: Sequence[tuple[str, Json]]) -> str:
    series = [Series(name, percentile_points(latency)) for name, latency in latencies]
    lowest = min(point[1] for one in series for point in one.points)
    highest = max(point[1] for one in series for point in one.points)
    most = max(point[0] for one in series for point in one.points)
    x_axis = Axis(
        "share of packets or requests that took no longer",
        0.0,
        max(1.0, most),
        text=share_of,
    )
    y_axis = Axis("time", lowest, max(highest, lowest * 10), True, duration)
    return line_plot(title, x_axis, y_axis, series)


def latency_table(latencies: Sequence[tuple[str, Json]]) -> str:
    keys = ("min_ns", "p50_ns", "p99_ns", "p999_ns", "max_ns")
    rows = [[name, *(duration(latency[key]) for key in keys)] for name, latency in latencies]
    return table(["", "min", "p50", "p99", "p99.9", "max"], rows)


def streams_part(result: Json) -> str:
    rows = []
    for stream in result["streams"]:
        is_measured = "received_packets" in stream
        lost = f"{stream['lost_packets']:,}" if is_measured else "not measured"
        share = ""
        if is_measured and stream["sent_packets"] > 0:
            share = f"{100 * stream['lost_packets'] / stream['sent_packets']:.4f} %"
        given_up = duration(stream["given_up_ns"]) if stream["given_up_ns"] else ""
        order = [stream.get("reordered_packets", ""), stream.get("duplicate_packets", "")]
        sent = [f"{stream['sent_packets']:,}", scaled(stream["sent_pps"]) + "pps"]
        rows.append([stream["name"], *sent, lost, share, *order, given_up])
    head = [
        "stream",
        "sent",
        "rate",
        "lost",
        "share lost",
        "reordered",
        "duplicates",
        "schedule given up",
    ]
    return table(head, rows)


def connections_part(connections: Json) -> str:
    violations = connections["violations"]
    style = "bad" if violations["total"] else "good"
    parts = [f'<p class="{style}">Violations: {violations["total"]:,}</p>']
    if violations["total"]:
        kinds = [(kind, f"{count:,}") for kind, count in violations.items() if count]
        parts.append(table(["violation", "packets"], kinds))
    rate = scaled(connections["completed_per_second"])
    rows = [("completed per second", rate)]
    for key in ("opened", "completed", "responses", "timed_out", "reset", "cut_short", "not_over"):
        rows.append((key.replace("_", " "), f"{connections[key]:,}"))
    rows.append(("not opened for want of a free flow", f"{connections['flow_busy']:,}"))
    rows.append(("segments repeated", f"{connections['segments_repeated']:,}"))
    if connections["given_up_ns"]:
        rows.append(("schedule given up", duration(connections["given_up_ns"])))
    parts.append(table(["connections", ""], rows))
    shares = connections["by_target"]
    if len(shares) > 1:
        y_axis = Axis("connections", 0, max(*shares, 1), text=scaled)
        x_axis = Axis("target", 1, len(shares))
        parts.append(bar_plot("Connections by target", x_axis, y_axis, shares))
    return "".join(parts)


def run_part(result: Json) -> str:
    """One run of the program."""
    parts = [f"<h2>{html.escape(result['profile'])}</h2>"]
    parts.append(
        f"<p>{result['seconds']:.2f} s, seed {result['seed']}, {result['started_at']}, "
        f"generator busy {100 * result['busy_share']:.0f} %, nic full "
        f"{100 * result['blocked_share']:.0f} %</p>"
    )
    latencies = [(s["name"], s["latency"]) for s in result["streams"] if "latency" in s]
    if "connections" in result:
        connections = result["connections"]
        parts.append(connections_part(connections))
        for key, name in (("connect_latency", "connect"), ("response_latency", "response")):
            if key in connections:
                latencies.append((name, connections[key]))
    if result["streams"]:
        parts.append(streams_part(result))
        wrong = result["corrupt_packets"]
        if wrong:
            parts.append(f'<p class="bad">Packets with a wrong checksum: {wrong:,}</p>')
    if latencies:
        parts.append(latency_table(latencies))
        parts.append(latency_plot("Latency by percentile", latencies))
    return "".join(parts)


def search_part(found: Json) -> str:
    """One search for a limit."""
    parts = [f"<h2>Search: {html.escape(found['search'])}, {html.escape(found['profile'])}</h2>"]
    rows = []
    for one in found["found"]:
        lower = "none" if one["lower"] is None else f"{one['lower']:,.0f}"
        upper = "not reached" if one["upper"] is None else f"{one['upper']:,.0f}"
        arrives = "" if one["conditional"] is None else f"{one['conditional']:,.0f}"
        limit = one["limit"] or "the highest that was tried"
        rows.append([one["goal"]["name"], lower, upper, arrives, limit])
    unit = UNITS[found["search"]]
    head = [f"goal ({unit})", "carried", "not carried", "arrives", "which is"]
    parts.append(table(head, rows))
    trials = found["trials"]
    points = [(t["load"], 100 * t["lost"] / t["sent"] if t["sent"] else 100.0) for t in trials]
    x_axis = Axis(unit, 0, max(x for x, _ in points), text=scaled)
    y_axis = Axis("lost, %", 0, max(1.0, *(y for _, y in points)))
    parts.append(line_plot("Trials", x_axis, y_axis, [Series("", points, is_line=False)]))
    return "".join(parts)


def machine_part(result: Json) -> str:
    machine = result["machine"]
    rows = [
        (key.removesuffix("_bytes").replace("_", " "), f"{value / 2**30:.1f} GiB")
        if key.endswith("_bytes")
        else (key.replace("_", " "), "unknown" if value == "" else value)
        for key, value in machine.items()
    ]
    rows += [("devices", ", ".join(result["devices"])), ("program", result["program"])]
    rows.append(("DPDK", result["dpdk"]))
    return "<h2>Machine</h2>" + table(["", ""], rows)


def page(title: str, results: Sequence[Json]) -> str:
    """The whole document. Machines are told once each, in the order of their first result."""
    parts = [search_part(one) if "search" in one else run_part(one) for one in results]
    machines: dict[str, str] = {}
    for one in results:
        steady = {key: one["machine"].get(key) for key in one["machine"] if key not in PASSING}
        machines.setdefault(f"{steady} {one['devices']}", machine_part(one))
    shown = html.escape(title)
    body = "".join([*parts, *machines.values()])
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{shown}</title>'
        f"<style>{STYLE}</style></head><body><h1>{shown}</h1>{body}</body></html>\n"
    )
