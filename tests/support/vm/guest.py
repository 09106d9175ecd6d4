# SPDX-License-Identifier: Apache-2.0
"""A running guest, as its host sees it: runs commands there, moves files, and pulls its cables."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from lab.process import COMMAND_TIMEOUT_S, PATIENCE, CommandFailed, LabError
from vm.nic import Nic

AGENT = Path(__file__).with_name("guest-agent")
PORT = "millrace.agent"


class Guest:
    """Commands run one by one, as root, in the guest's first namespace."""

    def __init__(self, exchange: Path, nics: Sequence[Nic]) -> None:
        self.nics = nics
        self._exchange = exchange
        self._agent: socket.socket | None = None
        self._received = b""

    @staticmethod
    def qemu_words(exchange: Path) -> list[str]:
        agent = f"socket,id=agent,path={exchange}/agent,server=on,wait=off"
        words = ["-device", "virtio-serial-pci", "-chardev", agent]
        words += ["-device", f"virtserialport,chardev=agent,name={PORT}"]
        return [*words, "-qmp", f"unix:{exchange}/qmp,server=on,wait=off"]

    def close(self) -> None:
        if self._agent is not None:
            self._agent.close()

    def answers(self) -> bool:
        """Whether the guest has booted so far that it takes commands."""
        try:
            if self._agent is None:
                agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                agent.connect(str(self._exchange / "agent"))
                self._agent = agent
            self._agent.settimeout(1)
            return b"\n" in self._more()
        except (FileNotFoundError, ConnectionError, TimeoutError):
            return False

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        check: bool = True,
        timeout_s: float = COMMAND_TIMEOUT_S,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> CompletedProcess[str]:
        """As lab.process.run, in the guest."""
        words = [str(word) for word in argv]
        limit_s = timeout_s * PATIENCE
        request = {"words": words, "timeout_s": limit_s, "stdin": stdin, "env": dict(env or {})}
        said = self._ask(request, limit_s + 30)
        if said["error"]:
            raise LabError(f"in the guest: `{' '.join(words)}`: {said['error']}")
        done: CompletedProcess[str] = CompletedProcess(
            words, said["code"], said["stdout"], said["stderr"]
        )
        if check and done.returncode != 0:
            raise CommandFailed(words, done.returncode, done.stdout, done.stderr)
        return done

    def write(self, path: Path, text: str) -> None:
        self.run(["tee", path], stdin=text)

    def read(self, path: Path | str) -> str:
        return self.run(["cat", path]).stdout

    def set_link(self, nic: Nic, is_up: bool) -> None:
        """As if somebody pulled the cable out of the guest's NIC, or put it back."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as monitor:
            monitor.connect(str(self._exchange / "qmp"))
            monitor.settimeout(30)
            with monitor.makefile("rw") as lines:
                lines.readline()  # its greeting
                _execute(lines, "qmp_capabilities", {})
                _execute(lines, "set_link", {"name": nic.name, "up": is_up})

    def _ask(self, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        assert self._agent is not None
        self._agent.settimeout(timeout_s)
        self._received = b""
        self._agent.sendall(json.dumps(request).encode() + b"\n")
        while b"\n" not in self._more():
            pass
        answer: dict[str, Any] = json.loads(self._received)
        return answer

    def _more(self) -> bytes:
        assert self._agent is not None
        block = self._agent.recv(1 << 16)
        if not block:
            raise LabError("the virtual machine has ended")
        self._received += block
        return self._received


def _execute(lines: Any, command: str, arguments: Mapping[str, Any]) -> None:
    """One command of QEMU's machine protocol (QMP)."""
    lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    lines.flush()
    while True:
        said = json.loads(lines.readline())
        if "error" in said:
            raise LabError(f"QEMU refuses {command} {arguments}: {said['error']}")
        if "return" in said:  # else an event
            return
