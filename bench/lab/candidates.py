# SPDX-License-Identifier: Apache-2.0
"""What is compared: nothing in between, the kernel's own forwarding and its own balancer, two
proxies, the least that XDP can do, Millrace.

Each is set up as its manual says for this job, with what it has on by default. None carries an
access log, and health checks are Millrace's alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path as File

from lab.configs import Config
from lab.namespace import Namespace
from lab.node import Node
from lab.process import Service

from network import (
    CLIENT_NIC,
    PORT,
    TARGET_NIC,
    Network,
    Path,
    checksums_on_the_wire,
    received_packets,
    steer,
    take_frames_of_xdp,
)

NOTHING = "no balancer"
ROUTING = "kernel routing"
NFTABLES = "nftables DNAT"
NFTABLES_HERE = "nftables, ends' core"
IPVS = "IPVS NAT"
NGINX = "nginx stream"
HAPROXY = "HAProxy TCP"
FLOOR = "bare XDP"
XDP = "Millrace XDP"
DPDK = "Millrace DPDK"

IPVSADM = "/usr/sbin/ipvsadm"
FLOWS = 1 << 18  # as many as the kernel's connection tracking has here by default

_NGINX_CONF = """
daemon off;
user root;
worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/nginx-error.log warn;
{modules}
events {{ worker_connections 8192; }}
"""
_NGINX_HTTP = """
http {{
  access_log off;
  client_body_temp_path {home}/tmp-body;
  proxy_temp_path {home}/tmp-proxy;
  fastcgi_temp_path {home}/tmp-fastcgi;
  uwsgi_temp_path {home}/tmp-uwsgi;
  scgi_temp_path {home}/tmp-scgi;
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  default_type text/plain;
  server {{
    listen {port} backlog=4096;
    location / {{ return 200 "{body}\\n"; }}
  }}
}}
"""
_NGINX_STREAM = """
stream {{
  server {{
    listen {vip}:{port} backlog=4096;
    proxy_pass {server}:{port};
  }}
}}
"""
_HAPROXY_CONF = """
global
  nbthread 1
  maxconn 8192
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen web
  bind {vip}:{port} backlog 4096
  server s1 {server}:{port}
"""
_NFTABLES_RULES = """
table ip lab {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    ip daddr {vip} tcp dport {port} dnat to {server}
  }}
}}
"""
BODY_BYTES = 100


@dataclass(frozen=True)
class Placement:
    """Which CPU client and server have, and which the balancer."""

    ends_cpu: int
    balancer_cpu: int

    @property
    def is_apart(self) -> bool:
        return self.ends_cpu != self.balancer_cpu


@dataclass
class Candidate:
    """Stands ready; what runs as a program runs between start() and stop(), in its turn alone."""

    name: str
    path: Path
    address: str  # that the client asks
    placement: Placement
    service: Service | None = None
    node: Node | None = None
    is_ready: Callable[[], bool] = field(default=lambda: True)

    def start(self) -> None:
        if self.service:
            with on_cpu(self.placement.balancer_cpu):
                self.service.start()
            self.service.wait_ready(self.is_ready)
        if self.node:
            self._start_node(self.node)

    def _start_node(self, node: Node) -> None:
        if node.engine == "xdp":
            with on_cpu(self.placement.balancer_cpu):
                self._start_millrace(node, [])
            return
        cpus = ["--main-cpu", str(self.placement.ends_cpu)]
        cpus += ["--worker-cpus", str(self.placement.balancer_cpu), "--spin"]
        self._start_millrace(node, cpus)
        # DPDK names its other threads' CPUs by itself; the control plane has none of its own.
        os.sched_setaffinity(node.controlplane.pid, {self.placement.ends_cpu})

    def _start_millrace(self, node: Node, cpus: list[str]) -> None:
        words = [*node.engine_words(flows=FLOWS), *cpus]
        node.dataplane = node.namespace.service("dataplane", words)
        node.restart_dataplane()
        node.start_controlplane(_millrace_config(self.path))
        node.wait_adopted()
        node.wait_states("healthy")

    def stop(self) -> None:
        if self.service:
            self.service.stop()
        if self.node:
            self.node.close()

    def carried_packets(self) -> int:
        """That came to the balancer from the client, ever: proof that it was on the way."""
        if self.path.balancer is None:
            return received_packets(self.path.server, self.path.server_nic)
        return received_packets(self.path.balancer, CLIENT_NIC)


@contextmanager
def on_cpu(cpu: int) -> Iterator[None]:
    """What this process starts inside runs on that CPU for good."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def start_server(network: Network, cpu: int) -> None:
    """nginx, which answers every request with 100 bytes; it ends with the network."""
    home = network.directory.path / "server"
    http = _NGINX_HTTP.format(home=home, port=PORT, body="x" * (BODY_BYTES - 1))
    service = _nginx_service(network.server, home, "", http)
    with on_cpu(cpu):
        service.start()
    service.wait_ready(lambda: _listens(network.server))


