"""A local host of photos that fails as a script says, and logs what it is asked for.

`python -m clear.curation.demo.server --photos FOLDER --script SCRIPT.json --log LOG` serves on a free port of
127.0.0.1, prints it, and ends with its standard input. `PhotoServer` does the same in a thread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

# What a script can ask for, by number of a photo; each later request for it gets the next one, and the last stays.
ANSWERS = {
    'ok': 'the photo',
    '404': 'any status from 200 to 599, with a short text; `503:2` has Retry-After: 2',
    'to:ADDRESS': 'a redirect',
    'stall': 'a head, and half of the body, and nothing more',
    'silent': 'nothing at all',
    'drip': 'a byte at a time, without an end',
    'endless': 'a body that never ends',
    'huge': 'announces a terabyte',
    'long': 'announces twice the bytes that come',
    'short': 'announces half of the bytes that come',
    'cut': 'announces nothing, sends half, and closes',
    'broken': 'a body in chunks that stop in the middle of one',
    'reset': 'closes without an answer',
    'garbage': 'bytes that are no HTTP',
    'headers': 'headers without an end',
    'continue': 'HTTP/1.1 100 Continue, again and again',
    'gzip': 'a body in a Content-Encoding',
    'html': 'a page by the name of a photo',
    'empty': 'no bytes',
    'noai': 'the photo, withdrawn by X-Robots-Tag',
    'bomb': 'a header of more pixels than anybody has',
}
_REQUEST = re.compile(rb'GET (\S*) HTTP/1\.1\r\n')
_PHOTO = re.compile(r'/photos/([0-9]{1,18})\.jpg(\?.*)?')
_IDLE_S = 30.0
# A PNG's first chunk, for 100,000 x 100,000 pixels, and the beginning of the next.
_SIZE = b'IHDR' + 2 * (100_000).to_bytes(4, 'big') + b'\x08\x02\0\0\0'
_BOMB = b'\x89PNG\r\n\x1a\n\0\0\0\r' + _SIZE + zlib.crc32(_SIZE).to_bytes(4, 'big') + b'\0\1\0\0IDAT' + bytes(64)
_PAGE = b'<!DOCTYPE html><html><title>Not here any more</title></html>'

Script = Mapping[int, Sequence[str]]


class PhotoServer:
    """Serves `/photos/<number>.jpg`, `/robots.txt` and nothing else, in a thread; a `with` starts and ends it.

    Args:
        photo: number -> the bytes of a photo, or None if there is none: 404.
        script: number -> its answers in order, see `ANSWERS`; others are 'ok'.
        robots: robots.txt, or the number of a status.
        log: a file that gets a line per request as it comes: its target.
        delay_s: before each answer.
        host: the address to listen at.
        port: 0 is a free one.

    Attributes:
        asked: target -> how often.
        most_at_once: requests under way.
    """

    def __init__(self, photo: Callable[[int], bytes | None], script: Script | None = None, *, robots: str | int = 404,
                 log: str | Path | None = None, delay_s: float = 0.0, host: str = '127.0.0.1', port: int = 0):
        self.host, self.port, self.asked = host, port, Counter[str]()
        self.most_at_once = self._at_once = 0
        self._photo, self._script, self._robots, self._delay_s = photo, script or {}, robots, delay_s
        self._log: TextIO | None = open(log, 'a', buffering=1) if log else None  # noqa: SIM115 - closed at our end
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        """What its addresses begin with."""
        return f'http://{self.host}:{self.port}'

    def photo_url(self, number: int) -> str:
        """The address of a photo."""
        return f'{self.url}/photos/{number}.jpg'

    def __enter__(self) -> PhotoServer:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, self.host, self.port, backlog=1024), self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._log:
            self._log.close()

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await asyncio.wait_for(reader.readuntil(b'\r\n\r\n'), _IDLE_S)
                found = _REQUEST.match(head)
                if not found or not await self._answer(found[1].decode('latin-1'), writer):
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, asyncio.CancelledError):
            pass  # the client has gone, or we end
        finally:
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _answer(self, target: str, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection goes on."""
        self.asked[target] += 1
        if self._log:
            self._log.write(target + '\n')
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            if target == '/robots.txt':
                answer, body = self._robots_answer()
            else:
                answer, body = self._photo_answer(target)
            goes_on = await _send(writer, answer, body)
            await writer.drain()
            return goes_on
        finally:
            self._at_once -= 1

    def _robots_answer(self) -> tuple[str, bytes]:
        return (str(self._robots), b'') if isinstance(self._robots, int) else ('ok', self._robots.encode())

    def _photo_answer(self, target: str) -> tuple[str, bytes]:
        found = _PHOTO.fullmatch(target)
        body = self._photo(int(found[1])) if found else None
        if body is None:
            return '404', b''
        answers = self._script.get(int(found[1]), ('ok',))
        return answers[min(self.asked[target], len(answers)) - 1], body


