# SPDX-License-Identifier: Apache-2.0
"""The lab's switch and cables: bridges in a namespace, and veth pairs."""

from __future__ import annotations

from lab.namespace import Namespace

CLIENT_BRIDGE = "clients"
TARGET_BRIDGE = "targets"
# Between queries of the switch: soon, so that who is quiet does not stay in a group for long.
QUERY_INTERVAL_CENTISECONDS = 500


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
        words = ["mcast_snooping", "0"]
        if snooping:
            words = ["mcast_snooping", "1", "mcast_querier", "1", "mcast_mld_version", "2"]
            words += ["mcast_query_interval", str(QUERY_INTERVAL_CENTISECONDS)]
        with namespace.batched():
            for bridge in sorted(set(self._bridges.values())):
                namespace.ip("link", "add", bridge, "type", "bridge", *words)
                namespace.ip("link", "set", bridge, "up")

    def plug(
        self, host: Namespace, interface: str, bridge: str, port: str, *, queues: int = 1
    ) -> None:
        """Connects `interface` of `host`, which has `queues` each way, as `port` has."""
        cable(host, interface, self.namespace, port, queues=queues)
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
