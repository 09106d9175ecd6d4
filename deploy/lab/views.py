# SPDX-License-Identifier: Apache-2.0
"""What `millrace --json` says, as values that tests and the demo use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class TargetView:
    """One target of one group, as the control plane sees it."""

    group: str
    address: str
    port: int
    id: int
    weight: int
    state: str
    reason: str
    description: str
    health: str
    share: float
    operator_drained: bool
    drain_seconds_left: int | None

    @classmethod
    def of(cls, group: Json, target: Json) -> TargetView:
        return cls(
            group=group["name"],
            address=target["address"],
            port=target["port"],
            id=target["id"],
            weight=target["weight"],
            state=target["state"],
            reason=target["reason"],
            description=target["description"],
            health=target["health"],
            share=target["lookup_share"],
            operator_drained=target["operator_drained"],
            drain_seconds_left=target["drain_seconds_left"],
        )


@dataclass(frozen=True)
class Balance:
    """A worker's account: every packet that came in went out at exactly one place."""

    index: int
    counters: dict[str, int]
    drops: dict[str, int]

    @classmethod
    def of(cls, worker: Json) -> Balance:
        return cls(worker["index"], worker["counters"], worker["drops"])

    @property
    def balanced(self) -> bool:
        count = self.counters
        came = count["rx_packets"] + count["handover_in"]
        went = count["forwarded_packets"] + count["replied_packets"] + count["punted_packets"]
        went += count["handover_out"] + sum(self.drops.values())
        twin = count["twin_forwarded"] + count["twin_dropped"]
        return came == went and count["twin_rx_packets"] == twin

    @property
    def equation(self) -> str:
        count = self.counters
        left = f"{count['rx_packets']} received + {count['handover_in']} handed to it"
        right = " + ".join(
            f"{count[name]} {word}"
            for name, word in (
                ("forwarded_packets", "forwarded"),
                ("replied_packets", "replied"),
                ("punted_packets", "punted"),
                ("handover_out", "handed on"),
            )
        )
        twin = f"{count['twin_rx_packets']} from the kernel"
        twin += f" = {count['twin_forwarded']} sent + {count['twin_dropped']} dropped"
        return f"{left} = {right} + {sum(self.drops.values())} dropped; {twin}"
