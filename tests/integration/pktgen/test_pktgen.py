# SPDX-License-Identifier: Apache-2.0
"""millrace-pktgen as a program: on null, ring and pcap devices, few packets, nothing timed.

The program's path comes in MILLRACE_PKTGEN. Packets are read back with Scapy, which computes every
length and checksum anew and shares no code with the generator.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scapy.compat import raw
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet
from scapy.utils import rdpcap, wrpcap

PROGRAM = os.environ["MILLRACE_PKTGEN"]
FOLDER = Path(__file__).resolve().parents[3] / "bench" / "pktgen"
PROFILES = FOLDER / "profiles"
SEARCH = FOLDER / "search"
NO_HUGEPAGES = ("--eal=--no-huge", "--eal=-m", "--eal=256")
TIMEOUT_S = 60


def run(*words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [PROGRAM, *words, *NO_HUGEPAGES],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done


def write_profile(path: Path, *streams: str) -> str:
    lines = "\n".join(f"  - {{{stream}}}" for stream in streams)
    path.write_text(f"seconds: 0.05\nstreams:\n{lines}\n")
    return str(path)


def captured(tmp_path: Path, *streams: str) -> list[Packet]:
    """What the streams look like on the wire."""
    out = tmp_path / "out.pcap"
    profile = write_profile(tmp_path / "a.yaml", *streams)
    run("--nic", f"net_pcap0,tx_pcap={out}", profile, "--drain", "0")
    return list(rdpcap(str(out)))


def rebuilt(packet: Packet) -> bytes:
    """The packet with every length and checksum that Scapy knows computed anew."""
    copy = packet.copy()
    for layer in (IP, IPv6, TCP, UDP, ICMP, ICMPv6EchoRequest):
        if layer in copy:
            for name in ("len", "plen", "chksum", "cksum"):
                if name in copy[layer].fields:
                    del copy[layer].fields[name]
    return bytes(raw(copy))


V4 = "clients: 198.18.0.0/16, destination: 203.0.113.10, port: 53, rate: 20kpps"
V6 = "clients: '2001:db8::/112', destination: '2001:db8:113::10', port: 53, rate: 20kpps"


@pytest.mark.parametrize("addresses", [V4, V6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("protocol", ["UDP", "TCP", "ICMP"])
def test_every_packet_is_as_scapy_would_make_it(
    tmp_path: Path, protocol: str, addresses: str
) -> None:
    stream = f"name: a, protocol: {protocol}, size: 100-400, {addresses}"
    packets = captured(tmp_path, stream + ", flows: {count: 1000, order: random}")
    assert len(packets) > 100
    for packet in packets:
        assert rebuilt(packet) == bytes(raw(packet)), packet.show(dump=True)
    assert len({len(packet) for packet in packets}) > 50


def test_flows_count_from_the_first_port_of_the_first_client(tmp_path: Path) -> None:
    packets = captured(tmp_path, f"name: a, {V4}, client_ports: 1000-1009, flows: {{count: 25}}")
    flows = [(packet[IP].src, packet[UDP].sport) for packet in packets[:26]]
    assert flows[:2] == [("198.18.0.1", 1000), ("198.18.0.1", 1001)]
    assert flows[24] == ("198.18.0.3", 1004)
    assert flows[25] == flows[0]


def test_flood_of_syns_has_a_vlan_tag_and_no_payload(tmp_path: Path) -> None:
    packets = captured(
        tmp_path, f"name: a, {V4}, protocol: TCP, flags: S, measure: false, vlan: 100"
    )
    for packet in packets[:100]:
        assert packet[Dot1Q].vlan == 100
        assert packet[TCP].flags == "S"
        assert packet[IP].len == 40
        assert len(packet) == 60


def test_malformed_set_goes_out_whole(tmp_path: Path) -> None:
    packets = captured(tmp_path, f"name: a, kind: malformed, {V4}")
    assert len({bytes(raw(packet)) for packet in packets}) > 50


def test_replay_rewrites_and_repeats(tmp_path: Path) -> None:
    sent = [
        Ether() / IP(src="192.0.2.5", dst="192.0.2.9") / UDP(sport=7, dport=53) / b"one",
        Ether() / IP(src="192.0.2.6", dst="192.0.2.9") / TCP(sport=8, dport=80) / b"two",
    ]
    wrpcap(str(tmp_path / "in.pcap"), sent)
    packets = captured(tmp_path, f"name: a, kind: replay, capture: in.pcap, {V4}")
    sources = [packet[IP].src for packet in packets[:3]]
    assert sources[0] == sources[2] != sources[1]
    assert all(source.startswith("198.18.") for source in sources)
    for packet in packets:
        assert packet[IP].dst == "203.0.113.10"
        assert rebuilt(packet) == bytes(raw(packet))


def test_ring_gives_back_every_packet_of_every_stream(tmp_path: Path) -> None:
    profile = write_profile(
        tmp_path / "a.yaml",
        f"name: small, {V4}",
        f"name: large, size: 1518, {V6}",
        f"name: tcp, protocol: TCP, size: imix, measure: false, {V4}",
        f"name: broken, kind: malformed, {V4}",
    )
    said = run("--nic", "net_ring0", profile, "--quiet").stdout
    for name in ("small", "large"):
        found = re.search(rf"^{name}: sent (\d+) .*\n  received (\d+) ", said, re.MULTILINE)
        assert found is not None, said
        assert int(found.group(1)) > 500
        assert found.group(1) == found.group(2)
    assert said.count("lost 0 (0.0000 %), reordered 0, duplicates 0") == 2
    assert said.rstrip().endswith("with a wrong checksum 0")


def test_json_says_what_the_text_says_and_where(tmp_path: Path) -> None:
    profile = write_profile(tmp_path / "a.yaml", f"name: a, {V4}", f"name: b, measure: false, {V4}")
    out = tmp_path / "out.json"
    said = run("--nic", "net_ring0", profile, "--quiet", "--seed", "7", "--json", str(out)).stdout
    result = json.loads(out.read_text())
    measured, unmeasured = result["streams"]
    assert f"a: sent {measured['sent_packets']} (" in said
    assert measured["received_packets"] == measured["sent_packets"] > 500
    assert measured["lost_packets"] == 0
    latency = measured["latency"]
    assert sum(count for _, _, count in latency["buckets"]) == measured["received_packets"]
    figures = [latency[key] for key in ("min_ns", "p50_ns", "p99_ns", "p999_ns", "max_ns")]
    assert figures == sorted(figures)
    assert "latency" not in unmeasured
    both = measured["sent_packets"] + unmeasured["sent_packets"]
    assert result["received_packets"] == both
    assert result["unmarked_packets"] == unmeasured["sent_packets"]
    assert result["seed"] == 7
    assert result["devices"] == ["net_ring0"]
    assert result["command_line"][0] == PROGRAM
    assert result["machine"]["kernel"] == os.uname().release
    assert result["machine"]["cpu_count"] == os.cpu_count()
    assert result["machine"]["memory_bytes"] > 1 << 28


def test_json_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    profile = write_profile(tmp_path / "a.yaml", f"name: a, {V4}")
    said = run("--nic", "net_ring0", profile, "--json", str(tmp_path / "no/x"), status=1).stderr
    assert "--json: cannot write" in said


CONNECTIONS = """
seconds: 0.2
connections:
  protocol: {protocol}
  clients: {clients}
  flows: 2000
  destination: {target}
  rate: 5kcps
  request_bytes: 300
  response_bytes: {response_bytes}
  requests: 2
  think_ms: 1
  targets: {{addresses: {targets}}}
