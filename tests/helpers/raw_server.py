"""A host that answers with the bytes it is given, and keeps what it was sent; runs in the test's own event loop."""

import asyncio
from contextlib import asynccontextmanager


class RawServer:
    """Every connection gets the next of `answers`, after its request; the last one stays.

    Attributes:
        heads: of the requests, as they came.
        port: on 127.0.0.1.
    """

    def __init__(self, answers, keep=False):
        self.answers, self.keep, self.heads, self.port = list(answers), keep, [], 0

    async def serve(self, reader, writer):
        try:
            while True:
                self.heads.append(await reader.readuntil(b'\r\n\r\n'))
                writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
                await writer.drain()
                if not self.keep:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def raw_server(*answers, keep=False, ssl=None):
    """A running one."""
    found = RawServer(answers, keep)
    server = await asyncio.start_server(found.serve, '127.0.0.1', 0, ssl=ssl)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()


def answer(body=b'', status=200, length=None, **headers):
    """The bytes of an answer."""
    headers = {'Content-Length': len(body) if length is None else length, **headers}
    lines = ''.join(f'{name.replace("_", "-")}: {value}\r\n' for name, value in headers.items())
    return f'HTTP/1.1 {status} x\r\n{lines}\r\n'.encode('latin-1') + body