def direct(network: Network, index: int, placement: Placement) -> Candidate:
    path = network.add_direct_path(index)
    if placement.is_apart:
        _steer_ends(path, placement.ends_cpu)
    return Candidate(NOTHING, path, path.server_address, placement)


def routing(network: Network, index: int, placement: Placement) -> Candidate:
    path, _ = _kernel_path(network, index, "routing", placement)
    return Candidate(ROUTING, path, path.server_address, placement)


def nftables(network: Network, index: int, placement: Placement) -> Candidate:
    path, balancer = _kernel_path(network, index, "nftables", placement)
    rules = _NFTABLES_RULES.format(vip=path.vip, server=path.server_address, port=PORT)
    balancer.run(["nft", "--file", "-"], stdin=rules)
    return Candidate(NFTABLES, path, path.vip, placement)


def ipvs(network: Network, index: int, placement: Placement) -> Candidate:
    """With the scheduler that is nearest to Millrace's: Maglev, over the client's port, too."""
    path, balancer = _proxy_path(network, index, "ipvs", placement)
    service = f"{path.vip}:{PORT}"
    words = ["--scheduler", "mh", "--sched-flags", "mh-port"]
    balancer.run([IPVSADM, "--add-service", "--tcp-service", service, *words])
    server = f"{path.server_address}:{PORT}"
    words = ["--real-server", server, "--masquerading"]
    balancer.run([IPVSADM, "--add-server", "--tcp-service", service, *words])
    return Candidate(IPVS, path, path.vip, placement)


def nginx(network: Network, index: int, placement: Placement) -> Candidate:
    path, balancer = _proxy_path(network, index, "nginx", placement)
    home = network.directory.path / "stream"
    stream = _NGINX_STREAM.format(vip=path.vip, server=path.server_address, port=PORT)
    module = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;"
    service = _nginx_service(balancer, home, module, stream)
    return Candidate(NGINX, path, path.vip, placement, service, is_ready=lambda: _listens(balancer))


def haproxy(network: Network, index: int, placement: Placement) -> Candidate:
    path, balancer = _proxy_path(network, index, "haproxy", placement)
    config = network.directory.path / "haproxy.cfg"
    written = _HAPROXY_CONF.format(vip=path.vip, server=path.server_address, port=PORT)
    config.write_text(written, encoding="utf-8")
    service = balancer.service("haproxy", ["/usr/sbin/haproxy", "-db", "-f", config])
    return Candidate(
        HAPROXY, path, path.vip, placement, service, is_ready=lambda: _listens(balancer)
    )


