# SPDX-License-Identifier: Apache-2.0
"""The guest as a Millrace node, installed as an operator would: units, files below /etc, and a
virtio NIC. Clients and targets are the lab's, on the other end of the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import Lab, addresses
from lab.node import REPOSITORY, build_directory
from lab.process import run, wait_until
from lab.wires import CLIENT_BRIDGE

# virtio NICs in the order of the virtual machine's command line; both are on one wire.
NIC, WIRE = "eth0", "eth1"
TWIN = "twin0"
ETC = Path("/etc/millrace")
LIBEXEC = Path("/usr/local/libexec/millrace")
ENGINES = {"xdp": "millrace-xdp", "dpdk": "millrace-dataplane"}
CONTROL_PLANE = "millrace-controlplane"
NODE_ADDRESSES = (
    f"{addresses.NODE_CLIENT_V4}/24",
    f"{addresses.NODE_TARGET_V4}/24",
    f"{addresses.NODE_CLIENT_V6}/64",
    f"{addresses.NODE_TARGET_V6}/64",
)


class WireLab(Lab):
    """A lab without a node of its own: WIRE is a port of its switch."""

    def _make_node(self) -> None:
        run(["ip", "link", "set", WIRE, "netns", self.switch.namespace.name])
        self.switch.add_port(WIRE, CLIENT_BRIDGE)


def install() -> None:
    """As README and runbook say."""
    words = ["meson", "install", "--no-rebuild", "--quiet", "-C"]
    run([*words, build_directory()], timeout_s=200)
    run(["systemd-sysusers"])
    # The virtual machine's own files are none of its business.
    run(["systemd-tmpfiles", "--create", "/usr/local/lib/tmpfiles.d/millrace.conf"])
    systemctl("daemon-reload")


def systemctl(*words: str, check: bool = True) -> int:
    return run(["systemctl", *words], check=check, timeout_s=100).returncode


def property_of(unit: str, name: str) -> str:
    return run(["systemctl", "show", "--value", f"--property={name}", unit]).stdout.strip()


def main_pid(unit: str) -> int:
    return int(property_of(unit, "MainPID"))


def journal(unit: str) -> str:
    return run(["journalctl", "--no-pager", "--output=cat", f"--unit={unit}"]).stdout


def write_config(config: Mapping[str, Any], engine: str) -> None:
    own = {**config, "node": {**config.get("node", {}), "engine": engine}}
    (ETC / "millrace.yaml").write_text(json.dumps(own, indent=1))  # JSON is YAML


def write_text(text: str) -> None:
    """As the config, whatever it is."""
    (ETC / "millrace.yaml").write_text(text)


@contextmanager
def drop_in(unit: str, text: str) -> Iterator[None]:
    """Other settings for a unit, for a while."""
    folder = Path("/run/systemd/system", f"{unit}.service.d")
    folder.mkdir(parents=True)
    (folder / "test.conf").write_text(text)
    systemctl("daemon-reload")
    try:
        yield
    finally:
        (folder / "test.conf").unlink()
        folder.rmdir()
        systemctl("daemon-reload")


def write_environment(unit: str, values: Mapping[str, str]) -> None:
    lines = [f"{name}={value}\n" for name, value in values.items()]
    (ETC / f"{unit.removeprefix('millrace-')}.env").write_text("".join(lines))


def environment(unit: str) -> dict[str, str]:
    """As it was written last."""
    lines = (ETC / f"{unit.removeprefix('millrace-')}.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def give_addresses(interface: str) -> None:
    for address in NODE_ADDRESSES:
        words = ["nodad"] if ":" in address else []
        run(["ip", "address", "replace", address, "dev", interface, *words])
    run(["ip", "link", "set", interface, "up"])
    for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        run(["sysctl", "--quiet", "--write", f"{key}=1"])


def driver_of(pci_address: str) -> str:
    return Path("/sys/bus/pci/devices", pci_address, "driver").resolve().name


def pci_address_of(interface: str) -> str:
    return Path(f"/sys/class/net/{interface}/device").resolve().parent.name


def host_check(*words: str) -> str:
    """What it says; its exit code is not looked at."""
    return run([LIBEXEC / "host-check", *words], check=False).stdout


def millrace(*words: str) -> Any:
    return json.loads(run(["/usr/local/bin/millrace", *words, "--json"]).stdout)


def wait_forwarding(targets: Sequence[str] = ("healthy",)) -> None:
    """Until the engine has the newest config, and all targets are in one of these states."""

    def forwards() -> bool:
        if run(["/usr/local/bin/millrace", "status"], check=False).returncode != 0:
            return False
        status = millrace("status")
        groups = millrace("targets")["target_groups"]
        states = [target["state"] for group in groups for target in group["targets"]]
        return (
            status["engine"]["running"]
            and status["engine"]["adopted_generation"] == status["generation"] > 0
            and all(state in targets for state in states)
        )

    wait_until(forwards, "the engine forwards", timeout_s=20, interval_s=0.2)
