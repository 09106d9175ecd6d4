# SPDX-License-Identifier: Apache-2.0
"""The network of the lab comparison: one client, one server, and a path between them for each
candidate.

    client ── balancer of candidate 1 ── server
           ── balancer of candidate 2 ──
           ──────── no balancer ────────

Every box is a network namespace, every line a veth pair with one queue. Each path has addresses of
its own, so that all stand at the same time and only the one that is asked does any work.
"""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path as File
from types import TracebackType

from lab.machine import RunDirectory, reap_dead_runs
from lab.namespace import Namespace
from lab.signals import signals_ignored, terminate_as_exit

HUGEPAGES = 320  # of 2 MiB: both engines' flow tables and the DPDK engine's packet buffers
PORT = 80
# The balancer's nics, as its programs know them.
CLIENT_NIC = "nic0"
TARGET_NIC = "nic1"


@dataclass(frozen=True)
class Path:
    """`index` from 0; it makes the addresses and, with a letter, the interfaces at both ends."""

    index: int
    client: Namespace
    server: Namespace
    balancer: Namespace | None

    @property
    def client_nic(self) -> str:
        return f"c{self.index}"

    @property
    def server_nic(self) -> str:
        return f"s{self.index}"

    @property
    def vip(self) -> str:
        return f"203.0.113.{10 + self.index}"

    @property
    def client_net(self) -> str:
        return f"192.0.2.{16 * self.index}/28"

    @property
    def client_address(self) -> str:
        return f"192.0.2.{16 * self.index + 2}"

    @property
    def gateway(self) -> str:
        """The balancer, as the client sees it; without one, the server."""
        return f"192.0.2.{16 * self.index + 1}"

    @property
    def server_address(self) -> str:
        return f"10.0.{self.index}.11" if self.balancer else self.gateway

    @property
    def server_gateway(self) -> str:
        """The balancer, as the server sees it."""
        return f"10.0.{self.index}.1"


class Network:
    """Context manager: builds client and server, then paths as asked, and removes all of it, also
    after an error or a Ctrl-C. What a run that was killed left behind, the next one removes."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Network:
        reap_dead_runs()
        try:
            self._stack.enter_context(terminate_as_exit())
            atexit.register(self.close)
            self.directory = RunDirectory.claim()
            self._stack.callback(self.directory.remove)
            self.directory.reserve_hugepages(HUGEPAGES)
            self.directory.mount_bpf()
            self.client = self._host("client")
            self.server = self._host("server")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        with signals_ignored():
            self._stack.close()
        atexit.unregister(self.close)

    def _host(self, role: str) -> Namespace:
        host = Namespace(self.directory.namespace_name(role), role, self.directory.path)
        self._stack.callback(host.delete)
        host.create()
        # Enough ports for connections that come and go: the default ones are used up in seconds.
        host.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
        # The one that every kernel has, whatever this machine prefers: nothing is lost here anyway.
        host.sysctl("net.ipv4.tcp_congestion_control", "reno")
        return host

    def add_direct_path(self, index: int) -> Path:
        path = Path(index, self.client, self.server, None)
        _cable(path.client, path.client_nic, path.server, path.server_nic)
        path.client.add_address(path.client_nic, f"{path.client_address}/28")
        path.server.add_address(path.server_nic, f"{path.server_address}/28")
        return path

    def add_path(self, index: int, role: str) -> Path:
        """Cables and the addresses of both ends; the balancer's are its candidate's affair."""
        path = Path(index, self.client, self.server, self._host(f"{role}{index}"))
        assert path.balancer is not None
        _cable(path.client, path.client_nic, path.balancer, CLIENT_NIC)
        _cable(path.server, path.server_nic, path.balancer, TARGET_NIC)
        # The balancer's nics are its interfaces 2 and 3 (forward_only.bpf.c).
        path.client.ip("link", "set", path.client_nic, "address", "02:00:00:00:00:02")
        path.server.ip("link", "set", path.server_nic, "address", "02:00:00:00:00:03")
        path.client.add_address(path.client_nic, f"{path.client_address}/28")
        path.server.add_address(path.server_nic, f"{path.server_address}/24")
        path.client.add_route(f"{path.vip}/32", "via", path.gateway)
        path.client.add_route(f"{path.server_address}/32", "via", path.gateway)
        path.server.add_route(path.client_net, "via", path.server_gateway)
        return path


def _cable(left: Namespace, left_nic: str, right: Namespace, right_nic: str) -> None:
    """One queue each way: with more, a sender's CPU would choose who receives."""
    queues = ("numtxqueues", "1", "numrxqueues", "1")
    left.ip(
        *("link", "add", left_nic, *queues, "type", "veth"),
        *("peer", "name", right_nic, *queues, "netns", right.name),
    )
    left.ip("link", "set", left_nic, "up")
    right.ip("link", "set", right_nic, "up")


def checksums_on_the_wire(path: Path) -> None:
    """A veth hands frames to the next kernel with checksums still to be filled in: an engine that
    is no kernel needs them. A network card would make them; here both ends' CPU does."""
    path.client.run(["ethtool", "--offload", path.client_nic, "tx", "off"])
    path.server.run(["ethtool", "--offload", path.server_nic, "tx", "off"])


def take_frames_of_xdp(path: Path, build: File) -> None:
    """What XDP sends on a veth waits for ever unless its other end has a program, too."""
    passes = ["xdp", "object", str(build / "deploy/lab/pass.bpf.o"), "section", "xdp"]
    path.client.ip("link", "set", "dev", path.client_nic, *passes)
    path.server.ip("link", "set", "dev", path.server_nic, *passes)


def steer(host: Namespace, nic: str, cpu: int) -> None:
    """Has the kernel take what arrives there on that CPU, whoever sent it."""
    where = f"/sys/class/net/{nic}/queues/rx-0/rps_cpus"
    host.run(["sh", "-c", f"echo {1 << cpu:x} > {where}"])


def received_packets(host: Namespace, nic: str) -> int:
    where = f"/sys/class/net/{nic}/statistics/rx_packets"
    return int(host.run(["cat", where]).stdout)
