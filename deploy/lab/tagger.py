#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A VLAN interface for kernels that are built without them.

  tagger.py INTERFACE VLAN TAP MAC

What leaves by the TAP device goes out of INTERFACE with a tag (IEEE 802.1Q); what comes in there
with that tag, for MAC or for many, comes in by the TAP.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
from contextlib import suppress

ETH_P_ALL = 3
TAG = b"\x81\x00"
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_SOL_PACKET, _PACKET_AUXDATA, _PACKET_OUTGOING = 263, 8, 4
_VLAN_VALID = 0x10
_SO_ATTACH_FILTER = 26
# Classic BPF (Linux's Documentation/networking/filter.rst): frames that came in with a tag. All
# others would wake this program for nothing.
_TAGGED_ONLY = (
    (0x20, 0, 0, 0xFFFFF004),  # load the packet's type
    (0x15, 3, 0, _PACKET_OUTGOING),
    (0x20, 0, 0, 0xFFFFF030),  # load whether a tag was taken out
    (0x15, 1, 0, 0),
    (0x06, 0, 0, 65536),
    (0x06, 0, 0, 0),
)


def open_wire(interface: str) -> socket.socket:
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _TAGGED_ONLY)
    with memoryview(bytearray(program)) as kept:
        address = ctypes.addressof(ctypes.c_char.from_buffer(kept))
        described = struct.pack("HP", len(_TAGGED_ONLY), address)
        wire.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
    wire.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
    wire.bind((interface, ETH_P_ALL))
    return wire


def open_tap(name: str) -> int:
    if not os.path.exists("/dev/net/tun"):
        subprocess.run(["modprobe", "tun"], check=True)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return device


def tagged(frame: bytes, vlan: int) -> bytes:
    return frame[:12] + TAG + struct.pack("!H", vlan) + frame[12:]


def untagged(wire: socket.socket, vlan: int, own: bytes) -> bytes | None:
    """The kernel has taken the tag out of the frame, and says beside it what it was."""
    frame, beside, _, _ = wire.recvmsg(65536, 256)
    if not (frame[:6] == own or frame[0] & 1):
        return None
    for level, kind, data in beside:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, tag = struct.unpack_from("=I12xH", data)
            return frame if status & _VLAN_VALID and tag & 0xFFF == vlan else None
    return None


def main() -> int:
    interface, vlan, tap, mac = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    own = bytes.fromhex(mac.replace(":", ""))
    wire, device = open_wire(interface), open_tap(tap)
    while True:
        readable, _, _ = select.select([wire, device], [], [])
        # A frame is lost, as on any wire, while an end of it is down or has no room.
        with suppress(OSError):
            if wire in readable and (frame := untagged(wire, vlan, own)) is not None:
                os.write(device, frame)
        with suppress(OSError):
            if device in readable:
                wire.send(tagged(os.read(device, 65536), vlan))
    return 0


if __name__ == "__main__":
    sys.exit(main())
