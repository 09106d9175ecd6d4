#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A server that speaks by itself, as downloads, logs and remote shells do.

  talker.py NAME

Takes connections on TALK_PORT and sends a line on each every TALK_INTERVAL_S: NAME and the line's
number from 0. What clients say is not read.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count

TALK_PORT = 7000
TALK_INTERVAL_S = 0.05


async def talk(name: str, writer: asyncio.StreamWriter) -> None:
    try:
        for number in count():
            writer.write(f"{name} {number}\n".encode())
            await writer.drain()
            await asyncio.sleep(TALK_INTERVAL_S)
    except OSError:
        pass  # the client has gone, or was told that there is no such connection
    finally:
        writer.close()


async def serve(name: str) -> None:
    server = await asyncio.start_server(
        lambda _, writer: talk(name, writer), host=None, port=TALK_PORT, backlog=1024
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
