# SPDX-License-Identifier: Apache-2.0
"""Configs for tests, as the dictionaries that the YAML files hold.

Health checks run five times a second, so that a test sees a change soon, and believe a target dead
when four have failed, so that a CPU that stands still for a moment kills none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab import addresses
from lab.process import PATIENCE
from lab.target import DNS_PORT, HTTP_PORT

Config = dict[str, Any]

EMULATED_HEALTH_PORT = 8081
HTTP_PORTS = (80, 8000)
DNS_PORTS = (53, 5300)

ATTRIBUTES: Mapping[str, Any] = {
    "deregistration_delay.timeout_seconds": 60,
    "millrace.health_check.interval_milliseconds": int(200 * PATIENCE),
    "millrace.health_check.timeout_milliseconds": int(150 * PATIENCE),
}


def group(
    name: str,
    protocol: str,
    port: int,
    targets: Sequence[Mapping[str, Any]],
    *,
    forwarding: str = "nat",
    attributes: Mapping[str, Any] | None = None,
) -> Config:
    """A target group. Its targets' HTTP servers answer the health check, also for UDP."""
    return {
        "name": name,
        "protocol": protocol,
        "port": port,
        "attributes": {
            **ATTRIBUTES,
            "millrace.forwarding": forwarding,
            **(attributes or {}),
        },
        "health_check": {
            "protocol": "HTTP",
            "port": HTTP_PORT,
            "path": "/health",
            "healthy_threshold": 2,
            "unhealthy_threshold": 4,
        },
        "targets": [dict(target) for target in targets],
    }


def listener(protocol: str, port: int, name: str, **attributes: Any) -> Config:
    """Forwards to the groups `NAME-4` and `NAME-6`."""
    entry: Config = {
        "protocol": protocol,
        "port": port,
        "default_target_groups": {"ipv4": f"{name}-4", "ipv6": f"{name}-6"},
    }
    return {**entry, "attributes": attributes} if attributes else entry


def listeners(protocol: str, ports: Sequence[int], name: str) -> list[Config]:
    """One or several ports to the same targets: the first is what tests name, the others are asked
    by turns with it."""
    return [listener(protocol, port, name) for port in ports]


def vips() -> list[str]:
    """Two of each family; the first of each is what tests name."""
    return [
        *(addresses.VIP_V4, addresses.VIP_V6),
        *(addresses.OTHER_VIP_V4, addresses.OTHER_VIP_V6),
    ]


def config(
    listeners: Sequence[Config], groups: Sequence[Config], *, addresses: Sequence[str] = ()
) -> Config:
    """One load balancer; with no addresses: those that all tests have."""
    return {
        "node": {"name": "lb-1", "zone": "a"},
        "load_balancers": [
            {
                "name": "web",
                "type": "network",
                "addresses": list(addresses) or vips(),
                "listeners": list(listeners),
            }
        ],
        "target_groups": list(groups),
    }


def pair(
    name: str,
    protocol: str,
    port: int,
    *,
    members: Sequence[int] = (1, 2, 3),
    weights: Mapping[int, int] | None = None,
    forwarding: str = "nat",
    attributes: Mapping[str, Any] | None = None,
) -> list[Config]:
    """The groups `NAME-4` and `NAME-6` of targets t1, t2, ... by number."""

    def targets(address_of: Any) -> list[Config]:
        own = weights or {}
        return [
            {"id": address_of(index), **({"weight": own[index]} if index in own else {})}
            for index in members
        ]

    return [
        group(
            f"{name}-{family}",
            protocol,
            port,
            targets(address_of),
            forwarding=forwarding,
            attributes=attributes,
        )
        for family, address_of in (("4", addresses.target_v4), ("6", addresses.target_v6))
    ]


def standard(
    *,
    members: Sequence[int] = (1, 2, 3),
    weights: Mapping[int, int] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Config:
    """HTTP on TCP 80 and 8000, DNS on UDP 53 and 5300, to three targets."""
    return config(
        [*listeners("TCP", HTTP_PORTS, "http"), *listeners("UDP", DNS_PORTS, "dns")],
        [
            *pair(
                "http", "TCP", HTTP_PORT, members=members, weights=weights, attributes=attributes
            ),
            *pair("dns", "UDP", DNS_PORT, members=members, weights=weights, attributes=attributes),
        ],
    )


def direct(forwarding: str = "dsr", *, crosses: bool = False) -> Config:
    """The same with replies that go past the node: ports are the listeners' own. `crosses`: the
    targets of each VIP have the other family's addresses."""
    both = [listener("TCP", 80, "http"), listener("UDP", 53, "dns")]
    if crosses:
        for each in both:
            groups = each["default_target_groups"]
            groups["ipv4"], groups["ipv6"] = groups["ipv6"], groups["ipv4"]
    return config(
        both,
        [
            *pair("http", "TCP", 80, forwarding=forwarding),
            *pair("dns", "UDP", 53, forwarding=forwarding),
        ],
    )


def emulated(
    forwarding: str = "nat",
    *,
    members: Sequence[int] = range(1, 21),
    attributes: Mapping[str, Any] | None = None,
) -> Config:
    """TCP 80 and UDP 53 to targets that millrace-pktgen emulates; it answers TCP probes alone."""
    groups = []
    for name, protocol, port in (("tcp", "TCP", 80), ("udp", "UDP", 53)):
        for family, address_of in (
            ("4", addresses.emulated_target_v4),
            ("6", addresses.emulated_target_v6),
        ):
            own = group(
                f"{name}-{family}",
                protocol,
                port,
                [{"id": address_of(index)} for index in members],
                forwarding=forwarding,
                attributes=attributes,
            )
            # Patient: while an engine restarts, probes get through as little as anything else, and
            # flows of unhealthy targets are reset.
            own["health_check"] = {
                "protocol": "TCP",
                "port": EMULATED_HEALTH_PORT,
                "healthy_threshold": 2,
                "unhealthy_threshold": 10,
            }
            groups.append(own)
    count = 2 if forwarding == "nat" else 1  # else a target's port is the listener's
    tcp = listeners("TCP", HTTP_PORTS[:count], "tcp")
    return config([*tcp, *listeners("UDP", DNS_PORTS[:count], "udp")], groups)


FIRST_OF_MORE_PORTS = 20_000


def with_far_target() -> Config:
    """standard(), and in each group t4, which is behind the gateway (Layout.gateway)."""
    made = standard()
    for each in made["target_groups"]:
        is_v6 = each["name"].endswith("-6")
        each["targets"].append(
            {"id": addresses.FAR_TARGET_V6 if is_v6 else addresses.FAR_TARGET_V4}
        )
    return made


def with_more_groups(count: int) -> Config:
    """The standard config and `count` more groups, each with its own table, behind a listener for
    two of them from port FIRST_OF_MORE_PORTS on. Targets of all are asked slowly: on two busy
    CPUs 1,800 of them and the control plane that makes the tables leave little to who answers."""
    slowly = {
        "millrace.health_check.interval_milliseconds": 20_000,
        "millrace.health_check.timeout_milliseconds": 2_000,
    }
    more, groups = [], []
    for index in range(count // 2):
        more.append(listener("TCP", FIRST_OF_MORE_PORTS + index, f"more-{index}"))
        groups += pair(
            f"more-{index}", "TCP", HTTP_PORT, weights={1: 100 + index}, attributes=slowly
        )
    own = standard(attributes=slowly)
    return config([*own["load_balancers"][0]["listeners"], *more], [*own["target_groups"], *groups])
