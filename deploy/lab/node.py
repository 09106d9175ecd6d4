# SPDX-License-Identifier: Apache-2.0
"""Millrace in the lab: both programs in the node's namespace, and the operator's command."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


from lab.addresses import NODE_MAC
from lab.machine import RunDirectory
from lab.namespace import Namespace
from lab.outage import Outage
from lab.process import LabError, Service, run, wait_until
from lab.views import Balance, Json, TargetView

REPOSITORY = Path(__file__).resolve().parents[2]
METRICS_ADDRESS = "127.0.0.1:9465"
FLOWS_PER_WORKER = 65536
ENGINES = {"dpdk": "millrace-dataplane", "xdp": "millrace-xdp"}
# The folder of each program in a build folder.
PROGRAMS = {
    "millrace": "controlplane/cli",
    "millrace-controlplane": "controlplane",
    "millrace-dataplane": "dataplane",
    "millrace-xdp": "bpf/engine",
}

# What the alarm of a worker that stands still says, and the line in the log when it goes on.
STALL_ALARM = "of the engine stands still"
_STALL_OVER = "] over: worker "


def build_directory() -> Path:
    """Where the programs under test are: MILLRACE_BUILD, or build/ of this checkout."""
    return Path(os.environ.get("MILLRACE_BUILD", REPOSITORY / "build")).resolve()


def program_path(name: str, build: Path | None = None) -> Path:
    return (build or build_directory()) / PROGRAMS[name] / name


class Node:
    """The Millrace node. `nics` are its engine NICs. With the DPDK engine each has a kernel twin
    that carries the addresses; with the XDP engine they stay where they are."""

    def __init__(
        self,
        namespace: Namespace,
        directory: RunDirectory,
        *,
        engine: str = "dpdk",
        build: Path | None = None,
    ) -> None:
        self.namespace = namespace
        self.engine = engine
        self.build = build or build_directory()
        home = directory.path / namespace.role
        self.runtime_dir = home / "run"
        self.state_dir = home / "state"
        self.flow_dir = directory.flow_dir / namespace.role
        self.pin_dir = directory.bpf_mount / namespace.role
        self.config_file = home / "millrace.yaml"
        for path in (self.runtime_dir, self.state_dir, self.flow_dir):
            path.mkdir(parents=True)
        self.nics: list[str] = []
        self.config: Mapping[str, Any] | None = None  # as last written, if a test made it
        self.dress: Callable[[], None] = lambda: None  # interfaces on top of its own
        self.outage = Outage()  # of its way of forwarding, beside its engine's
        self.xdp_mode = "native"
        self.flows = FLOWS_PER_WORKER
        self.config_mib = 8  # of the XDP engine, to start with
        self.engine_options: list[str] = []
        self.dataplane = namespace.service("dataplane", self.engine_words())
        self.controlplane = namespace.service("controlplane", self.controlplane_words())

    def program(self, name: str) -> Path:
        return program_path(name, self.build)

    def host_setup(self, *words: str) -> str:
        """Runs the script that operators use; what it said."""
        return self.namespace.run([REPOSITORY / "deploy" / "host-setup", *words]).stderr

    def take_nics(self, nics: Sequence[str]) -> None:
        """Prepares them by the script that operators use."""
        self.nics = list(nics)
        for index, nic in enumerate(self.nics):
            if self.engine == "xdp":
                self.host_setup("xdp", nic)
                continue
            self.host_setup("twin", f"twin{index}", nic)
        self._forward()

    def take_shared(self, nic: str, mac: str) -> None:
        """A NIC in shared memory, made by the engine; the DPDK engine alone has such."""
        self.nics = [nic]
        self.host_setup("twin", "twin0", mac)
        self._forward()

    def _forward(self) -> None:
        self.namespace.sysctl("net.ipv4.ip_forward", "1")
        self.namespace.sysctl("net.ipv6.conf.all.forwarding", "1")
        self.namespace.sysctl("net.ipv4.conf.all.rp_filter", "0")

    def interface(self, index: int) -> str:
        """Which carries the node's own addresses on that NIC's wire."""
        return self.nics[index] if self.engine == "xdp" else f"twin{index}"

    def engine_words(self, *, workers: int = 1, flows: int | None = None) -> list[str | Path]:
        if self.engine == "xdp":
            return self.xdp_words(flows=flows)
        return self.dataplane_words(workers=workers, flows=flows)

    def xdp_words(self, *, flows: int | None = None) -> list[str | Path]:
        return [
            self.program("millrace-xdp"),
            *(word for nic in self.nics for word in ("--interface", nic)),
            *("--mode", self.xdp_mode),
            *("--flows", str(flows or self.flows), "--target-slots", "1024"),
            *("--config-mib", str(self.config_mib)),
            *("--runtime-dir", self.runtime_dir, "--flow-dir", self.flow_dir),
            *("--pin-dir", self.pin_dir),
            *self.engine_options,
        ]

    def dataplane_words(self, *, workers: int = 1, flows: int | None = None) -> list[str | Path]:
        nic_words = [
            word
            for index, nic in enumerate(self.nics)
            for word in ("--nic", nic, "--twin", f"twin{index}")
        ]
        return [
            self.program("millrace-dataplane"),
            *nic_words,
            *("--workers", str(workers), "--flows", str(flows or self.flows)),
            *("--runtime-dir", self.runtime_dir, "--flow-dir", self.flow_dir),
            *self.engine_options,
        ]

    def controlplane_words(self) -> list[str | Path]:
        return [
            self.program("millrace-controlplane"),
            *("--config", self.config_file),
            *("--runtime-dir", self.runtime_dir, "--state-dir", self.state_dir),
            *("--metrics", METRICS_ADDRESS),
        ]

    def start(self, config: Mapping[str, Any] | Path, *, workers: int = 1) -> None:
        """Both programs, until the engine has adopted the control plane's config."""
        self.start_dataplane(workers=workers)
        self.start_controlplane(config)
        self.wait_adopted()

    def start_dataplane(self, *, workers: int = 1) -> None:
        words = self.engine_words(workers=workers)
        self.dataplane = self.namespace.service("dataplane", words)
        self.restart_dataplane()

    def restart_dataplane(self) -> float:
        """Starts it again as it was; returns the seconds until it says that it is ready."""
        said = self.dataplane.log.stat().st_size if self.dataplane.log.exists() else 0
        self.dataplane.start()
        return self.dataplane.wait_ready(lambda: self._log_says("ready", said), timeout_s=30)

    def _log_says(self, word: str, since: int) -> bool:
        with self.dataplane.log.open("rb") as log:
            log.seek(since)
            return word.encode() in log.read()

    def start_controlplane(self, config: Mapping[str, Any] | Path | None = None) -> None:
        """With no config: as it was, so that it continues from its store and file."""
        if config is not None:
            self.write_config(config)
        self.controlplane.start()
        self.controlplane.wait_ready(self.controlplane_answers)

    def controlplane_answers(self) -> bool:
        return bool(self.cli("status", check=False).returncode == 0)

    def write_config(self, config: Mapping[str, Any] | Path) -> None:
        self.config = None if isinstance(config, Path) else config
        if isinstance(config, Path):
            self.config_file.write_text(config.read_text())
        else:
            own = {**config, "node": {**config.get("node", {}), "engine": self.engine}}
            self.config_file.write_text(json.dumps(own, indent=1))  # JSON is YAML

    def apply(self, config: Mapping[str, Any] | Path) -> Json:
        """Writes the config file and applies it with the operator's command."""
        self.write_config(config)
        return self.json("apply", str(self.config_file))

    def cli_words(self, *words: str) -> list[str | Path]:
        socket = self.runtime_dir / "controlplane.sock"
        return [self.program("millrace"), "--socket", socket, *words]

    def cli(self, *words: str, check: bool = True) -> Any:
        """The operator's command as a person sees it: a finished process with stdout and stderr."""
        return run(self.cli_words(*words), check=check)

    def json(self, *words: str) -> Json:
        """Likewise with --json, parsed."""
        answer: Json = json.loads(self.cli(*words, "--json").stdout)
        return answer

    def status(self) -> Json:
        return self.json("status")

    def wait_adopted(self, timeout_s: float = 10.0) -> None:
        """Until the engine's main thread has taken the newest generation.

        This engine's: the control plane looks ten times a second whether another one has started,
        and until then it shows the counters of the one before.
        """

        def adopted() -> bool:
            status = self.status()
            engine = status["engine"]
            return bool(
                engine["running"]
                and engine["pid"] == self.dataplane.pid
                and status["generation"] > 0
                and engine["adopted_generation"] == status["generation"]
            )

        wait_until(adopted, "the engine adopts the newest generation", timeout_s=timeout_s)

    def wait_no_alarms(self, timeout_s: float = 5.0) -> None:
        """A CPU that stands still raises one for a moment: the engine gives no sign of life."""
        try:
            wait_until(
                lambda: not self.status()["alarms"], "no alarm is raised", timeout_s=timeout_s
            )
        except LabError as error:
            raise LabError(f"{error}: {self.status()['alarms']}") from None

    def complaints(self) -> list[str]:
        """What both programs logged as errors, but for stalls of a worker that are over.

        A busy machine keeps a worker from its CPU for longer than the half second that is told.
        """
        found = []
        for service in (self.dataplane, self.controlplane):
            lines = service.log.read_text().splitlines()
            last_over = max((i for i, line in enumerate(lines) if _STALL_OVER in line), default=-1)
            found += [
                line
                for i, line in enumerate(lines)
                if ("[error]" in line or "[critical]" in line)
                and not (STALL_ALARM in line and i < last_over)
            ]
        return found

    def targets(self) -> list[TargetView]:
        groups = self.json("targets")["target_groups"]
        return [TargetView.of(group, target) for group in groups for target in group["targets"]]

    def target(self, group: str, address: str, port: int | None = None) -> TargetView:
        """By address, in the group of that address family (GROUP-4, GROUP-6)."""
        name = f"{group}-6" if ":" in address else f"{group}-4"
        for view in self.targets():
            if (view.group, view.address) == (name, address) and port in (None, view.port):
                return view
        raise LookupError(f"no target {address} in {name}")

    def group(self, name: str) -> Json:
        groups = self.json("targets")["target_groups"]
        return next(group for group in groups if group["name"] == name)

    def group_of(self, vip: str, protocol: str, port: int) -> str:
        """Name of the group that the listener forwards to."""
        key = (vip, protocol, port)
        for entry in self.json("listeners")["listeners"]:
            if (entry["vip"], entry["protocol"], entry["port"]) == key:
                return str(entry["target_group"])
        raise LookupError(f"no listener {protocol} {vip} port {port}")

    def drain(self, view: TargetView) -> None:
        self.cli("drain", view.group, _with_port(view))

    def undrain(self, view: TargetView) -> None:
        self.cli("undrain", view.group, _with_port(view))

    def wait_states(
        self, state: str, *, address: str | None = None, count: int = 1, timeout_s: float = 20.0
    ) -> float:
        """Until every target (or every one of `address`) is in `state`, and there are `count`.

        Targets that have left the config and only finish their flows are not looked at.
        """

        def reached() -> bool:
            own = [v for v in self.targets() if address in (None, v.address)]
            own = [v for v in own if v.state not in ("draining", "unused")]
            return len(own) >= count and all(view.state == state for view in own)

        return wait_until(reached, f"targets are {state}", timeout_s=timeout_s, interval_s=0.1)

    def workers(self) -> list[Json]:
        found: list[Json] = self.json("counters")["workers"]
        return found

    def balances(self) -> list[Balance]:
        return [Balance.of(worker) for worker in self.workers()]

    def settled_balances(self, timeout_s: float = 5.0) -> list[Balance]:
        """The accounts when no packet is under way: as soon as all balance, or after `timeout_s`.

        A worker adds to its counters one after the other, so a reader may come in between.
        """
        found = self.balances()

        def settled() -> bool:
            nonlocal found
            found = self.balances()
            return all(balance.balanced for balance in found)

        try:
            wait_until(settled, "the accounts balance", timeout_s=timeout_s)
        except LabError:
            pass
        return found

    def totals(self) -> Counter[str]:
        """Counters, summed over the workers."""
        total: Counter[str] = Counter()
        for balance in self.balances():
            total.update(balance.counters)
        return total

    def drops(self) -> Counter[str]:
        """Drops by reason, summed over the workers."""
        total: Counter[str] = Counter()
        for balance in self.balances():
            total.update(balance.drops)
        return total

    def close(self) -> None:
        """Stops both programs cleanly; the control plane first, as nothing depends on it."""
        self.controlplane.stop()
        self.dataplane.stop()

    def switch_engine(self, engine: str) -> None:
        """To the other engine, as the runbook says: addresses are on the twin while none runs, so
        that the kernel does not forward what belongs to flows."""
        self.controlplane.stop()
        with self.outage.lasting():
            self._exchange_engine(engine)
        self.start_controlplane()

    def _exchange_engine(self, engine: str) -> None:
        before = self.interface(0)
        own = self.addresses_of(before)
        if self.engine == "xdp":
            self.engine = engine
            self.take_nics(self.nics)
            self._move_addresses(own, before)
            self.take_nics(self.nics)  # as the unit does: without addresses they are closed
            self.dataplane.stop()
            self.detach()
            self.start_dataplane()
        else:
            self.dataplane.stop()
            for nic in self.nics:
                self.namespace.ip("link", "set", "dev", nic, "xdp", "off")
            self.engine = engine
            self.start_dataplane()
            self.take_nics(self.nics)
            for nic in self.nics:
                self.host_setup("open", nic)
            self._move_addresses(own, before)
            self.namespace.ip("link", "delete", before)

    def addresses_of(self, interface: str) -> list[str]:
        shown = json.loads(self.namespace.ip("-json", "address", "show", "dev", interface))
        own = [entry for entry in shown[0]["addr_info"] if entry["scope"] == "global"]
        return [f"{entry['local']}/{entry['prefixlen']}" for entry in own]

    def _move_addresses(self, own: list[str], source: str) -> None:
        routes = self._routes_by_others(source)
        for address in self.addresses_of(source):
            self.namespace.ip("address", "delete", address, "dev", source)
        self.give(own, routes)

    def own(self) -> tuple[list[str], list[list[str]]]:
        """The node's addresses, and the routes that go with them."""
        interface = self.interface(0)
        return self.addresses_of(interface), self._routes_by_others(interface)

    def give(self, own: list[str], routes: list[list[str]]) -> None:
        """To the interface that carries them, what it lacks of them."""
        interface = self.interface(0)
        self.namespace.sysctl(f"net.ipv6.conf.{interface}.disable_ipv6", "0")
        for address in set(own) - set(self.addresses_of(interface)):
            self.namespace.add_address(interface, address)
        for route in routes:
            self.namespace.add_route(*route)
        self.dress()

    def _routes_by_others(self, interface: str) -> list[list[str]]:
        """Those that go with the interface's addresses."""
        found = []
        for family, all_of_them in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
            shown = self.namespace.ip("-json", family, "route", "show", "dev", interface)
            for route in json.loads(shown or "[]"):
                if "gateway" in route:
                    net = all_of_them if route["dst"] == "default" else route["dst"]
                    found.append([net, "via", route["gateway"]])
        return found

    def detach(self) -> str:
        """Ends the XDP engine's forwarding, which its daemon leaves on; what it said."""
        self.outage.end()
        words: list[str | Path] = [self.program("millrace-xdp"), "detach"]
        words += ["--runtime-dir", self.runtime_dir]
        words += ["--flow-dir", self.flow_dir, "--pin-dir", self.pin_dir]
        return self.namespace.run(words).stderr


def _with_port(view: TargetView) -> str:
    address = f"[{view.address}]" if ":" in view.address else view.address
    return f"{address}:{view.port}"
