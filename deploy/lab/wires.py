# SPDX-License-Identifier: Apache-2.0
"""The lab's switch and cables: bridges in a namespace, and veth pairs."""

from __future__ import annotations

from pathlib import Path

from lab.namespace import Namespace

CLIENT_BRIDGE = "clients"
TARGET_BRIDGE = "targets"
# Of a switch that snoops, in hundredths of a second: short, so that it floods no longer than it
# must at first (for a response interval), and who does not answer its queries is soon in no group.
# The querier comes last, because it starts with what is set then.
SNOOPING = {
    "mcast_mld_version": "2",
    "mcast_query_interval": "200",
    "mcast_query_response_interval": "100",
    "mcast_membership_interval": "500",
    "mcast_startup_query_interval": "50",
    "mcast_snooping": "1",
    "mcast_querier": "1",
}
# A switch looks at no IP header, but where the kernel has br_netfilter, a bridge does.
NO_FILTER = {f"net.bridge.bridge-nf-call-{what}": "0" for what in ("iptables", "ip6tables")}
BOND = "mode 802.3ad miimon 100 lacp_rate fast xmit_hash_policy layer3+4".split()
# Longer than it takes the switch to forget who does not answer.
FORGETS_WITHIN_S = 6.0


class Switch:
    """One bridge for all, or one for the clients' side and one for the targets'."""

    def __init__(
        self, namespace: Namespace, *, two_bridges: bool, snooping: bool, mtu: int
    ) -> None:
        self.namespace = namespace
        self._mtu = ("mtu", str(mtu))
        self._bridges = {CLIENT_BRIDGE: "br-clients", TARGET_BRIDGE: "br-clients"}
        if two_bridges:
            self._bridges[TARGET_BRIDGE] = "br-targets"
        with namespace.entered():
            has_filter = Path("/proc/sys/net/bridge").exists()
        if has_filter:
            namespace.sysctls(NO_FILTER)
        options = SNOOPING if snooping else {"mcast_snooping": "0"}
        with namespace.batched():
            for bridge in sorted(set(self._bridges.values())):
                namespace.ip("link", "add", bridge, "type", "bridge")
                for option, value in options.items():
                    namespace.ip("link", "set", "dev", bridge, "type", "bridge", option, value)
                namespace.ip("link", "set", bridge, "up")

    def plug(
        self, host: Namespace, interface: str, bridge: str, port: str, *, queues: int = 1
    ) -> None:
        """Connects `interface` of `host`, which has `queues` each way, as `port` has."""
        cable(host, interface, self.namespace, port, queues=queues)
        host.ip("link", "set", interface, *self._mtu)
        self.add_port(port, bridge)

    def plug_bonded(self, host: Namespace, interface: str, bridge: str, port: str) -> None:
        """Likewise with two wires, which both ends take as one by LACP (IEEE 802.1AX)."""
        for wire in "ab":
            cable(host, f"{interface}{wire}", self.namespace, f"{port}{wire}")
        for end, bond in ((host, interface), (self.namespace, port)):
            end.ip("link", "add", bond, "type", "bond", *BOND)
            for wire in "ab":
                end.ip("link", "set", f"{bond}{wire}", "down")
                end.ip("link", "set", f"{bond}{wire}", "master", bond)
            end.interface_up(bond)
        host.ip("link", "set", interface, *self._mtu)
        self.add_port(port, bridge)

    def add_port(self, port: str, bridge: str) -> None:
        self.namespace.ip("link", "set", port, *self._mtu, "master", self._bridges[bridge], "up")


def cable(
    left: Namespace, left_interface: str, right: Namespace, right_interface: str, *, queues: int = 1
) -> None:
    """Both ends are up."""
    each = ("numrxqueues", str(queues), "numtxqueues", str(queues))
    left.ip(
        *("link", "add", left_interface, *each, "type", "veth"),
        *("peer", "name", right_interface, *each, "netns", right.name),
    )
    for host, interface in ((left, left_interface), (right, right_interface)):
        host.offloads_off(interface)
        host.interface_up(interface)


def forwarding_on(host: Namespace) -> None:
    host.sysctls({"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"})