def millrace(
    network: Network, index: int, placement: Placement, engine: str, build: File
) -> Candidate:
    path = network.add_path(index, engine)
    assert path.balancer is not None
    node = Node(path.balancer, network.directory, engine=engine, build=build)
    node.take_nics([CLIENT_NIC, TARGET_NIC])
    _add_balancer_addresses(path, node.interface(0), node.interface(1))
    checksums_on_the_wire(path)
    if engine == "xdp":
        take_frames_of_xdp(path, build)
    if placement.is_apart:
        _steer_ends(path, placement.ends_cpu)
    name = XDP if engine == "xdp" else DPDK
    return Candidate(name, path, path.vip, placement, node=node)


def forward_only(network: Network, index: int, placement: Placement, build: File) -> Candidate:
    path, balancer = _kernel_path(network, index, "floor", placement)
    checksums_on_the_wire(path)
    take_frames_of_xdp(path, build)
    program = [
        "xdp",
        "object",
        str(build / "tests/support/bpf/forward_only.bpf.o"),
        "section",
        "xdp",
    ]
    for nic in (CLIENT_NIC, TARGET_NIC):
        balancer.ip("link", "set", "dev", nic, *program)
    return Candidate(FLOOR, path, path.server_address, placement)


def _millrace_config(path: Path) -> Config:
    """One listener, one target: what each of the others has."""
    group = {
        "name": "web",
        "protocol": "TCP",
        "port": PORT,
        "attributes": {
            "millrace.forwarding": "nat",
            "millrace.health_check.interval_milliseconds": 1000,
        },
        "health_check": {"protocol": "TCP", "healthy_threshold": 2, "unhealthy_threshold": 2},
        "targets": [{"id": path.server_address}],
    }
    listener = {"protocol": "TCP", "port": PORT, "default_target_groups": {"ipv4": "web"}}
    balancer = {"name": "web", "type": "network", "addresses": [path.vip], "listeners": [listener]}
    node = {"name": "lb-1", "zone": "a"}
    return {"node": node, "load_balancers": [balancer], "target_groups": [group]}


def _kernel_path(
    network: Network, index: int, role: str, placement: Placement
) -> tuple[Path, Namespace]:
    """A path whose balancer forwards by the kernel's routes."""
    path = network.add_path(index, role)
    assert path.balancer is not None
    _add_balancer_addresses(path, CLIENT_NIC, TARGET_NIC)
    path.balancer.sysctl("net.ipv4.ip_forward", "1")
    if placement.is_apart:
        _steer_ends(path, placement.ends_cpu)
        for nic in (CLIENT_NIC, TARGET_NIC):
            steer(path.balancer, nic, placement.balancer_cpu)
    return path, path.balancer


def _proxy_path(
    network: Network, index: int, role: str, placement: Placement
) -> tuple[Path, Namespace]:
    """A path whose balancer holds the VIP itself."""
    path, balancer = _kernel_path(network, index, role, placement)
    balancer.add_address("lo", f"{path.vip}/32")
    return path, balancer


def _add_balancer_addresses(path: Path, client_side: str, target_side: str) -> None:
    assert path.balancer is not None
    path.balancer.add_address(client_side, f"{path.gateway}/28")
    path.balancer.add_address(target_side, f"{path.server_gateway}/24")


def _steer_ends(path: Path, cpu: int) -> None:
    """Client and server handle what arrives on their own CPU, not on the balancer's that sent."""
    steer(path.client, path.client_nic, cpu)
    steer(path.server, path.server_nic, cpu)


def _nginx_service(host: Namespace, home: File, modules: str, body: str) -> Service:
    home.mkdir()
    conf = home / "nginx.conf"
    conf.write_text(_NGINX_CONF.format(home=home, modules=modules) + body, encoding="utf-8")
    log = f"{home}/nginx-error.log"
    return host.service("nginx", ["/usr/sbin/nginx", "-p", home, "-c", conf, "-e", log])


def _listens(host: Namespace) -> bool:
    words = ["ss", "--no-header", "--listening", "--numeric", "--tcp", f"sport = {PORT}"]
    return bool(host.run(words).stdout.strip())
