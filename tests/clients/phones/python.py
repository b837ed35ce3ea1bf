"""A phone with Python's `websockets`. Writes a line for each message, and connects again whenever it has lost its
connection. Run: python phones/python.py ws://host:port/mobile/SESSION"""

import asyncio
import hashlib
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

RETRY_S = 0.5


def take(message):
    fields = json.loads(message)
    if "id" not in fields:
        line = f"system {fields['type']}"
    else:
        data = message.encode()
        digest = hashlib.sha256(data).hexdigest() if fields["type"] == "bundle_update" else "-"
        line = f"{fields['id']} {len(data)} {digest}"
    print(line, flush=True)


async def stay():
    # The pings notice a cut network, which ends no connection by itself.
    times = {"open_timeout": 3, "ping_interval": 2, "ping_timeout": 4, "close_timeout": 1}
    async with connect(sys.argv[1], max_size=None, proxy=None, **times) as phone:
        async for message in phone:
            take(message)


async def main():
    while True:
        try:
            await stay()
        except (OSError, WebSocketException):
            pass
        await asyncio.sleep(RETRY_S)


asyncio.run(main())