async def _send(writer: asyncio.StreamWriter, answer: str, body: bytes) -> bool:
    """Write an answer; whether the connection can be used again after it."""
    if answer == 'ok':
        _write(writer, 200, body)
        return True
    if answer[:3].isdigit():
        status, _, seconds = answer.partition(':')
        _write(writer, int(status), b'' if status in ('204', '304') else b'no',
               **({'Retry-After': seconds} if seconds else {}))
        return True
    if answer.startswith('to:'):
        _write(writer, 302, b'', Location=answer[3:])
        return True
    whole = {'gzip': (body, {'Content-Encoding': 'gzip'}), 'html': (_PAGE, {}), 'empty': (b'', {}), 'bomb': (_BOMB, {}),
             'noai': (body, {'X-Robots-Tag': 'all\r\nX-Robots-Tag: somebot: noai, nofollow'})}
    if answer in whole:
        _write(writer, 200, whole[answer][0], **whole[answer][1])
        return True
    await _misbehave(writer, answer, body)
    return False


async def _misbehave(writer: asyncio.StreamWriter, answer: str, body: bytes) -> None:
    half = body[:len(body) // 2]
    lengths = {'stall': len(body), 'drip': len(body), 'huge': 2**40, 'long': 2 * len(body), 'short': len(half)}
    if answer in lengths:
        writer.write(_head(200, {'Content-Length': lengths[answer]}))
    elif answer in ('endless', 'cut'):
        writer.write(_head(200, {'Connection': 'close'}))
    elif answer == 'broken':
        writer.write(_head(200, {'Transfer-Encoding': 'chunked'}) + b'%x\r\n' % len(body) + half)
    elif answer == 'garbage':
        writer.write(b'\x16\x03\x01 this is no HTTP\r\n\r\n')
    elif answer == 'headers':
        writer.write(b'HTTP/1.1 200 OK\r\n')
        while True:
            writer.write(b'X-More: ' + b'x' * 1000 + b'\r\n')
            await writer.drain()
    elif answer not in ('silent', 'reset', 'continue'):
        raise ValueError(f'The script has the answer {answer!r}; expected one of {", ".join(ANSWERS)}.')
    if answer in ('long', 'short', 'huge'):
        writer.write(body)
    elif answer in ('cut', 'stall'):
        writer.write(half)
    again = {'drip': b'x', 'endless': bytes(65536), 'continue': b'HTTP/1.1 100 Continue\r\n\r\n'}
    while answer in again:
        writer.write(again[answer])
        await writer.drain()
        await asyncio.sleep(0 if answer == 'endless' else 0.01)
    await writer.drain()
    if answer in ('stall', 'silent'):
        await asyncio.sleep(3600)


def _write(writer: asyncio.StreamWriter, status: int, body: bytes, **headers: str) -> None:
    writer.write(_head(status, {'Content-Length': len(body), **headers}) + body)


def _head(status: int, headers: Mapping[str, str | int]) -> bytes:
    lines = ''.join(f'{name}: {value}\r\n' for name, value in headers.items())
    return f'HTTP/1.1 {status} x\r\nContent-Type: image/jpeg\r\n{lines}\r\n'.encode('latin-1')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--photos', required=True, help='a folder of <number>.jpg')
    parser.add_argument('--script', help='a JSON file: number -> list of answers')
    parser.add_argument('--robots', help='a file to serve as robots.txt')
    parser.add_argument('--log', help='a file that gets the target of every request')
    parser.add_argument('--delay', type=float, default=0.0, help='seconds before each answer')
    parser.add_argument('--port', type=int, default=0, help='0, the default, is a free one')
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until standard input ends."""
    given = _parser().parse_args(arguments)
    folder = Path(given.photos)

    def photo(number: int) -> bytes | None:
        path = folder / f'{number}.jpg'
        return path.read_bytes() if path.is_file() else None

    script = json.loads(Path(given.script).read_text()) if given.script else {}
    robots = Path(given.robots).read_text() if given.robots else 404
    with PhotoServer(photo, {int(number): answers for number, answers in script.items()}, robots=robots, log=given.log,
                     delay_s=given.delay, port=given.port) as server:
        sys.stdout.write(f'{server.port}\n')
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == '__main__':
    main()
