# SPDX-License-Identifier: Apache-2.0
"""millrace-pktgen on TAP interfaces, with the kernel at the other side: it answers echo, routes,
and translates addresses as an engine does, and counts what it saw by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from lab.addresses import (
    EMULATED_CLIENT_MAC,
    EMULATED_CLIENTS_V4,
    EMULATED_CLIENTS_V6,
    EMULATED_TARGETS_V4,
    EMULATED_TARGETS_V6,
    VIP_V4,
    VIP_V6,
    emulated_target_v4,
    emulated_target_v6,
)
from lab.generator import PROGRAM, assert_clean
from lab.machine import RunDirectory, reap_dead_runs
from lab.namespace import Namespace
from lab.node import build_directory
from lab.process import wait_until
from lab.views import Json

CLIENT_TAP, TARGET_TAP = "tapc", "tapt"
MACS = {CLIENT_TAP: "02:00:00:00:01:01", TARGET_TAP: "02:00:00:00:01:02"}
NO_HUGEPAGES = ("--eal=--no-huge", "--eal=-m", "--eal=256")
# The kernel's own addresses: where clients and targets have their gateways.
V4 = {CLIENT_TAP: "198.18.255.254/16", TARGET_TAP: "10.0.1.1/24"}
V6 = {CLIENT_TAP: "2001:db8:18::fffe/112", TARGET_TAP: "fd00:10:1::1/64"}
# Of a connection: SYN, request, FIN, ACK; SYN ACK, response, FIN ACK.
CLIENT_SEGMENTS, TARGET_SEGMENTS = 4, 3


@pytest.fixture
def kernel() -> Iterator[Namespace]:
    """A namespace of its own that forwards; the TAPs come with the generator."""
    if not (build_directory() / PROGRAM).exists():
        pytest.skip("millrace-pktgen is not built (ninja -C build bench)")
    reap_dead_runs()
    with ExitStack() as stack:
        directory = RunDirectory.claim()
        stack.callback(directory.remove)
        name = directory.namespace_name("kernel")
        namespace = Namespace(name, "kernel", directory.path)
        stack.callback(namespace.delete)
        namespace.create()
        namespace.sysctl("net.ipv4.ip_forward", "1")
        namespace.sysctl("net.ipv6.conf.all.forwarding", "1")
        yield namespace


def run_beside(
    kernel: Namespace,
    tmp_path: Path,
    profile: Mapping[str, Any],
    addresses: Mapping[str, str],
    *,
    neighbour: str = "",
) -> Json:
    """The result of a run with a TAP for each address, which the kernel gets when it is there;
    and `neighbour` with it, because streams answer no question for a link address."""
    file, out = tmp_path / "profile.yaml", tmp_path / "result.json"
    start_file = tmp_path / "start"
    file.write_text(json.dumps(profile))
    words: list[str | Path] = [build_directory() / PROGRAM, file, "--quiet", "--json", out]
    for number, tap in enumerate(addresses):
        words += ["--nic", f"net_tap{number},iface={tap},mac={MACS[tap]}"]
    service = kernel.service(
        "pktgen", [*words, *NO_HUGEPAGES, "--start-file", start_file, "--drain", "1.5"]
    )
    service.start()
    try:
        for tap, address in addresses.items():
            wait_until(lambda: f": {tap}:" in kernel.ip("link"), f"{tap} is there", timeout_s=10)
            kernel.add_address(tap, address)
            if neighbour:
                place = ["lladdr", EMULATED_CLIENT_MAC, "dev", tap, "nud", "permanent"]
                kernel.ip("neighbour", "replace", neighbour, *place)
        start_file.touch()
        assert service.wait(30) == 0, service.log_tail()
    finally:
        service.stop()
    result: Json = json.loads(out.read_text())
    return result


def through_kernel(clients: str, destination: str, targets: str) -> dict[str, Any]:
    return {
        "seconds": 1,
        "connections": {
            "clients": clients,
            "flows": 5000,
            "destination": destination,
            "port": 80,
            "rate": "1kcps",
            "gateway_mac": MACS[CLIENT_TAP],
            "targets": {"addresses": targets, "port": 8080, "gateway_mac": MACS[TARGET_TAP]},
        },
    }


def counted(kernel: Namespace) -> dict[str, int]:
    said = json.loads(kernel.run(["nft", "--json", "list", "counters"]).stdout)
    found = [one["counter"] for one in said["nftables"] if "counter" in one]
    return {one["name"]: one["packets"] for one in found}


@pytest.mark.parametrize(
    ("sides", "addresses", "target"),
    [
        ((EMULATED_CLIENTS_V4, VIP_V4, EMULATED_TARGETS_V4), V4, emulated_target_v4(5)),
        ((EMULATED_CLIENTS_V6, VIP_V6, EMULATED_TARGETS_V6), V6, emulated_target_v6(5)),
    ],
    ids=["ipv4", "ipv6"],
)
def test_kernel_that_translates_is_a_balancer_and_counts_the_same(
    kernel: Namespace,
    tmp_path: Path,
    sides: tuple[str, str, str],
    addresses: dict[str, str],
    target: str,
) -> None:
    family, to = ("ip6", f"[{target}]:8080") if ":" in target else ("ip", f"{target}:8080")
    kernel.run(
        ["nft", "--file", "-"],
        stdin=f"""table inet pktgen {{
          counter from_clients {{ }}
          counter from_targets {{ }}
          chain balance {{
            type nat hook prerouting priority dstnat;
            {family} daddr {sides[1]} tcp dport 80 dnat {family} to {to}
          }}
          chain count {{
            type filter hook forward priority filter;
            tcp dport 8080 iifname {CLIENT_TAP} counter name from_clients
            tcp sport 8080 iifname {TARGET_TAP} counter name from_targets
          }}
        }}""",
    )
    result = run_beside(kernel, tmp_path, through_kernel(*sides), addresses)
    found = assert_clean(result, opened=500)
    assert [count for count in found["by_target"] if count > 0] == [found["opened"]]
    repeated = found["segments_repeated"]
    packets = counted(kernel)
    assert 0 <= packets["from_clients"] - CLIENT_SEGMENTS * found["opened"] <= repeated
    assert 0 <= packets["from_targets"] - TARGET_SEGMENTS * found["opened"] <= repeated


@pytest.mark.parametrize("address", [V4[CLIENT_TAP], V6[CLIENT_TAP]], ids=["ipv4", "ipv6"])
def test_kernel_gives_every_echo_back(kernel: Namespace, tmp_path: Path, address: str) -> None:
    own = address.partition("/")[0]
    client = "2001:db8:18::1" if ":" in own else "198.18.0.1"
    stream = {
        "name": "echo",
        "protocol": "ICMP",
        "clients": f"{client}/{'128' if ':' in own else '32'}",
        "destination": own,
        "destination_mac": MACS[CLIENT_TAP],
        "size": "100-1400",
        "rate": "2kpps",
    }
    profile = {"seconds": 1, "streams": [stream]}
    result = run_beside(kernel, tmp_path, profile, {CLIENT_TAP: address}, neighbour=client)
    (found,) = result["streams"]
    assert found["sent_packets"] > 1000
    assert found["received_packets"] == found["sent_packets"]
    assert result["corrupt_packets"] == found["duplicate_packets"] == 0
