# SPDX-License-Identifier: Apache-2.0
"""Millrace in the lab: both programs in the node's namespace, and the operator's command."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import]

from lab.machine import RunDirectory
from lab.namespace import Namespace
from lab.process import CommandFailed, Service, run, wait_until

REPOSITORY = Path(__file__).resolve().parents[3]
METRICS_ADDRESS = "127.0.0.1:9465"
FLOWS_PER_WORKER = 65536

Json = dict[str, Any]


def build_directory() -> Path:
    """Where the programs under test are: MILLRACE_BUILD, or build/ of this checkout."""
    return Path(os.environ.get("MILLRACE_BUILD", REPOSITORY / "build")).resolve()


class Node:
    """The Millrace node. `nics` are its engine NICs; each has a kernel twin with the addresses."""

    def __init__(
        self, namespace: Namespace, directory: RunDirectory, *, build: Path | None = None
    ) -> None:
        self.namespace = namespace
        self.build = build or build_directory()
        self.runtime_dir = directory.path / "run"
        self.state_dir = directory.path / "state"
        self.flow_dir = directory.flow_dir
        self.config_file = directory.path / "millrace.yaml"
        for path in (self.runtime_dir, self.state_dir, self.flow_dir):
            path.mkdir()
        self.nics: list[str] = []
        self.dataplane = self.dataplane_service()
        self.controlplane = namespace.service("controlplane", self.controlplane_words())

    def program(self, name: str) -> Path:
        folder = "dataplane" if name == "millrace-dataplane" else "controlplane"
        return self.build / folder / name

    def make_twins(self, nics: Sequence[str]) -> None:
        """Twin `twin<i>` for each NIC, made by the script that operators use."""
        self.nics = list(nics)
        for index, nic in enumerate(self.nics):
            self.namespace.sysctl(f"net.ipv6.conf.{nic}.disable_ipv6", "1")
            setup = REPOSITORY / "deploy" / "host-setup"
            self.namespace.run([setup, "twin", f"twin{index}", nic])
        self.namespace.sysctl("net.ipv4.ip_forward", "1")
        self.namespace.sysctl("net.ipv6.conf.all.forwarding", "1")
        self.namespace.sysctl("net.ipv4.conf.all.rp_filter", "0")
        self.namespace.sysctl("net.ipv4.conf.all.send_redirects", "0")

    def dataplane_service(
        self, *, workers: int = 1, flows: int = FLOWS_PER_WORKER, extra: Sequence[str] = ()
    ) -> Service:
        """A dataplane that is not started yet; `start_dataplane` starts the node's own."""
        words = self.dataplane_words(workers=workers, flows=flows)
        return self.namespace.service("dataplane", [*words, *extra])

    def dataplane_words(
        self, *, workers: int = 1, flows: int = FLOWS_PER_WORKER
    ) -> list[str | Path]:
        nics = getattr(self, "nics", [])
        nic_words = [
            word for index, nic in enumerate(nics) for word in ("--nic", f"{nic},twin=twin{index}")
        ]
        return [
            self.program("millrace-dataplane"),
            *nic_words,
            *("--workers", str(workers), "--flows", str(flows)),
            *("--runtime-dir", self.runtime_dir, "--flow-dir", self.flow_dir),
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
        self.dataplane = self.dataplane_service(workers=workers)
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
        if isinstance(config, Path):
            self.config_file.write_text(config.read_text())
        else:
            self.config_file.write_text(yaml.safe_dump(dict(config), sort_keys=False))

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
        """Until the engine's main thread has taken the newest generation."""

        def adopted() -> bool:
            status = self.status()
            engine = status["engine"]
            return bool(
                engine["running"]
                and status["generation"] > 0
                and engine["adopted_generation"] == status["generation"]
            )

        wait_until(adopted, "the engine adopts the newest generation", timeout_s=timeout_s)

    def close(self) -> None:
        self.controlplane.stop()
        self.dataplane.stop()


__all__ = ["CommandFailed", "Node", "build_directory"]
