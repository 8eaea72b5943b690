"""A hostile host: every outcome is named, memory is bounded, and everything ends."""

import asyncio
import gc
import os
import random
import socket
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from fetching import PHOTO, Names, fetch, jpeg, quick
from raw_server import answer, raw_server

from clear.core.errors import ClearError, ConfigError
from clear.curation.demo.server import ANSWERS, PhotoServer
from clear.curation.download.client import Client
from clear.curation.download.images import Header, has_end, image_header, is_markup
from clear.curation.download.limits import Limits
from clear.curation.download.outcomes import OK, PERMANENT, TEMPORARY

ROOT = Path(__file__).parents[2]
CASES = [  # answers of the host, outcome, detail, attempts
    (['ok'], 'ok', '', 1),
    (['500', 'ok'], 'ok', '', 2),
    (['500'], 'http_5xx', '500', 2),
    (['404', 'ok'], 'http_4xx', '404', 1),
    (['204'], 'http_status', '204', 1),
    (['301'], 'http_status', '301', 1),
    (['429:0', 'ok'], 'ok', '', 2),
    (['408'], 'throttled', '408', 2),
    (['503'], 'http_5xx', '503', 2),
    (['stall'], 'timeout', 'read', 2),
    (['silent'], 'timeout', 'read', 2),
    (['silent', 'ok'], 'ok', '', 2),
    (['drip'], 'timeout', 'total', 1),
    (['endless'], 'too_large', 'sent', 1),
    (['huge'], 'too_large', 'announced', 1),
    (['long'], 'truncated', '', 2),
    (['cut'], 'truncated', 'no length', 2),
    (['broken'], 'truncated', '', 2),
    (['reset'], 'connection', '', 2),
    (['garbage'], 'bad_http', '', 2),
    (['headers'], 'bad_http', '', 2),
    (['continue'], 'timeout', 'read', 2),
    (['gzip'], 'encoded', 'gzip', 1),
    (['html'], 'html', '', 1),
    (['empty'], 'empty', '', 1),
    (['noai'], 'opt_out', 'noai', 1),
    (['to:/photos/0.jpg'], 'ok', '', 1),
    (['to:file:///etc/hostname'], 'forbidden_scheme', 'file', 1),
    (['to:ftp://192.0.2.1/x'], 'forbidden_scheme', 'ftp', 1),
    (['to:http://127.0.0.1:9/'], 'forbidden_address', 'loopback', 1),
    (['to:http://2130706433:9/'], 'forbidden_address', 'loopback', 1),
    (['to:http://0x7f.1:9/'], 'forbidden_address', 'loopback', 1),
    (['to://192.0.2.1/'], 'forbidden_address', 'documentation', 1),
    (['to:http://[::ffff:10.0.0.1]/'], 'forbidden_address', 'private', 1),
    (['to:http://[64:ff9b::c0a8:1]/'], 'forbidden_address', 'private', 1),
    (['to:http://a:b@192.0.2.1/'], 'bad_url', 'a user in it', 1),
    (['to:/gone/photo_unavailable.gif'], 'placeholder', '', 1),
    (['to:/photos/{own}.jpg'], 'too_many_redirects', '5', 1),
]


@pytest.fixture(scope='module')
def found():
    """All cases, fetched at the same time."""
    script = {number: [text.format(own=number) for text in case[0]] for number, case in enumerate(CASES, 1)}
    with PhotoServer(lambda number: PHOTO, script) as server:
        limits = quick(f'127.0.0.1:{server.port}', connections=64, host_connections=64, breaker=0)
        return fetch(limits, *map(server.photo_url, script), together=True)


@pytest.mark.parametrize('number', range(len(CASES)), ids=[' '.join(case[0]) for case in CASES])
def test_every_outcome_is_named(found, number):
    _, outcome, detail, attempts = CASES[number]
    result = found[number]
    assert (result.outcome, result.detail, result.attempts) == (outcome, detail, attempts)
    assert result.body == (PHOTO if outcome == 'ok' else b'')
    assert result.is_temporary == (outcome in TEMPORARY)


def test_every_answer_of_the_host_is_among_the_cases():
    asked = {text.partition(':')[0] for case in CASES for text in case[0]} | {'bomb', 'short'}  # these two are below
    assert {name.partition(':')[0] for name in ANSWERS} <= asked


def test_pixels_above_the_cap_are_seen_in_the_header():
    with PhotoServer(lambda number: PHOTO, {1: ['bomb']}) as server:
        [found] = fetch(quick(f'127.0.0.1:{server.port}'), server.photo_url(1))
    assert image_header(found.body) == 'too_many_pixels'
    assert image_header(PHOTO, 120 * 90) == Header('JPEG', 120, 90)
    assert image_header(PHOTO, 120 * 90 - 1) == 'too_many_pixels'


