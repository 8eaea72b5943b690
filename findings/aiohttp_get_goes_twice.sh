#!/usr/bin/env bash
# aiohttp 3.14.5: one GET is two requests where the host closes without an answer, also over a connection that was made for it.
# Expected: a request over a kept connection that the host has closed meanwhile is sent again; one over a new connection fails.
# Seen: two requests over two new connections, then ServerDisconnectedError; nothing tells of the first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q aiohttp==3.14.5
"$folder/env/bin/python" - <<'PYTHON'
import asyncio

import aiohttp

asked = 0


async def serve(reader, writer):
    global asked
    await reader.readuntil(b'\r\n\r\n')
    asked += 1
    writer.close()


async def main():
    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession() as session:
        try:
            await session.get(f'http://127.0.0.1:{port}/')
        except aiohttp.ServerDisconnectedError as error:
            print(f'{type(error).__name__} after {asked} requests')
    assert asked == 2, 'changed: a GET over a new connection is one request'


asyncio.run(main())
PYTHON
