# SPDX-License-Identifier: Apache-2.0
"""Steady traffic of all kinds, under which something happens to the node."""

from __future__ import annotations

import time
from typing import Self

from lab.addresses import VIP_V4, VIP_V6
from lab.lab import Lab
from lab.traffic import StreamReport, TcpStreams, UdpStream


class Load:
    """UDP and TCP over both families, as long as the `with` block."""

    def __init__(self, lab: Lab) -> None:
        vips = (VIP_V4, VIP_V6)
        self._udp = [UdpStream(lab.client, vip, per_second=300) for vip in vips]
        self._tcp = [TcpStreams(lab.client, vip, connections=15) for vip in vips]

    def __enter__(self) -> Self:
        for stream in (*self._udp, *self._tcp):
            stream.__enter__()
        time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> tuple[list[StreamReport], list[StreamReport]]:
        """Of UDP and of TCP; may be called again."""
        return [stream.stop() for stream in self._udp], [stream.stop() for stream in self._tcp]

    def assert_untouched(self) -> None:
        """Ends it: no packet was lost, of which UDP tells, and no connection was touched."""
        udp, tcp = self.stop()
        for report in (*udp, *tcp):
            assert report.sent > 100
            assert report.errors == [] and report.lost == 0 and report.moved == 0, report
