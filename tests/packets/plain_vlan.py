# SPDX-License-Identifier: Apache-2.0
"""VLANs around the plain model (IEEE 802.1Q): what a trunk port of a switch does.

The model knows one untagged link. A neighbour in a VLAN has a MAC address of its own there, which
stands for (VLAN, MAC address): so the model tells it from one of the same address elsewhere, and
what the model sends to it leaves with the VLAN's tag.
"""

from __future__ import annotations

from typing import Protocol

TAG = b"\x81\x00"
TAKEN = (b"\x08\x00", b"\x08\x06", b"\x86\xdd")
NOBODY = bytes.fromhex("020000000099")

_stand_ins: dict[tuple[int, bytes], bytes] = {}
_meant: dict[bytes, tuple[int, bytes]] = {}


def in_vlan(vlan: int, mac: bytes) -> bytes:
    """What stands for the neighbour."""
    if (vlan, mac) not in _stand_ins:
        first = 0x0E | mac[0] & 1
        stand_in = bytes([first, 0x8C, *len(_stand_ins).to_bytes(4, "big")])
        _stand_ins[vlan, mac] = stand_in
        _meant[stand_in] = (vlan, mac)
    return _stand_ins[vlan, mac]


def tagged(frame: bytes, vlan: int) -> bytes:
    return frame[:12] + TAG + vlan.to_bytes(2, "big") + frame[12:]


class Model(Protocol):
    def handle(self, frame: bytes) -> str:
        ...


class Trunk:
    """`vlans` have the nic's own MAC address; `further`: addresses that it has untagged alone."""

    def __init__(self, model: Model, vlans: set[int], further: list[bytes]) -> None:
        self._model = model
        self._vlans = vlans
        self._further = further

    def handle(self, frame: bytes) -> str:
        vlan = self._vlan_of(frame)
        if vlan is None:
            return self._sent(self._model.handle(frame), None)
        to = NOBODY if frame[:6] in self._further else frame[:6]
        said = self._model.handle(to + in_vlan(vlan, frame[6:12]) + frame[16:])
        return f"punt 0 {frame.hex()}" if said.startswith("punt") else self._sent(said, vlan)

    def _vlan_of(self, frame: bytes) -> int | None:
        if len(frame) < 18 or frame[12:14] != TAG or frame[16:18] not in TAKEN:
            return None
        vlan = int.from_bytes(frame[14:16], "big") & 0xFFF
        return vlan if vlan in self._vlans else None

    def _sent(self, said: str, came_in: int | None) -> str:
        kind, *rest = said.split()
        if kind not in ("forward", "reply"):
            return said
        frame = bytes.fromhex(rest[1])
        vlan, to = _meant.get(frame[:6], (None, frame[:6]))
        frame = to + frame[6:]
        vlan = came_in if kind == "reply" else vlan  # an answer goes back where the question was
        return f"{kind} 0 {(frame if vlan is None else tagged(frame, vlan)).hex()}"
