#!/usr/bin/env bash
# aiohttp 3.14.5: what comes over a kept connection while nobody asks is the answer to the next request.
# Expected: a connection with unasked bytes is closed before the next request.
# Seen: after one answer too many, each later request on the connection gets the answer to the one before it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q aiohttp==3.14.5
"$folder/env/bin/python" - <<'PYTHON'
import asyncio

import aiohttp


def answer(body):
    return b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % len(body) + body


async def serve(reader, writer):
    number = 0
    try:
        while True:
            head = await reader.readuntil(b'\r\n\r\n')
            writer.write(answer(head.split()[1]))
            if not number:
                await asyncio.sleep(0.05)
                writer.write(answer(b'planted'))
            number += 1
    except asyncio.IncompleteReadError:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    port, found = server.sockets[0].getsockname()[1], {}
    async with aiohttp.ClientSession() as session:
        for path in ('/a', '/b', '/c'):
            async with session.get(f'http://127.0.0.1:{port}{path}') as response:
                found[path] = (await response.read()).decode()
            await asyncio.sleep(0.1)
    print(found)
    assert found == {'/a': '/a', '/b': 'planted', '/c': '/b'}, 'changed: answers are not mixed up'


asyncio.run(main())
PYTHON
