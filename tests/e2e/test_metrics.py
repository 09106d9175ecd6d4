# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes /metrics, promtool likes the names, and the numbers are right."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator

import pytest
from lab import Lab, Layout, Node, Service
from lab.addresses import VIP_V4, VIP_V6
from lab.node import METRICS_ADDRESS, REPOSITORY
from lab.process import run, wait_until
from lab.traffic import connect_many

LAYOUT = Layout(noise_per_second=0)  # new flows are counted to the flow
PROMETHEUS = "127.0.0.1:9090"
SETTINGS = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: millrace
    static_configs: [{{targets: ["{metrics}"]}}]
"""


@pytest.fixture(scope="module")
def prometheus(lab: Lab, started: Node) -> Iterator[Service]:
    home = lab.directory.path / "prometheus"
    home.mkdir()
    rules = REPOSITORY / "deploy" / "alerts" / "*.y*ml"
    settings = SETTINGS.format(rules=json.dumps(str(rules)), metrics=METRICS_ADDRESS)
    (home / "prometheus.yml").write_text(settings)
    words = ["prometheus", f"--config.file={home}/prometheus.yml"]
    words += [f"--storage.tsdb.path={home}/data", f"--web.listen-address={PROMETHEUS}"]
    service = started.namespace.service("prometheus", words)
    service.start()
    try:
        service.wait_ready(lambda: ask(started, "up") != [], timeout_s=30)
        yield service
    finally:
        service.stop()


def fetch(node: Node, url: str) -> str:
    words = ["curl", "--silent", "--fail", "--max-time", "5", url]
    return node.namespace.run(words, check=False).stdout


def ask(node: Node, query: str) -> list[dict[str, object]]:
    url = f"http://{PROMETHEUS}/api/v1/query?query={urllib.parse.quote(query)}"
    said = fetch(node, url)
    return list(json.loads(said)["data"]["result"]) if said else []


def value(node: Node, query: str) -> float:
    found = ask(node, query)
    return float(found[0]["value"][1]) if found else 0.0  # type: ignore[index]


def test_promtool_finds_nothing_wrong_with_the_names(node: Node) -> None:
    text = fetch(node, f"http://{METRICS_ADDRESS}/metrics")
    assert "millrace_" in text
    done = run(["promtool", "check", "metrics"], stdin=text, check=False)
    assert done.returncode == 0 and not done.stdout + done.stderr, done.stdout + done.stderr


def test_promtool_accepts_the_alert_rules() -> None:
    rules = sorted((REPOSITORY / "deploy" / "alerts").glob("*.y*ml"))
    assert rules
    run(["promtool", "check", "rules", *rules])


def test_prometheus_scrapes_and_answers(lab: Lab, node: Node, prometheus: Service) -> None:
    wait_until(lambda: value(node, 'up{job="millrace"}') == 1, "up", timeout_s=20)
    new_flows = 'sum(millrace_target_new_flows_total{target_group="http-4"})'
    before = value(node, new_flows)
    assert len(connect_many(lab.client, VIP_V4, 100)) == 100
    wait_until(
        lambda: value(node, new_flows) >= before + 100,
        "new flows in Prometheus",
        timeout_s=20,
        interval_s=0.5,
    )
    assert value(node, new_flows) == before + 100


def test_no_alert_fires_on_a_healthy_node(node: Node, prometheus: Service) -> None:
    firing = ask(node, 'ALERTS{alertstate="firing"}')
    assert firing == []


@pytest.mark.exact
def test_fault_82_closed_connections_are_neither_busy_nor_idle(lab: Lab, node: Node) -> None:
    def active() -> int:
        return sum(
            int(target["active_flows"])
            for group in node.json("targets")["target_groups"]
            for target in group["targets"]
        )

    others = active()  # whose end nobody saw
    before = node.totals()
    for vip in (VIP_V4, VIP_V6):
        assert len(connect_many(lab.client, vip, 200)) == 200
    # Sooner than they are forgotten.
    wait_until(lambda: active() <= others, "closed connections are over", timeout_s=8)
    wait_until(
        lambda: node.totals()["flow_removed"] >= before["flow_removed"] + 100,
        "they are forgotten",
        timeout_s=60,
    )
    assert node.totals()["flow_expired"] == before["flow_expired"]