"""
V4_SIDES = {"clients": "198.18.0.0/16", "target": "10.0.1.1", "targets": "10.0.1.0/24"}
V6_SIDES = {
    "clients": "'2001:db8:18::/112'",
    "target": "'2001:db8:1::1'",
    "targets": "'2001:db8:1::/120'",
}


@pytest.mark.parametrize("sides", [V4_SIDES, V6_SIDES], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_connections_in_a_ring_all_complete_without_a_violation(
    tmp_path: Path, protocol: str, sides: dict[str, str]
) -> None:
    profile = tmp_path / "connections.yaml"
    response_bytes = "20000" if protocol == "TCP" else "1000"
    profile.write_text(
        CONNECTIONS.format(protocol=protocol, response_bytes=response_bytes, **sides)
    )
    out = tmp_path / "out.json"
    words = ("--nic", "net_ring0", str(profile), "--quiet", "--drain", "2", "--json", str(out))
    said = run(*words).stdout
    assert "VIOLATIONS 0\n" in said
    result = json.loads(out.read_text())["connections"]
    assert result["opened"] > 100
    assert result["completed"] == result["opened"]
    assert result["responses"] == 2 * result["opened"]
    assert result["violations"]["total"] == 0
    assert sum(result["by_target"]) == result["by_target"][0] >= result["opened"]
    latency = result["response_latency"]
    assert sum(count for _, _, count in latency["buckets"]) == result["responses"]
    page = tmp_path / "report.html"
    subprocess.run([str(FOLDER / "report"), str(out), "--output", str(page)], check=True)
    assert "Violations: 0" in page.read_text()


def test_connections_of_which_nobody_answers_time_out(tmp_path: Path) -> None:
    profile = tmp_path / "connections.yaml"
    profile.write_text(CONNECTIONS.format(protocol="TCP", response_bytes=100, **V4_SIDES))
    words = ("--nic", "net_null0,no-rx=1", str(profile), "--quiet", "--drain", "3")
    said = run(*words).stdout
    found = re.search(r"opened (\d+), completed 0 .*timed out (\d+), ", said, re.DOTALL)
    assert found is not None, said
    assert found.group(1) == found.group(2)


@contextmanager
def targets_at(tmp_path: Path, device: str, profile: Path) -> Iterator[Path]:
    """A process that only answers, and where its result is when the block is over."""
    out = tmp_path / "targets.json"
    words = ["--nic", device, str(profile), "--rate", "1cps", "--warm-up", "60"]
    words += ["--quiet", "--json", str(out)]
    with subprocess.Popen([PROGRAM, *words, *NO_HUGEPAGES], stdout=subprocess.DEVNULL) as process:
        try:
            yield out
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0


@pytest.mark.parametrize("sides", [V4_SIDES, V6_SIDES], ids=["ipv4", "ipv6"])
def test_connections_between_two_processes_over_vhost_user(
    tmp_path: Path, sides: dict[str, str]
) -> None:
    profile, clients = tmp_path / "targets.yaml", tmp_path / "clients.yaml"
    profile.write_text(CONNECTIONS.format(protocol="TCP", response_bytes=20000, **sides))
    clients.write_text(re.sub("  targets:.*\n", "", profile.read_text()))
    socket, out = tmp_path / "vhost.sock", tmp_path / "out.json"
    with targets_at(tmp_path, f"net_vhost0,iface={socket}", profile) as other:
        for _ in range(100 * TIMEOUT_S):
            if socket.exists():
                break
            time.sleep(0.01)
        device = f"net_virtio_user0,path={socket}"
        run("--nic", device, str(clients), "--quiet", "--drain", "2", "--json", str(out))
    found = json.loads(out.read_text())["connections"]
    assert found["completed"] == found["opened"] > 100
    assert found["responses"] == 2 * found["opened"]
    assert found["violations"]["total"] == 0
    answered = json.loads(other.read_text())["connections"]
    assert sum(answered["by_target"]) == answered["by_target"][0] == found["opened"]
    assert answered["violations"]["total"] == 0


def test_both_ends_of_vhost_user_in_one_process_are_refused(tmp_path: Path) -> None:
    profile = write_profile(tmp_path / "a.yaml", f"name: a, {V4}")
    socket = tmp_path / "vhost.sock"
    ends = (f"net_vhost0,iface={socket}", f"net_virtio_user0,path={socket},queues=1")
    said = run("--nic", ends[0], "--nic", ends[1], profile, status=1).stderr
    assert f"both ends of {socket} in one process" in said


def test_streams_and_connections_go_side_by_side(tmp_path: Path) -> None:
    profile = tmp_path / "both.yaml"
    connections = CONNECTIONS.format(protocol="TCP", response_bytes=100, **V4_SIDES)
    stream = f"streams:\n  - {{name: beside, {V4.replace('198.18', '198.19')}}}\n"
    profile.write_text(connections + stream)
    said = run("--nic", "net_ring0", str(profile), "--quiet").stdout
    assert "VIOLATIONS 0\n" in said
    assert "lost 0 (0.0000 %), reordered 0, duplicates 0" in said


def test_neighbours_are_answered_for_clients_and_targets(tmp_path: Path) -> None:
    asked = [
        Ether(src="02:00:00:00:00:09", dst="ff:ff:ff:ff:ff:ff") / ARP(psrc="10.9.9.9", pdst=pdst)
        for pdst in ("198.18.0.1", "10.0.1.7", "10.0.2.1")
    ]
    wrpcap(str(tmp_path / "in.pcap"), asked)
    profile = tmp_path / "connections.yaml"
    text = CONNECTIONS.format(protocol="TCP", response_bytes=100, **V4_SIDES)
    profile.write_text(text.replace("5kcps", "1cps"))
    out = tmp_path / "out.pcap"
    device = f"net_pcap0,rx_pcap={tmp_path / 'in.pcap'},tx_pcap={out}"
    run("--nic", device, str(profile), "--quiet", "--drain", "0")
    answers = [packet[ARP] for packet in rdpcap(str(out)) if ARP in packet]
    assert [(answer.op, answer.psrc, answer.hwsrc) for answer in answers] == [
        (2, "198.18.0.1", "02:00:00:00:00:02"),
        (2, "10.0.1.7", "02:00:00:00:00:03"),
    ]


def search(tmp_path: Path, what: str, profile: Path, *more: str) -> dict[str, Any]:
    """A short search on a ring, as its JSON."""
    out = tmp_path / "found.json"
    words = [str(SEARCH), what, str(profile), "--nic", "net_ring0", "--program", PROGRAM]
    words += ["--width", "0.3", "--trial-seconds", "0.1", "--json", str(out), *more]
    words += NO_HUGEPAGES
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_search_for_throughput_runs_trials_and_says_where_it_ended(tmp_path: Path) -> None:
    profile = Path(write_profile(tmp_path / "a.yaml", f"name: a, {V4}"))
    written = search(tmp_path, "throughput", profile, "--max", "2000", "--sum-seconds", "0.2")
    assert [one["goal"]["loss_ratio"] for one in written["found"]] == [0.0, 0.005]
    assert written["machine"]["kernel"] == os.uname().release
    for trial in written["trials"]:
        assert trial["sent"] > 0
        assert trial["load"] <= 2000
    page = tmp_path / "report.html"
    command = [str(FOLDER / "report"), str(tmp_path / "found.json"), "--output", str(page)]
    subprocess.run(command, check=True)
    assert "Search: throughput, a" in page.read_text()


def test_search_for_connections_counts_those_that_completed(tmp_path: Path) -> None:
    profile = tmp_path / "connections.yaml"
    profile.write_text(CONNECTIONS.format(protocol="TCP", response_bytes=100, **V4_SIDES))
    written = search(tmp_path, "connections", profile, "--max", "500")
    assert written["found"][0]["goal"]["loss_ratio"] == 1e-5
    assert all(trial["sent"] > 0 for trial in written["trials"])


def test_search_for_concurrent_connections_opens_as_many_as_it_says(tmp_path: Path) -> None:
    profile = tmp_path / "connections.yaml"
    profile.write_text(CONNECTIONS.format(protocol="TCP", response_bytes=100, **V4_SIDES))
    written = search(tmp_path, "concurrent", profile, "--max", "300", "--open-rate", "3000")
    assert {trial["sent"] for trial in written["trials"]} >= {300}


def test_null_swallows_all_and_the_loss_is_said(tmp_path: Path) -> None:
    profile = write_profile(tmp_path / "a.yaml", f"name: a, {V4}")
    said = run("--nic", "net_null0,no-rx=1", profile, "--quiet").stdout
    found = re.search(r"sent (\d+) .*lost (\d+) \(100", said, re.DOTALL)
    assert found is not None, said
    assert found.group(1) == found.group(2)


def test_mistakes_are_one_message_and_status_1(tmp_path: Path) -> None:
    profile = write_profile(tmp_path / "a.yaml", f"name: a, sise: 64, {V4}")
    said = run("--nic", "net_ring0", profile, status=1).stderr
    assert said.startswith(f"millrace-pktgen: {profile}:3:")
    assert "did you mean `size`?" in said
    good = write_profile(tmp_path / "a.yaml", f"name: a, {V4}")
    assert "--nic is missing" in run(good, status=1).stderr
    assert "PROFILE is missing" in run("--nic", "net_ring0", status=1).stderr
    assert "nic net_none0" in run("--nic", "net_none0", good, status=1).stderr


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.yaml")), ids=lambda path: str(path.stem))
def test_ready_profile_is_right(path: Path) -> None:
    assert run("--check", str(path)).stdout == f"{path} is right\n"
