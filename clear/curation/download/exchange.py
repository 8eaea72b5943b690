"""One request and its answer: aiohttp's connections and parser, without its session.

A session spends more on cookies, redirects, proxies, passwords and its own time-outs, none of which there may be here,
than everything else costs that is done for a photo. What is used of aiohttp below its session is in this file.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import ClientRequest, ClientTimeout, StreamReader, TCPConnector
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from aiohttp.streams import EofStream
from multidict import CIMultiDictProxy
from yarl import URL

from clear.curation.download.gate import Gate
from clear.curation.download.outcomes import Failed
from clear.curation.download.watch import WATCH, Watch

MOST_IDLE = 256  # connections that are kept for later
_ADDRESS_KEPT_S = 60
_MOST_ORIGINS = 4096
# As aiohttp's session has them.
_MOST_LINE, _MOST_HEADERS, _READ_AHEAD = 8190, 128, 2**16


@dataclass(slots=True)
class Answer:
    """Head of an answer, and its body as it comes; to be released.

    Attributes:
        is_chunked: whether the body says itself where it ends.
        content: the body, as it was served.
    """

    status: int
    headers: CIMultiDictProxy[str]
    is_chunked: bool
    content: StreamReader
    connection: Connection

    @property
    def length(self) -> int | None:
        """Bytes that are announced, if they are."""
        text = self.headers.get('Content-Length', '')
        return int(text) if text.isascii() and text.isdigit() else None

    def release(self) -> None:
        """Keep the connection if the body has come to its end, else close it."""
        self.connection.release()


class Exchange:
    """Asks hosts, over connections that are kept for their next request.

    Args:
        gate: answers names, and makes sockets.
        headers: of every request, besides Host.
        connect_s: for one attempt to connect.
    """

    def __init__(self, gate: Gate, headers: Mapping[str, str], connect_s: float):
        self._gate, self._timeout = gate, ClientTimeout(total=None, sock_connect=connect_s)
        self._headers = ''.join(f'{name}: {value}\r\n' for name, value in headers.items())
        self._connector = TCPConnector(limit=0, resolver=gate, ttl_dns_cache=_ADDRESS_KEPT_S,
                                       socket_factory=self._socket)
        self._origins: dict[tuple[str, str], tuple[ClientRequest, bytes]] = {}
        self._is_full = False

    async def close(self) -> None:
        """Close all connections."""
        await self._connector.close()

    def count_idle(self) -> int:
        """How many connections are kept; if there are too many, those in use are closed after it: a crawl over many
        hosts would otherwise keep one to each host of the last seconds.
        """
        # aiohttp limits those in use, and has no name for the number of the others.
        idle = sum(map(len, self._connector._conns.values()))
        self._is_full = idle >= MOST_IDLE
        return idle

    def forget_addresses(self) -> None:
        """Look up every name again for its next connection."""
        self._connector.clear_dns_cache()

    async def ask(self, url: URL, watch: Watch) -> Answer:
        """GET an address whose host has been admitted or is a name.

        Raises:
            Failed: forbidden_address, dns and timeout of the look-up, bad_http.
            ClientError, OSError: of aiohttp, for what happens to a connection.
        """
        request, rest = self._origin(url)
        connection = await self._connection(request, watch)
        protocol = connection.protocol
        try:
            if self._is_full:
                protocol.force_close()  # after this request
            watch.touch()
            protocol.set_response_params(
                read_until_eof=True, auto_decompress=False, read_bufsize=_READ_AHEAD, max_line_size=_MOST_LINE,
                max_field_size=_MOST_LINE, max_headers=_MOST_HEADERS)
            protocol.transport.write(b'GET ' + url.raw_path_qs.encode('ascii') + rest)
            head, content = await protocol.read()
            while 100 <= head.code < 200 and head.code != 101:  # there is more to come
                head, content = await protocol.read()
        except (HttpProcessingError, EofStream) as error:
            connection.close()
            raise Failed('bad_http') from error
        except BaseException:
            connection.close()
            raise
        return Answer(head.code, head.headers, head.chunked, content, connection)

    async def _connection(self, request: ClientRequest, watch: Watch) -> Connection:
        while True:
            connection = await self._connector.connect(request, [], self._timeout)
            # What has come over a kept connection meanwhile answers nothing that was asked.
            if watch.is_new or (connection.protocol.is_connected() and not len(connection.protocol)):
                return connection
            connection.close()

    def _origin(self, url: URL) -> tuple[ClientRequest, bytes]:
        """What aiohttp wants to know for a connection, and what follows the path of a request."""
        key = (url.scheme, url.raw_authority)
        found = self._origins.get(key)
        if found is None:
            if len(self._origins) >= _MOST_ORIGINS:
                self._origins.clear()
            rest = f' HTTP/1.1\r\nHost: {url.host_port_subcomponent}\r\n{self._headers}\r\n'.encode('ascii')
            found = self._origins[key] = ClientRequest('GET', url.origin(), loop=asyncio.get_running_loop()), rest
        return found

    def _socket(self, info: tuple) -> socket.socket:
        WATCH.get().is_new = True
        return self._gate.socket(info)
