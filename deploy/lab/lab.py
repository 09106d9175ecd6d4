# SPDX-License-Identifier: Apache-2.0
"""Builds the lab's network and takes it down, whatever happens.

    client ─────┐
    router ─────┤                 ┌─ t1  nginx, dnsmasq
       remote   ├── switch ───────┼─ t2
    bystander ──┤     │           ├─ t3
    noise ──────┘    node         └─ gateway ── t4
                   (Millrace)

Every box is a network namespace, every line a veth pair, `switch` a namespace with a bridge. The
node has one nic on it (one-armed, the usual place of an NLB), or two with `two_nics`: then clients
and targets are on separate bridges. `remote` is behind router, t4 behind gateway. Who else is there
and why: layout.py, surroundings.py.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from lab import addresses
from lab.endpoints import Endpoints
from lab.generator import Generator
from lab.layout import Layout
from lab.machine import RunDirectory, reap_dead_runs
from lab.namespace import Namespace
from lab.node import Node
from lab.signals import signals_ignored, terminate_as_exit
from lab.surroundings import Surroundings
from lab.target import DNS_PORT, DNS_PORT_DSR, Target
from lab.wires import CLIENT_BRIDGE, TARGET_BRIDGE, Switch, cable, forwarding_on


@dataclass(frozen=True)
class SharedNics:
    """Both ends of a NIC in shared memory."""

    node: str
    generator: str
    mac: str  # of the node's end


class Lab:
    """Context manager. Use from the main thread; one lab per `with`."""

    def __init__(
        self,
        layout: Layout = Layout(),
        *,
        engine: str = "dpdk",
        build: Path | None = None,
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.layout = layout
        self.engine = engine
        self._generator = layout.generator
        if self._generator == "fast":
            self._generator = "vhost" if engine == "dpdk" else "veth"
        self.progress = progress
        self._build = build
        self._stack = ExitStack()
        self.namespaces: dict[str, Namespace] = {}
        self.endpoints: Endpoints | None = None
        self.clients: list[Namespace] = []
        self.targets: list[Target] = []
        self.surroundings = Surroundings(self)

    def __enter__(self) -> Lab:
        reap_dead_runs()
        try:
            self._enter()
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
        """Takes everything down. A second Ctrl-C does not stop that half-way."""
        with signals_ignored():
            self._stack.close()
        atexit.unregister(self.close)

    @property
    def client(self) -> Namespace:
        return self.clients[0]

    def target(self, name: str) -> Target:
        return next(target for target in self.targets if target.name == name)

    def _enter(self) -> None:
        self._stack.enter_context(terminate_as_exit())
        atexit.register(self.close)
        self.directory = RunDirectory.claim()
        self._stack.callback(self.directory.remove)
        self.directory.reserve_hugepages(self.layout.hugepages)
        self.directory.mount_bpf()
        self.progress("network: switch, node, clients, targets")
        self._make_switch()
        self._make_node()
        for index in range(self.layout.clients):
            self._make_client(index)
        for index in range(1, self.layout.targets + 1):
            self._make_target(index)
        if self.layout.gateway:
            self._make_gateway()
        if self.layout.generator:
            self._make_generator()
        else:
            self._make_router()
        self.progress("servers: nginx and dnsmasq on each target")
        for target in self.targets:
            target.start()
        self.surroundings.start()

    def callback(self, undo: Callable[[], object]) -> None:
        """Called when the lab is taken down, before what stood then goes."""
        self._stack.callback(undo)

    def host(self, role: str) -> Namespace:
        """A new one, which goes with the lab."""
        namespace = Namespace(self.directory.namespace_name(role), role, self.directory.path)
        self._stack.callback(namespace.delete)
        namespace.create()
        self.namespaces[role] = namespace
        return namespace

    def _make_switch(self) -> None:
        self.switch = Switch(
            self.host("switch"),
            two_bridges=self.layout.two_nics,
            # A generator reports no groups of the addresses that it emulates.
            snooping=self.layout.snooping and self.layout.has_surroundings,
            mtu=self.layout.mtu,
        )

    def set_port(self, port: str, is_up: bool) -> None:
        """A port of the switch: the node or the target behind it has link, or not."""
        outage = next((one.outage for one in self.targets if one.name == port), self.node.outage)
        if not is_up:
            outage.begin()
        self.namespaces["switch"].ip("link", "set", port, "up" if is_up else "down")
        if is_up:
            outage.end()

    def _make_node(self) -> None:
        self.node = self._build_node("node", self.engine, two_nics=self.layout.two_nics)
        self.endpoints = Endpoints(self.node)
        self._address_node(
            self.node,
            (f"{addresses.NODE_CLIENT_V4}/24", f"{addresses.NODE_CLIENT_V6}/64"),
            (f"{addresses.NODE_TARGET_V4}/24", f"{addresses.NODE_TARGET_V6}/64"),
        )
        self.surroundings.dress()

    def add_second_node(self, engine: str) -> Node:
        """Beside the first, on the same wire; clients find it when their routes say so."""
        node = self._build_node("second", engine, two_nics=False)
        self._address_node(
            node,
            (f"{addresses.SECOND_CLIENT_V4}/24", f"{addresses.SECOND_CLIENT_V6}/64"),
            (f"{addresses.SECOND_TARGET_V4}/24", f"{addresses.SECOND_TARGET_V6}/64"),
        )
        return node

    def _address_node(self, node: Node, near: tuple[str, str], far: tuple[str, str]) -> None:
        """`near` are for the clients' side, `far` for the targets'."""
        with node.namespace.batched():
            for address in near:
                node.namespace.add_address(node.interface(0), address)
            for address in far:
                node.namespace.add_address(node.interface(len(node.nics) - 1), address)
            if self.layout.default_route and self.layout.has_surroundings:
                node.namespace.add_route("0.0.0.0/0", "via", addresses.ROUTER_V4)
                node.namespace.add_route("::/0", "via", addresses.ROUTER_V6)

    def _build_node(self, role: str, engine: str, *, two_nics: bool) -> Node:
        namespace = self.host(role)
        nics = {"nic0": CLIENT_BRIDGE, **({"nic1": TARGET_BRIDGE} if two_nics else {})}
        shared = self._shared_nics()
        if self._generator == "wire":
            cable(namespace, "nic0", self.host("generator"), "gen0")
        elif not shared:
            for nic, bridge in nics.items():
                port, queues = f"{role}-{nic}", self.layout.nic_queues
                if self.layout.bonded:
                    self.switch.plug_bonded(namespace, nic, bridge, port)
                else:
                    self.switch.plug(namespace, nic, bridge, port, queues=queues)
        node = Node(namespace, self.directory, engine=engine, build=self._build)
        self._stack.callback(node.close)
        if shared:
            node.take_shared(shared.node, shared.mac)
            return node
        if self.layout.generator:
            namespace.ip("link", "set", "nic0", "address", addresses.NODE_MAC)
        node.take_nics(list(nics))
        if engine == "xdp" and self._generator != "wire":  # there AF_XDP brings one
            # What XDP sends on a veth waits for ever unless its other end has a program, too.
            passes = node.build / "deploy/lab/pass.bpf.o"
            ends = [f"{role}-{nic}" for nic in nics]
            if self.layout.bonded:
                ends = [f"{end}{wire}" for end in ends for wire in "ab"]
            for end in ends:
                words = ["dev", end, "xdp", "object", str(passes), "section", "xdp"]
                self.switch.namespace.ip("link", "set", *words)
        return node

    def _make_client(self, index: int) -> None:
        client = self.host("client" if index == 0 else f"client{index}")
        self.switch.plug(client, "eth0", CLIENT_BRIDGE, client.role)
        with client.batched():
            client.add_address("eth0", f"{addresses.client_v4(index)}/24")
            client.add_address("eth0", f"{addresses.client_v6(index)}/64")
            self._route_vips(client)
            client.add_route("0.0.0.0/0", "via", addresses.NODE_CLIENT_V4)
            client.add_route("::/0", "via", addresses.NODE_CLIENT_V6)
        client.siblings = self._siblings
        self.clients.append(client)

    def _siblings(self, protocol: str, address: str, port: int) -> Sequence[tuple[str, int]]:
        return self.endpoints.like(protocol, address, port) if self.endpoints else [(address, port)]

    def _route_vips(self, host: Namespace) -> None:
        """VIPs are on the link, so that the engine must answer ARP and neighbour solicitations."""
        host.add_route(addresses.VIP_NET_V4, "dev", "eth0")
        host.add_route(addresses.VIP_NET_V6, "dev", "eth0")

    def _make_target(self, index: int) -> None:
        name = f"t{index}"
        host = self.host(name)
        self.switch.plug(host, "eth0", TARGET_BRIDGE, name)
        own = (addresses.target_v4(index), addresses.target_v6(index))
        router = (addresses.NODE_TARGET_V4, addresses.NODE_TARGET_V6)
        if self.layout.second_mac and self.layout.has_surroundings:
            router = (addresses.SECOND_MAC_V4, addresses.SECOND_MAC_V6)
        with host.batched():
            host.add_address("eth0", f"{own[0]}/24")
            host.add_address("eth0", f"{own[1]}/64")
            host.add_route("0.0.0.0/0", "via", router[0])
            host.add_route("::/0", "via", router[1])
            if self.layout.dsr:
                self._hold_vips(host)
                self._reach_clients(host)
        self._add_target(name, host, own)

    def _add_target(self, name: str, host: Namespace, own: tuple[str, str]) -> None:
        home = self.directory.path / name
        dns_port = DNS_PORT_DSR if self.layout.dsr else DNS_PORT
        decapsulates = self.layout.encapsulated
        target = Target(name, host, own, home, dns_port=dns_port, decapsulates=decapsulates)
        for service in target.services:
            self._stack.callback(service.stop)
        self.targets.append(target)

    def _hold_vips(self, host: Namespace) -> None:
        """The target takes packets to the VIPs, and keeps quiet about them on the link."""
        host.sysctls({"net.ipv4.conf.all.arp_ignore": "1", "net.ipv4.conf.all.arp_announce": "2"})
        for vip in (addresses.VIP_V4, addresses.OTHER_VIP_V4):
            host.add_address("lo", f"{vip}/32")
        for vip in (addresses.VIP_V6, addresses.OTHER_VIP_V6):
            host.add_address("lo", f"{vip}/128")

    def _reach_clients(self, host: Namespace) -> None:
        """Without the node."""
        host.add_route(addresses.CLIENT_NET_V4, "dev", "eth0")
        host.add_route(addresses.CLIENT_NET_V6, "dev", "eth0")

    def _make_gateway(self) -> None:
        gateway, far = self.host("gateway"), self.host("t4")
        self.switch.plug(gateway, "eth0", TARGET_BRIDGE, "gateway")
        cable(gateway, "eth1", far, "eth0")
        forwarding_on(gateway)
        with gateway.batched():
            gateway.add_address("eth0", f"{addresses.GATEWAY_V4}/24")
            gateway.add_address("eth0", f"{addresses.GATEWAY_V6}/64")
            gateway.add_address("eth1", "10.0.2.1/24")
            gateway.add_address("eth1", "fd00:10:2::1/64")
            gateway.add_route("0.0.0.0/0", "via", addresses.NODE_TARGET_V4)
            gateway.add_route("::/0", "via", addresses.NODE_TARGET_V6)
            if self.layout.dsr:
                self._reach_clients(gateway)
        with far.batched():
            far.add_address("eth0", f"{addresses.FAR_TARGET_V4}/24")
            far.add_address("eth0", f"{addresses.FAR_TARGET_V6}/64")
            far.add_route("0.0.0.0/0", "via", "10.0.2.1")
            far.add_route("::/0", "via", "fd00:10:2::1")
            if self.layout.dsr:
                self._hold_vips(far)
        node = self.node.namespace
        node.add_route(addresses.FAR_NET_V4, "via", addresses.GATEWAY_V4)
        node.add_route(addresses.FAR_NET_V6, "via", addresses.GATEWAY_V6)
        self._add_target("t4", far, (addresses.FAR_TARGET_V4, addresses.FAR_TARGET_V6))

    def _shared_nics(self) -> SharedNics | None:
        socket = self.directory.path / "nic.sock"
        if self._generator == "memif":
            common = f"socket={socket},socket-abstract=no"
            mac = addresses.NODE_MAC
            node = f"net_memif0,role=server,{common},mac={mac}"
            return SharedNics(node, f"net_memif0,role=client,{common}", mac)
        if self._generator == "vhost":
            # As many descriptors as other devices have here, for workers that lose their CPU.
            other = f"net_virtio_user0,path={socket},queue_size=1024,mrg_rxbuf=0,in_order=1"
            return SharedNics(f"net_vhost0,iface={socket}", other, addresses.VHOST_MAC)
        return None

    def _make_generator(self) -> None:
        host = self.namespaces.get("generator") or self.host("generator")
        shared = self._shared_nics()
        nic, mac = (shared.generator, shared.mac) if shared else ("gen0", addresses.NODE_MAC)
        if self._generator == "veth":
            self.switch.plug(host, nic, CLIENT_BRIDGE, "generator")
        # Replies of flows that found no room in the table go where the default route goes.
        for gateway in (addresses.ROUTER_V4, addresses.ROUTER_V6):
            near, node = self.node.interface(0), self.node.namespace
            words = ["lladdr", addresses.EMULATED_CLIENT_MAC, "dev", near, "nud", "permanent"]
            node.ip("neighbour", "replace", gateway, *words)
            node.add_route("::/0" if ":" in gateway else "0.0.0.0/0", "via", gateway)
        self.generator = Generator(host, self.directory.path, nic, mac, self.node.build)
        self._stack.callback(self.generator.stop)

    def _make_router(self) -> None:
        """Nothing leaves the lab by it: what is for nobody ends there."""
        router, self.remote = self.host("router"), self.host("remote")
        self.switch.plug(router, "eth0", CLIENT_BRIDGE, "router")
        cable(router, "eth1", self.remote, "eth0")
        forwarding_on(router)
        with router.batched():
            router.add_address("eth0", f"{addresses.ROUTER_V4}/24")
            router.add_address("eth0", f"{addresses.ROUTER_V6}/64")
            router.add_address("eth1", "198.51.100.1/24")
            router.add_address("eth1", "2001:db8:51::1/64")
            self._route_vips(router)
            router.add_route(addresses.TARGET_NET_V4, "via", addresses.NODE_CLIENT_V4)
            router.add_route(addresses.TARGET_NET_V6, "via", addresses.NODE_CLIENT_V6)
        with self.remote.batched():
            self.remote.add_address("eth0", f"{addresses.REMOTE_CLIENT_V4}/24")
            self.remote.add_address("eth0", f"{addresses.REMOTE_CLIENT_V6}/64")
            self.remote.add_route("0.0.0.0/0", "via", "198.51.100.1")
            self.remote.add_route("::/0", "via", "2001:db8:51::1")
        self.remote.siblings = self._siblings
