#!/usr/bin/env bash
# aiohttp 3.14.5: TCPConnector(limit=5), 60 servers asked once each.
# Expected: at most 5 connections are open at any time, since limit is "the total number of simultaneous connections".
# Seen: at most 5 are in use at a time, and 60 stay open: kept idle ones are not counted, and none is closed to make room for another host.
# limit_per_host=1 changes nothing; force_close=True leaves none.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q aiohttp==3.14.5
"$folder/env/bin/python" - <<'PYTHON'
import asyncio

import aiohttp

SERVERS, LIMIT = 60, 5
connections, asking = set(), {'now': 0, 'most': 0}


async def serve(reader, writer):
    connections.add(writer)
    try:
        while True:
            await reader.readuntil(b'\r\n\r\n')
            asking['now'] += 1
            asking['most'] = max(asking.values())
            await asyncio.sleep(0.01)
            asking['now'] -= 1
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    except asyncio.IncompleteReadError:
        connections.discard(writer)
        writer.close()


async def get(session, port):
    async with session.get(f'http://127.0.0.1:{port}/') as response:
        assert await response.read() == b'ok'


async def main():
    servers = [await asyncio.start_server(serve, '127.0.0.1', 0) for _ in range(SERVERS)]
    ports, found = [server.sockets[0].getsockname()[1] for server in servers], []
    for options in ({}, {'limit_per_host': 1}, {'force_close': True}):
        asking['most'] = 0
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=LIMIT, **options)) as session:
            await asyncio.gather(*(get(session, port) for port in ports))
            await asyncio.sleep(0.3)
            found.append((asking['most'], len(connections)))
            print(f'limit={LIMIT}', options, 'in use at a time {}, open afterwards {}'.format(*found[-1]))
        await asyncio.sleep(0.3)
        assert not connections, 'connections outlive their session'
    assert found == [(LIMIT, SERVERS), (LIMIT, SERVERS), (LIMIT, 0)], 'changed: how many connections stay open'


asyncio.run(main())
PYTHON
