# SPDX-License-Identifier: Apache-2.0
"""The lab's addresses, once. All are from documentation or private ranges (RFC 5737, 3849, 4193).

    client network   192.0.2.0/24    2001:db8:2::/64     node .1, clients .100 and up
    target network   10.0.1.0/24     fd00:10:1::/64      node .1, targets .11 and up, gateway .254
    a second node    .2 of both
    node's second MAC address                            .3 of the target network
    bystander        .200 of the client network
    in VLAN 7        192.0.7.0/24    2001:db8:7::/64     node .1, client .100
    noise            198.19.0.0/16   2001:db8:19::/64    nobody
    behind gateway   10.0.2.0/24     fd00:10:2::/64      one more target, .11
    behind router    198.51.100.0/24 2001:db8:51::/64    one more client, .100
    VIPs             203.0.113.0/24  2001:db8:113::/64   on the clients' link, owned by the node
"""

VIP_V4 = "203.0.113.10"
VIP_V6 = "2001:db8:113::10"
# Of the same load balancer, as one in each zone.
OTHER_VIP_V4 = "203.0.113.11"
OTHER_VIP_V6 = "2001:db8:113::11"
VIP_NET_V4 = "203.0.113.0/24"
VIP_NET_V6 = "2001:db8:113::/64"

NODE_CLIENT_V4 = "192.0.2.1"
NODE_CLIENT_V6 = "2001:db8:2::1"
NODE_TARGET_V4 = "10.0.1.1"
NODE_TARGET_V6 = "fd00:10:1::1"
SECOND_CLIENT_V4 = "192.0.2.2"
SECOND_CLIENT_V6 = "2001:db8:2::2"
SECOND_TARGET_V4 = "10.0.1.2"
SECOND_TARGET_V6 = "fd00:10:1::2"

SECOND_MAC = "00:00:5e:00:01:01"  # as VRRP has it (RFC 5798): the same wherever the addresses go
SECOND_MAC_V4 = "10.0.1.3"
SECOND_MAC_V6 = "fd00:10:1::3"
BYSTANDER_V4 = "192.0.2.200"
BYSTANDER_V6 = "2001:db8:2::c8"
VLAN = 7
VLAN_NODE_V4 = "192.0.7.1"
VLAN_NODE_V6 = "2001:db8:7::1"
VLAN_CLIENT_V4 = "192.0.7.100"
VLAN_CLIENT_V6 = "2001:db8:7::100"
NOISE_NET_V4 = "198.19.0.0/16"
NOISE_NET_V6 = "2001:db8:19::/64"

TARGET_NET_V4 = "10.0.1.0/24"
TARGET_NET_V6 = "fd00:10:1::/64"
CLIENT_NET_V4 = "192.0.2.0/24"
CLIENT_NET_V6 = "2001:db8:2::/64"
ROUTER_V4 = "192.0.2.254"
ROUTER_V6 = "2001:db8:2::fe"
REMOTE_NET_V4 = "198.51.100.0/24"
REMOTE_NET_V6 = "2001:db8:51::/64"
REMOTE_CLIENT_V4 = "198.51.100.100"
REMOTE_CLIENT_V6 = "2001:db8:51::100"

# Of the node's NIC where millrace-pktgen is its neighbour, which asks nobody for link addresses;
# and what that emulates: 62 targets in the target network, and clients without a network.
NODE_MAC = "02:00:00:00:00:01"
VHOST_MAC = "56:48:4f:53:54:00"  # which DPDK's vhost gives its first device
EMULATED_CLIENT_MAC = "02:00:00:00:00:02"
EMULATED_TARGETS_V4 = "10.0.1.64/26"
EMULATED_TARGETS_V6 = "fd00:10:1::100/122"
EMULATED_CLIENTS_V4 = "198.18.0.0/16"
EMULATED_CLIENTS_V6 = "2001:db8:18::/112"

GATEWAY_V4 = "10.0.1.254"
GATEWAY_V6 = "fd00:10:1::fe"
FAR_NET_V4 = "10.0.2.0/24"
FAR_NET_V6 = "fd00:10:2::/64"
FAR_TARGET_V4 = "10.0.2.11"
FAR_TARGET_V6 = "fd00:10:2::11"


def client_v4(index: int) -> str:
    return f"192.0.2.{100 + index}"


def client_v6(index: int) -> str:
    return f"2001:db8:2::{100 + index}"


def target_v4(index: int) -> str:
    """`index` from 1, as in the target's name."""
    return f"10.0.1.{10 + index}"


def emulated_target_v4(index: int) -> str:
    """`index` from 1."""
    return f"10.0.1.{64 + index}"


def emulated_target_v6(index: int) -> str:
    return f"fd00:10:1::{0x100 + index:x}"


def target_v6(index: int) -> str:
    return f"fd00:10:1::{10 + index}"
