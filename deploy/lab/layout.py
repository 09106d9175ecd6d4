# SPDX-License-Identifier: Apache-2.0
"""What a lab contains. The defaults are the worst normal network (ARCHITECTURE.md, "The lab's
shapes"): what a test does not need is there all the same, and may not disturb it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """A client, the node and targets; and around them, but for a generator, what networks have."""

    clients: int = 1
    targets: int = 3
    two_nics: bool = False
    dsr: bool = False  # targets hold the VIPs and answer clients directly
    encapsulated: bool = False  # with dsr: and take packets to them out of ipip and gue
    gateway: bool = False  # t4 behind a gateway
    # millrace-pktgen, on a "veth" of the switch or at the node's own: "memif" or "vhost", which the
    # DPDK engine alone has, or a veth without a switch ("wire"). "fast" is vhost with the DPDK
    # engine and "veth" with the other; DPDK's memif driver may crash an engine when the generator
    # ends (bench/pktgen/README.md).
    generator: str = ""
    bonded: bool = (
        False  # the node's NICs are bonds of two wires (LACP), and so are the switch's ends
    )
    mtu: int = 1500  # of every interface at the switch
    hugepages: int = 160  # of 2 MiB, for the engine's packet buffers and flow tables

    nic_queues: int = 4  # rx queues of the node's NICs, which the switch spreads frames over
    snooping: bool = True  # the switch sends multicast where groups were reported (MLD)
    default_route: bool = True  # of the node, by the router
    tagged: bool = True  # a VLAN between client and node, on the same wires
    second_mac: bool = True  # the targets' router is an address with its own
    bystander: bool = True  # asks targets past the VIPs, and is asked by targets' service ports
    noise_per_second: int = 200  # SYNs and datagrams to the VIPs from addresses that do not exist

    @property
    def has_surroundings(self) -> bool:
        """A generator makes all of its network itself."""
        return not self.generator
