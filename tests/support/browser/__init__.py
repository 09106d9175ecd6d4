# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium that opens one page at a time, over the DevTools protocol on a pipe."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = Path("/usr/bin/chromium")
TIMEOUT_S = 30.0
OPTIONS = (
    "--headless",
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--remote-debugging-pipe",
)

Json = dict[str, Any]


class BrowserError(Exception):
    """Chromium did not do what it was asked; the text says what."""


class Browser:
    """Context manager. `events` are those of the page, since it was opened."""

    def __init__(self, *, width: int = 1000, height: int = 800) -> None:
        self.size = {"width": width, "height": height}
        self.events: list[Json] = []
        self._number = 0
        self._unread = b""
        self._session = ""

    def __enter__(self) -> Browser:
        self._home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        asked, self._asking = os.pipe()
        self._answers, answering = os.pipe()
        # Chromium reads the protocol from 3 and writes it to 4.
        shell = ["bash", "-c", f'exec "$@" 3<&{asked} 4>&{answering}', "bash"]
        self._process = subprocess.Popen(
            [*shell, PROGRAM, *OPTIONS, f"--user-data-dir={self._home.name}"],
            pass_fds=(asked, answering),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(asked)
        os.close(answering)
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        self.ask(
            "Emulation.setDeviceMetricsOverride", deviceScaleFactor=1, mobile=False, **self.size
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._asking)  # upon which it ends
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._answers)
        self._home.cleanup()

    def open(self, page: Path, *, scheme: str) -> None:
        """`scheme` is light or dark, as the reader prefers. Returns when all is loaded."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.ask("Emulation.setEmulatedMedia", features=[feature])
        self.events.clear()
        self.ask("Page.navigate", url=page.resolve().as_uri())
        end = time.monotonic() + TIMEOUT_S
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next(end))

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        said = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in said:
            raise BrowserError(said["exceptionDetails"]["exception"]["description"])
        return said["result"].get("value")

    def requested(self) -> list[str]:
        """URLs that the page asked for."""
        asked = (e["params"] for e in self.events if e["method"] == "Network.requestWillBeSent")
        return [params["request"]["url"] for params in asked]

    def complaints(self) -> list[Json]:
        """What the console shows: messages, errors, exceptions."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event["params"] for event in self.events if event["method"] in kinds]

    def picture(self, out: Path) -> None:
        """All of the page, as PNG."""
        said = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        out.write_bytes(base64.b64decode(said["data"]))

    def ask(self, method: str, **params: Any) -> Json:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._asking, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + TIMEOUT_S
        while (said := self._next(end)).get("id") != self._number:
            self.events.append(said)
        if "error" in said:
            raise BrowserError(f"{method}: {said['error']['message']}")
        result: Json = said["result"]
        return result

    def _next(self, end: float) -> Json:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(self._answers, 1 << 16) if ready else b""
            if not piece:
                raise BrowserError(f"{PROGRAM} says nothing")
            self._unread += piece
        message, _, self._unread = self._unread.partition(b"\0")
        said: Json = json.loads(message)
        return said
