# SPDX-License-Identifier: Apache-2.0
"""What health checks make of endpoints in the field, and what the endpoints make of them."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, Node, odd_endpoints
from lab.configs import Config, config, listener, pair
from lab.odd_endpoints import PORTS, VIRTUAL_HOST
from lab.process import PATIENCE, Service, wait_until
from lab.target import HTTP_PORT
from lab.views import TargetView

HAPROXY_PORT = 9100
# Long enough that no endpoint's pauses, and no busy machine, decide a verdict; and for a second
# SYN: an ICMP error that comes back at once, as over veth, finds the socket still within connect()
# and is not heard.
INTERVAL_MS = int(2000 * PATIENCE)
PROBES = 3  # of each target, that are looked at
NOTICED_WITHIN_S = 30

# By endpoint; "": its target is healthy.
VERDICTS = {
    **dict.fromkeys(PORTS, ""),
    "haproxy": "",
    "blob": "",
    "missing": "Health checks failed with these codes: [404]",
    "bare": "Health checks failed with these codes: [400]",
    "ssh": 'Health checks failed: the answer is not HTTP: it begins with "SSH-2.0-OpenSSH_9.2p1"',
    "tls": "Health checks failed: the answer is not HTTP but TLS",
}

_HAPROXY_CONF = """
global
  log stdout format raw local0
defaults
  mode http
  timeout client 60s
  log global
  log-format "state=%tsc status=%ST"
frontend health
  bind :::{port} v4v6
  http-request return status 200 content-type text/plain string "{body}"
"""


def endpoint_config() -> Config:
    """A listener and two groups (IPv4, IPv6) for each endpoint, all of t1."""
    groups = []
    for name in VERDICTS:
        checked: dict[str, Any] = {"port": {**PORTS, "haproxy": HAPROXY_PORT}.get(name, HTTP_PORT)}
        attributes: dict[str, Any] = {
            "millrace.health_check.interval_milliseconds": INTERVAL_MS,
            "millrace.health_check.timeout_milliseconds": INTERVAL_MS,
        }
        if name == "greets":
            checked["protocol"] = "TCP"
        if name == "blob":
            checked["path"] = "/blob"
        if name == "name":
            attributes["millrace.health_check.host"] = VIRTUAL_HOST
        for group in pair(name, "TCP", HTTP_PORT, members=(1,), attributes=attributes):
            group["health_check"].update(checked, unhealthy_threshold=2)
            if name == "greets":
                del group["health_check"]["path"]
            groups.append(group)
    listeners = [listener("TCP", 10_000 + number, name) for number, name in enumerate(VERDICTS)]
    return config(listeners, groups)


class Endpoints:
    def __init__(self, lab: Lab) -> None:
        target = lab.target("t1")
        self.complaints = target.home / "complaints"
        self.complaints.touch()
        haproxy_conf: Path = target.home / "haproxy.conf"
        haproxy_conf.write_text(_HAPROXY_CONF.format(port=HAPROXY_PORT, body="x" * 8000))
        program: list[str | Path] = [sys.executable, str(odd_endpoints.__file__), self.complaints]
        self.odd = target.namespace.service("odd-endpoints", program)
        haproxy: list[str | Path] = ["haproxy", "-db", "-f", haproxy_conf]
        self.haproxy: Service = target.namespace.service("haproxy", haproxy)
        for service in (self.odd, self.haproxy):
            service.start()


@pytest.fixture(scope="module")
def endpoints(lab: Lab) -> Iterator[Endpoints]:
    endpoints = Endpoints(lab)
    yield endpoints
    for service in (endpoints.odd, endpoints.haproxy):
        service.stop()


@pytest.fixture(scope="module")
def started(lab: Lab, endpoints: Endpoints) -> Node:
    lab.node.start(endpoint_config())
    return lab.node


def name_of(view: TargetView) -> str:
    return view.group.rpartition("-")[0]


def is_as_expected(view: TargetView) -> bool:
    expected = VERDICTS[name_of(view)]
    return view.state == ("unhealthy" if expected else "healthy") and view.description == expected


def wait_verdicts(node: Node) -> None:
    def is_reached() -> bool:
        return all(is_as_expected(view) for view in node.targets())

    try:
        wait_until(is_reached, "each endpoint is judged", timeout_s=NOTICED_WITHIN_S)
    finally:
        assert [view for view in node.targets() if not is_as_expected(view)] == []


def test_fault_84_endpoints_are_judged_as_by_curl_and_see_no_reset(
    node: Node, endpoints: Endpoints
) -> None:
    wait_verdicts(node)
    time.sleep(PROBES * INTERVAL_MS / 1000)
    assert [view for view in node.targets() if not is_as_expected(view)] == []
    assert endpoints.complaints.read_text() == ""
    told = endpoints.haproxy.log.read_text().split("\n")
    states = {line.split()[0] for line in told if line.startswith("state=")}
    assert states == {"state=LR--"}, "a client that gave up would be C"


def test_checks_go_on_however_often_their_settings_change(node: Node) -> None:
    for turn in range(20):
        changed = copy.deepcopy(endpoint_config())
        for group in changed["target_groups"]:
            group["health_check"]["healthy_threshold"] = 2 + turn % 3
            group["attributes"]["millrace.health_check.interval_milliseconds"] += turn
        node.apply(changed)
    for group in changed["target_groups"]:
        if group["health_check"]["port"] == PORTS["lf"]:
            group["health_check"]["port"] = PORTS["missing"]
    node.apply(changed)

    def is_noticed() -> bool:
        return all(v.state == "unhealthy" for v in node.targets() if name_of(v) == "lf")

    wait_until(is_noticed, "the other endpoint is asked", timeout_s=NOTICED_WITHIN_S)
    node.apply(endpoint_config())
    wait_verdicts(node)


@pytest.mark.parametrize("refusal", ["type admin-prohibited", "type host-unreachable"])
def test_target_behind_a_firewall_that_rejects_is_unhealthy_until_it_lets_through(
    lab: Lab, node: Node, refusal: str
) -> None:
    host = lab.target("t1").namespace
    table = (
        "table inet firewall { chain input { type filter hook input priority 0; "
        f"tcp dport {{ {PORTS['lf']}, {PORTS['greets']} }} reject with icmpx {refusal}; }}; }}"
    )
    for family in ("ipv4.icmp_", "ipv6.icmp."):
        host.sysctl(f"net.{family}ratelimit", "0")
    host.run(["nft", table])
    try:

        def is_noticed() -> bool:
            closed = [v for v in node.targets() if name_of(v) in ("lf", "greets")]
            return all(v.state == "unhealthy" and v.description != "" for v in closed)

        wait_until(is_noticed, "the firewall is noticed", timeout_s=NOTICED_WITHIN_S)
        said = {v.description for v in node.targets() if v.group == "lf-6"}
        if "admin" in refusal:
            prohibited = "prohibited by a firewall on the way or by a route of this node"
            assert said == {f"Health checks failed: {prohibited}"}
        node.wait_no_alarms()
    finally:
        host.run(["nft", "delete", "table", "inet", "firewall"])
    wait_verdicts(node)