@pytest.mark.parametrize('apart', [False, True])
def test_a_length_below_what_comes_gives_no_image(apart):
    """What is announced is taken for the body; the rest is no HTTP, and may come with it or later."""
    head, body = answer(PHOTO, length=len(PHOTO) // 2).split(b'\r\n\r\n', 1)

    async def serve(reader, writer):
        await reader.readuntil(b'\r\n\r\n')
        writer.write(head + b'\r\n\r\n' + body[:len(PHOTO) // 2])
        if apart:
            await writer.drain()
            await asyncio.sleep(0.1)
        writer.write(body[len(PHOTO) // 2:])
        writer.close()

    async def run():
        server = await asyncio.start_server(serve, '127.0.0.1', 0)
        port = server.sockets[0].getsockname()[1]
        async with Client(quick(f'127.0.0.1:{port}', robots=False)) as client:
            return await client.fetch(f'http://127.0.0.1:{port}/')

    found = asyncio.run(run())
    if apart:
        assert found.outcome == OK and image_header(found.body) == 'incomplete'
    else:
        assert (found.outcome, found.attempts) == ('bad_http', 2)


def test_bodies_are_kept_byte_by_byte():
    photos = {number: jpeg(number, (40 + 200 * number, 50)) for number in range(1, 6)}
    with PhotoServer(photos.get) as server:
        found = fetch(quick(f'127.0.0.1:{server.port}'), *map(server.photo_url, photos), together=True)
    assert [each.body for each in found] == list(photos.values())


def test_memory_is_bounded_by_connections_and_max_bytes():
    connections, most = 6, 3_000_000
    with PhotoServer(lambda number: PHOTO, dict.fromkeys(range(60), ['endless'])) as server:
        limits = quick(f'127.0.0.1:{server.port}', connections=connections, max_bytes=most, total_s=30.0, read_s=10.0,
                       host_connections=60)
        gc.collect()
        gc.disable()  # so that circles would show
        tracemalloc.start()
        try:
            found = fetch(limits, *map(server.photo_url, range(60)), together=True)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            gc.enable()
    assert {each.outcome for each in found} == {'too_large'}
    # Beside a body at its limit: what a growing array keeps ahead (an eighth), the pieces under way on both sides (the
    # server is in this process, too), and what does not grow with connections. Seen: 23.5 to 24.9 MB.
    assert most < peak < connections * (most + 800_000) + 3_000_000


def test_time_in_a_queue_does_not_count():
    """aiohttp's own limits run while a request waits for a connection."""
    with PhotoServer(lambda number: PHOTO, delay_s=0.2) as server:
        limits = quick(f'127.0.0.1:{server.port}', connections=1, total_s=1.2, read_s=1.0, retries=0)
        found = fetch(limits, *map(server.photo_url, range(8)), together=True)
    assert [each.outcome for each in found] == 8 * ['ok']


def test_total_time_is_of_all_attempts_together():
    with PhotoServer(lambda number: PHOTO, {1: ['silent']}) as server:
        [found] = fetch(quick(f'127.0.0.1:{server.port}', retries=50, read_s=0.3, total_s=1.0, breaker=0),
                        server.photo_url(1))
        assert found.outcome == 'timeout' and 2 <= found.attempts <= 4
        assert server.asked['/photos/1.jpg'] == found.attempts


def test_cancelled_requests_leave_room_for_others():
    async def run(server):
        limits = quick(f'127.0.0.1:{server.port}', connections=2, host_connections=2, read_s=20.0, total_s=20.0)
        async with Client(limits) as client:
            waiting = [asyncio.ensure_future(client.fetch(server.photo_url(number))) for number in (1, 1, 1, 1)]
            while server.asked['/photos/1.jpg'] < 2:
                await asyncio.sleep(0.01)
            for task in waiting:
                task.cancel()
            ended = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended)
            return await asyncio.wait_for(client.fetch(server.photo_url(2)), 2)

    with PhotoServer(lambda number: PHOTO, {1: ['silent']}) as server:
        assert asyncio.run(run(server)).outcome == 'ok'


PIECES = [
    b'HTTP/1.1 200 OK', b'HTTP/1.0 302 Found', b'HTTP/9.9 999 ?', b'HTTP/1.1 -1', b'HTTP/1.1 103 Early', b'\r\n',
    b'\r\n\r\n', b'\n', b'\x00', b'Location: http://\xff\xfe/', b'Location: ////', b'Content-Length: 5',
    b'Content-Length: -5', b'Content-Length: 99999999999999999999', b'Transfer-Encoding: chunked', b'5\r\nhello',
    b'Transfer-Encoding: gzip, identity', b'Content-Encoding: \xe9', b'X-Robots-Tag: ,,:,', b'0\r\n\r\n',
    b'ffffffff', b'Retry-After: never', b'Retry-After: Wed, 99 Foo 0000 99:99:99 GMT', b'HTTP/1.1 503 x',
    b'HTTP/1.1 101 x', b'Set-Cookie: a=b; Domain=.', b': empty', b'Content-Type',
    b'Upgrade: x\r\nConnection: upgrade', b'hello']


def test_no_answer_raises():
    rng = random.Random(3)
    answers = [b''.join(part for _ in range(rng.randrange(8)) for part in (rng.choice(PIECES), rng.choice(
        [b'\r\n', b'', b'\r\n\r\n']))) for _ in range(300)]

    async def run():
        async with raw_server(*answers) as server:
            limits = quick(f'127.0.0.1:{server.port}', robots=False, retries=0, breaker=0, connections=1)
            async with Client(limits) as client:
                return [(await client.fetch(f'http://127.0.0.1:{server.port}/')).outcome for _ in answers]

    outcomes = asyncio.run(asyncio.wait_for(run(), 60))
    assert set(outcomes) <= {OK, *PERMANENT, *TEMPORARY}
    assert len(set(outcomes)) > 4


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'GIF', 'WEBP'])
def test_a_file_without_its_end_is_incomplete(kind):
    body = jpeg(kind=kind)
    assert image_header(body) == Header(kind, 120, 90)
    # PIL wants all of a WebP to begin with.
    assert image_header(body[:-len(body) // 3]) == ('not_image' if kind == 'WEBP' else 'incomplete')
    assert image_header(body + b'\0' * 200) == Header(kind, 120, 90)


def test_end_of_a_thumbnail_is_not_the_end_of_the_image():
    thumbnail = jpeg(size=(30, 20))
    segment = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    body = PHOTO[:2] + segment + PHOTO[2:]
    assert image_header(body) == Header('JPEG', 120, 90)
    assert image_header(body[:-50]) == 'incomplete'
    assert has_end(body + b'\xff\xda and a film behind it')


def test_other_bytes_are_no_image():
    for body in (b'', b'hello', b'\xff\xd8', b'\xff\xd8\xff', PHOTO[:100], b'%!PS-Adobe-3.0 EPSF-3.0\n',
                 b'BM' + bytes(100), bytes(1000)):
        assert image_header(body) == 'not_image'


@pytest.mark.parametrize('body, expected', [
    (b'<!DOCTYPE html>', True), (b'\xef\xbb\xbf\r\n <HTML lang="en">', True), (b'<?xml version="1.0"?><svg/>', True),
    (b'<svg xmlns=""/>', True), (b'', False), (b'GIF89a<html>', False), (b'< 5', False)])
def test_pages_are_told_from_images(body, expected):
    assert is_markup(body) is expected


def test_no_file_handles_are_the_machine_s_fault_and_no_record_s():
    async def run():
        async def no_sockets(name, port):
            raise OSError(24, os.strerror(24))
        async with Client(quick(robots=False), resolver=no_sockets) as client:
            await client.fetch('http://photos.example/1.jpg')

    with pytest.raises(ClearError, match='ulimit -n'):
        asyncio.run(run())


def test_too_many_connections_for_this_process_are_refused():
    with pytest.raises(ConfigError, match=r'limits.connections is 100000000, .* ulimit -n'):
        fetch(quick(connections=100_000_000), 'http://photos.example/')


PROGRAM = '''
import asyncio
from clear.curation.download.client import Client
from clear.curation.download.limits import Limits

async def main():
    async def never(name, port):
        await asyncio.sleep(3600)
    limits = Limits(connect_s=0.3, read_s=0.3, total_s=1, retries=1, backoff_s=0.01, host_rate=None,
                    allow=['127.0.0.1:%d'])
    async with Client(limits, resolver=never) as client:
        tasks = [asyncio.ensure_future(client.fetch(url)) for url in ('http://slow.example/', '%s')]
        print(*[(await task).outcome for task in tasks])
        asyncio.ensure_future(client.fetch('%s'))
        await asyncio.sleep(0.1)

asyncio.run(main())
'''


def test_the_process_ends():
    with PhotoServer(lambda number: PHOTO, {1: ['silent']}) as server:
        url = server.photo_url(1)
        ended = subprocess.run([sys.executable, '-c', PROGRAM % (server.port, url, url)], capture_output=True,
                               text=True, timeout=100, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert (ended.returncode, ended.stdout) == (0, 'timeout timeout\n'), ended.stderr


@pytest.mark.parametrize('change, message', [
    (dict(connections=0), 'limits.connections is 0'), (dict(host_rate=0), 'limits.host_rate is 0'),
    (dict(contact='me\r\nX: y'), 'limits.contact'), (dict(allow='127.0.0.1:80'), 'limits.allow'),
    (dict(allow=['127.0.0.1']), "expected 'host:port'"), (dict(robots=1), 'limits.robots'),
    (dict(allow=['Photos.example:80']), 'small letters'), (dict(total_s=float('inf')), 'limits.total_s')])
def test_limits_that_cannot_be_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        Limits(**change)


def test_workers_share_the_limits():
    share = Limits(connections=64, host_connections=8, host_rate=10.0, bytes_per_s=1e6, breaker=10).share(4)
    assert (share.connections, share.host_connections, share.host_rate, share.bytes_per_s, share.breaker) == (
        16, 2, 2.5, 250_000.0, 3)
    with pytest.raises(ConfigError, match='which 9 workers cannot share'):
        Limits(host_connections=8).share(9)


def test_names_that_are_not_there_and_resolvers_that_fail():
    names = Names(broken_example=OSError('no network'), none_example=[])
    urls = [f'http://{name}.example/' for name in ('unknown', 'broken', 'none')]
    found = fetch(quick(), *urls, resolver=names)
    assert [(each.outcome, each.detail, each.attempts) for each in found] == [
        ('dns', 'robots.txt: no such name', 1), ('dns', 'robots.txt: no answer', 1),
        ('dns', 'robots.txt: no such name', 1)]
    found = fetch(quick(robots=False), *urls, resolver=names)
    assert [(each.outcome, each.detail, each.attempts) for each in found] == [
        ('dns', 'no such name', 1), ('dns', 'no answer', 2), ('dns', 'no such name', 1)]


@pytest.mark.parametrize('closes', ['before', 'after'])
def test_a_kept_connection_that_the_host_closed_costs_no_attempt(closes):
    """And a new one that it closes costs one: the host is asked as often as the record says."""
    asked = []

    async def serve(reader, writer):
        for number in range(3):
            await reader.readuntil(b'\r\n\r\n')
            asked.append(number)
            if number or closes == 'before':
                break
            writer.write(answer(PHOTO))
        writer.close()

    async def run():
        server = await asyncio.start_server(serve, '127.0.0.1', 0)
        port = server.sockets[0].getsockname()[1]
        async with Client(quick(f'127.0.0.1:{port}', robots=False, retries=1)) as client:
            return [await client.fetch(f'http://127.0.0.1:{port}/') for _ in range(2)]

    found = asyncio.run(run())
    if closes == 'before':
        assert [(each.outcome, each.attempts) for each in found] == 2 * [('connection', 2)]
        assert asked == [0, 0, 0, 0]
    else:
        assert [(each.outcome, each.attempts) for each in found] == 2 * [('ok', 1)]
        assert asked == [0, 1, 0]


def test_a_host_that_takes_no_connection_is_a_time_out():
    with socket.socket() as full:
        full.bind(('127.0.0.1', 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        try:
            for each in waiting:  # beyond its queue nobody is answered
                each.setblocking(False)
                each.connect_ex(address)
            [found] = fetch(quick(f'127.0.0.1:{address[1]}', robots=False, connect_s=0.3, read_s=5.0, total_s=5.0),
                            f'http://127.0.0.1:{address[1]}/')
        finally:
            for each in waiting:
                each.close()
    assert (found.outcome, found.detail, found.attempts) == ('timeout', 'connect', 2)


def test_what_nobody_asked_for_answers_nothing():
    """A host that sends a second answer behind the first, before it is asked again."""
    async def serve(reader, writer):
        await reader.readuntil(b'\r\n\r\n')
        writer.write(answer(PHOTO))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(answer(b'planted'))
        await reader.read()
        writer.close()

    async def run():
        server = await asyncio.start_server(serve, '127.0.0.1', 0)
        port = server.sockets[0].getsockname()[1]
        async with Client(quick(f'127.0.0.1:{port}', robots=False)) as client:
            found = []
            for _ in range(3):
                found.append(await client.fetch(f'http://127.0.0.1:{port}/'))
                await asyncio.sleep(0.1)
            return found

    assert [each.body == PHOTO for each in asyncio.run(run())] == [True, True, True]
