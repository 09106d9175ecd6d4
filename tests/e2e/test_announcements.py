# SPDX-License-Identifier: Apache-2.0
"""A starting engine tells the link that the VIPs are here now, so that routers send to it."""

from __future__ import annotations

import ipaddress
import socket
import time

from lab import Lab, Node
from lab.addresses import VIP_V4, VIP_V6

ETH_P_ALL = 3
ARP = b"\x08\x06"
IPV6_NEIGHBOUR_ADVERTISEMENT = 136
OVERRIDE = 0x20
CAPTURE_S = 3.0


def frames_during(lab: Lab, seconds: float, node: Node) -> list[bytes]:
    """What the client's nic received while the engine was started anew."""
    with lab.client.entered():
        capture = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    capture.bind(("eth0", ETH_P_ALL))
    capture.settimeout(0.1)
    node.restart_dataplane()
    frames, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            frames.append(capture.recv(2048))
        except TimeoutError:
            continue
    capture.close()
    return frames


def announces_v4(frame: bytes) -> bool:
    """Gratuitous ARP: sender and target protocol address are the VIP (RFC 5227)."""
    vip = socket.inet_aton(VIP_V4)
    return frame[12:14] == ARP and frame[28:32] == vip and frame[38:42] == vip


def announces_v6(frame: bytes) -> bool:
    """Unsolicited neighbour advertisement with override (RFC 4861, section 7.2.6)."""
    vip = ipaddress.IPv6Address(VIP_V6).packed
    return (
        frame[12:14] == b"\x86\xdd"
        and frame[20] == socket.IPPROTO_ICMPV6
        and frame[54] == IPV6_NEIGHBOUR_ADVERTISEMENT
        and frame[62:78] == vip
        and frame[58] & OVERRIDE != 0
    )


def test_started_engine_announces_every_vip(lab: Lab, node: Node) -> None:
    assert node.dataplane.stop() == 0
    frames = frames_during(lab, CAPTURE_S, node)
    assert any(announces_v4(frame) for frame in frames)
    assert any(announces_v6(frame) for frame in frames)
    node.wait_adopted()
