# SPDX-License-Identifier: Apache-2.0
"""millrace-pktgen in the lab: clients and targets by the thousand, which hold every packet against
what a balancer must never do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.addresses import (
    EMULATED_CLIENTS_V4,
    EMULATED_CLIENTS_V6,
    EMULATED_TARGETS_V4,
    EMULATED_TARGETS_V6,
)
from lab.configs import EMULATED_HEALTH_PORT
from lab.namespace import Namespace
from lab.node import Node
from lab.process import LabError, Service, wait_until
from lab.views import Json

PROGRAM = "bench/pktgen/millrace-pktgen"
PORTS = {"TCP": 80, "UDP": 53}
# The CPU that an engine with one worker leaves to its main thread.
CPU = "0"
END_TIMEOUT_S = 30.0
# At least: from when the kernel knows a target's link address until the engine does.
WARM_UP_S = 1.5
HEALTHY_TIMEOUT_S = 20.0


def connections(
    vip: str, *, protocol: str = "TCP", forwarding: str = "nat", **more: Any
) -> dict[str, Any]:
    """The `connections` of a profile: clients of `vip` and all targets that are emulated."""
    is_v6 = ":" in vip
    return {
        "protocol": protocol,
        "clients": EMULATED_CLIENTS_V6 if is_v6 else EMULATED_CLIENTS_V4,
        "flows": 50000,
        "destination": vip,
        "port": PORTS[protocol],
        "rate": "2kcps",
        "targets": {
            "addresses": EMULATED_TARGETS_V6 if is_v6 else EMULATED_TARGETS_V4,
            "health_port": EMULATED_HEALTH_PORT,
            "forwarding": forwarding,
        },
        **more,
    }


def wait_healthy(node: Node, vip: str) -> None:
    """All targets of the VIP's family, and the node knows their link addresses: a run emulates one
    family alone."""

    def healthy() -> bool:
        own = [view for view in node.targets() if (":" in view.address) == (":" in vip)]
        own = [view for view in own if view.state not in ("draining", "unused")]
        shown = node.namespace.ip("neighbour", "show", "dev", node.interface(0))
        known = {line.split()[0] for line in shown.splitlines() if "lladdr" in line}
        return all(view.state == "healthy" and view.address in known for view in own)

    what = "the emulated targets are known and healthy"
    wait_until(healthy, what, timeout_s=HEALTHY_TIMEOUT_S, interval_s=0.1)


def assert_clean(result: Json, *, opened: int) -> Json:
    """Every connection completed, and no packet of any broke a rule."""
    found: Json = result["connections"]
    assert found["violations"]["total"] == 0, found["violations"]
    assert found["opened"] >= opened, found["opened"]
    failed = {key: found[key] for key in ("timed_out", "reset", "cut_short", "not_over")}
    assert not any(failed.values()), failed
    assert found["completed"] == found["opened"]
    return found


class Generator:
    """One run at a time."""

    def __init__(
        self, namespace: Namespace, home: Path, nic: str, gateway_mac: str, build: Path
    ) -> None:
        self.namespace = namespace
        self.gateway_mac = gateway_mac
        self.program = build / PROGRAM
        self._home = home
        self.nic = nic
        self._service: Service | None = None

    @contextmanager
    def running(
        self,
        profile: Mapping[str, Any],
        *,
        seconds: float,
        drain: float = 3.0,
    ) -> Iterator[Service]:
        """Runs beside the block, which lets it start with begin() and waits for its end with
        result(), or cuts it short."""
        ends = {"gateway_mac": self.gateway_mac}
        targets = profile["connections"]["targets"] | ends
        profile = {**profile, "connections": profile["connections"] | ends | {"targets": targets}}
        if "streams" in profile:
            ends = {"destination_mac": self.gateway_mac}
            profile["streams"] = [ends | stream for stream in profile["streams"]]
        file = self._home / "profile.yaml"
        file.write_text(json.dumps({**profile, "seconds": seconds}))  # JSON is YAML
        self._out.unlink(missing_ok=True)
        self._start_file.unlink(missing_ok=True)
        words: list[str | Path] = ["taskset", "--cpu-list", CPU, self.program, "--quiet"]
        words += ["--nic", self.nic]
        if profile["connections"]["targets"]["forwarding"] != "nat":
            # Answers go past the balancer, and the clients are in this very process.
            words += ["--nic", "net_ring0"]
        words += ["--warm-up", str(WARM_UP_S), "--start-file", self._start_file]
        words += ["--drain", str(drain), "--json", self._out, file]
        self._service = self.namespace.service("pktgen", words)
        self._service.start()
        try:
            yield self._service
        finally:
            self.stop()

    def begin(self, node: Node, vip: str) -> None:
        """Until now it only answered. Connections are opened when the VIP has its targets."""
        wait_healthy(node, vip)
        self._start_file.touch()

    def result(self) -> Json:
        """Of the run that is under way, when it has ended."""
        assert self._service is not None
        code = self._service.wait(END_TIMEOUT_S)
        if code != 0:
            raise LabError(f"millrace-pktgen ended with {code}:\n{self._service.log_tail()}")
        found: Json = json.loads(self._out.read_text())
        return found

    def stop(self) -> None:
        if self._service is not None:
            self._service.stop()

    @property
    def _start_file(self) -> Path:
        return self._home / "pktgen.start"

    @property
    def _out(self) -> Path:
        return self._home / "pktgen.json"
