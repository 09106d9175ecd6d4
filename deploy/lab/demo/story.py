# SPDX-License-Identifier: Apache-2.0
"""The demo's scenes, in order. Each shows something to a person and checks it."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from lab.demo.screen import Screen
from lab import Lab, Target
from lab.addresses import NODE_CLIENT_V4, VIP_V4, VIP_V6
from lab.process import LabError, wait_until
from lab.traffic import bracketed, dns_query, http_get, ping
from lab.views import TargetView

REQUESTS = 300
HEALTH_TIMEOUT_S = 60.0
# Shares are random: over five standard deviations is once in two million runs.
DEVIATIONS_MAX = 5.0


@dataclass(frozen=True)
class Scene:
    """One kind of traffic to one VIP."""

    what: str
    vip: str
    protocol: str
    port: int


SCENES = (
    Scene("HTTP over IPv4", VIP_V4, "TCP", 80),
    Scene("HTTP over IPv6", VIP_V6, "TCP", 80),
    Scene("DNS over IPv4", VIP_V4, "UDP", 53),
    Scene("DNS over IPv6", VIP_V6, "UDP", 53),
)


class Story:
    def __init__(self, lab: Lab, screen: Screen) -> None:
        self._lab = lab
        self._screen = screen

    def tell(self) -> None:
        self._wait_for_health()
        self._reachable()
        for scene in SCENES:
            self._traffic(scene)
        self._client_addresses()
        self._target_stops_and_starts(self._lab.target("t2"))
        self._accounts()

    def _wait_for_health(self) -> None:
        self._screen.heading("Targets get traffic after their first passing health check")
        took = self._until_states(lambda states: set(states) == {"healthy"})
        self._show_states()
        self._screen.check(took is not None, "all targets are healthy", _seconds(took))

    def _reachable(self) -> None:
        self._screen.heading(
            "The engine answers for the VIPs, the kernel for the node's own address"
        )
        client = self._lab.client
        for name, address in (("VIP", VIP_V4), ("VIP", VIP_V6), ("node", NODE_CLIENT_V4)):
            answered = ping(client, address, 3)
            self._screen.check(
                answered == 3, f"ping {address} ({name})", f"{answered} of 3 answered"
            )

    def _traffic(self, scene: Scene) -> None:
        where = f"{bracketed(scene.vip)}:{scene.port}"
        self._screen.heading(f"{scene.what}: {REQUESTS} flows to {where}")
        counts = self._send(scene)
        total = sum(counts.values())
        self._screen.check(total == REQUESTS, "every request was answered", f"{total}")
        self._check_shares(scene, counts)

    def _send(self, scene: Scene) -> Counter[str]:
        """Sends and shows; the answers by target."""
        counts = Counter({target.name: 0 for target in self._lab.targets})
        if scene.protocol == "UDP":
            counts.update(dns_query(self._lab.client, scene.vip, REQUESTS, scene.port))
        else:
            answers = http_get(self._lab.client, scene.vip, REQUESTS, scene.port)
            counts.update(answer.target for answer in answers)
        self._screen.shares(scene.what, counts)
        return counts

    def _check_shares(self, scene: Scene, counts: Counter[str]) -> None:
        """Against the share of the lookup table that each target owns."""
        expected = {self._name(view): view.share for view in self._views(scene)}
        worst = 0.0
        for name, share in expected.items():
            spread = math.sqrt(REQUESTS * share * (1 - share)) or 1.0
            worst = max(worst, abs(counts[name] - REQUESTS * share) / spread)
        self._screen.check(
            bool(expected) and worst <= DEVIATIONS_MAX,
            "each target's share is that of its weight",
            " ".join(f"{name} {100 * share:.0f} %" for name, share in sorted(expected.items())),
        )

    def _client_addresses(self) -> None:
        self._screen.heading("Client addresses that the targets saw (their own logs)")
        own = {"192.0.2.100", "2001:db8:2::100"}
        for target in self._lab.targets:
            http, dns = target.http_clients(), target.dns_clients()
            self._screen.say(f"     {target.name} nginx    {_counts(http)}")
            self._screen.say(f"     {target.name} dnsmasq  {_counts(dns)}")
            self._screen.check(
                set(http) == own and set(dns) == own,
                f"{target.name} saw only the client's own addresses",
            )

    def _target_stops_and_starts(self, target: Target) -> None:
        self._screen.heading(f"Target {target.name} stops")
        target.stop()
        took = self._until_states(lambda states: set(states) == {"unhealthy"}, target)
        self._show_states()
        self._screen.check(took is not None, f"{target.name} is unhealthy", _seconds(took))
        self._only_others_answer(target)
        self._screen.heading(f"Target {target.name} starts again")
        target.start()
        took = self._until_states(lambda states: set(states) == {"healthy"}, target)
        self._show_states()
        self._screen.check(took is not None, f"{target.name} is healthy again", _seconds(took))
        for scene in SCENES:
            counts = self._send(scene)
            self._screen.check(
                counts[target.name] > 0 and sum(counts.values()) == REQUESTS,
                f"{target.name} gets its share again",
            )

    def _only_others_answer(self, target: Target) -> None:
        for scene in SCENES:
            counts = self._send(scene)
            self._screen.check(
                counts[target.name] == 0 and sum(counts.values()) == REQUESTS,
                f"no flow goes to {target.name}, none is lost",
            )

    def _accounts(self) -> None:
        self._screen.heading("Every packet is accounted for")
        for worker in self._lab.node.settled_balances():
            self._screen.check(
                worker.balanced,
                f"worker {worker.index}: received = forwarded + replied + punted + dropped",
                worker.equation,
            )

    def _until_states(
        self, wanted: Callable[[list[str]], bool], target: Target | None = None
    ) -> float | None:
        """Seconds until the states of the target (or of all) are as wanted; None if never."""

        def reached() -> bool:
            views = self._lab.node.targets()
            own = views if target is None else [v for v in views if self._name(v) == target.name]
            return bool(own) and wanted([view.state for view in own])

        start = time.monotonic()
        try:
            wait_until(reached, "states", timeout_s=HEALTH_TIMEOUT_S, interval_s=0.1)
        except LabError:
            return None
        return time.monotonic() - start

    def _show_states(self) -> None:
        """One line per target group."""
        groups: dict[str, list[str]] = {}
        for view in self._lab.node.targets():
            state = self._screen.state(view.state == "healthy", view.state)
            why = f" ({view.reason})" if view.reason else ""
            groups.setdefault(view.group, []).append(f"{self._name(view)} {state}{why}")
        for group, states in groups.items():
            self._screen.say(f"     {group:<16}{'   '.join(states)}")

    def _views(self, scene: Scene) -> list[TargetView]:
        group = self._lab.node.group_of(scene.vip, scene.protocol, scene.port)
        return [view for view in self._lab.node.targets() if view.group == group]

    def _name(self, view: TargetView) -> str:
        for target in self._lab.targets:
            if view.address in (target.v4, target.v6):
                return target.name
        return view.address


def _seconds(took: float | None) -> str:
    return "never" if took is None else f"after {took:.1f} s"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{address} ({count}x)" for address, count in sorted(counts.items()))
