"""What hosts can rely on: their robots.txt, their wishes, a pace, and peace while they are down."""

import asyncio
import email.utils
import time
from pathlib import Path

import pytest
from fetching import PHOTO, Names, fetch, quick
from raw_server import answer, raw_server

from clear.curation.demo.server import PhotoServer
from clear.curation.download.client import Client, retry_after_s
from clear.curation.download.exchange import MOST_IDLE
from clear.curation.download.hosts import Hosts, Pace
from clear.curation.download.limits import Limits
from clear.curation.download.robots import MOST_BYTES, withdrawn


def outcomes(found):
    return [(each.outcome, each.detail) for each in found]


@pytest.mark.parametrize('robots, expected', [
    ('User-agent: *\nDisallow: /photos/1\n', ('robots', 'disallowed')),
    ('User-agent: *\nDisallow: /\n\nUser-agent: clear-framework\nAllow: /\n', ('ok', '')),
    ('User-agent: *\nAllow: /\n\nUser-agent: Clear-Framework\nDisallow: /*.jpg$\n', ('robots', 'disallowed')),
    # Words of the contact choose no group.
    ('User-agent: *\nAllow: /\n\nUser-agent: bot\nDisallow: /\n', ('ok', '')),
    ('\ufeffUser-agent: *\r\nDisallow: /photos\r\n', ('robots', 'disallowed')),
    ('<html>There is no such file</html>', ('ok', '')),
    ('User-agent: *\nCrawl-delay: 100\n', ('robots', 'Crawl-delay 100')),
    ('', ('ok', '')), (404, ('ok', '')), (410, ('ok', '')), (403, ('ok', '')), (204, ('ok', '')),
    (500, ('http_5xx', 'robots.txt: 500')), (429, ('throttled', 'robots.txt: 429')),
])
def test_robots_txt(robots, expected):
    with PhotoServer(lambda number: PHOTO, robots=robots) as server:
        limits = quick(f'127.0.0.1:{server.port}', contact='http://example.org/bot')
        found = fetch(limits, server.photo_url(1), server.photo_url(1), together=True)
        assert outcomes(found) == 2 * [expected]
        assert server.asked['/robots.txt'] == (2 if robots in (500, 429) else 1)  # with its own second attempt
        assert server.asked['/photos/1.jpg'] == (2 if expected[0] == 'ok' else 0)


def test_robots_txt_can_be_left_out():
    with PhotoServer(lambda number: PHOTO, robots='User-agent: *\nDisallow: /') as server:
        [found] = fetch(quick(f'127.0.0.1:{server.port}', robots=False), server.photo_url(1))
        assert found.outcome == 'ok' and not server.asked['/robots.txt']


def test_robots_txt_of_a_redirect_s_host_is_asked_too():
    with PhotoServer(lambda number: PHOTO, robots='User-agent: *\nDisallow: /photos/2') as other, PhotoServer(
            lambda number: PHOTO, {1: [f'to:{other.photo_url(2)}'], 3: [f'to:{other.photo_url(4)}']}) as server:
        limits = quick(f'127.0.0.1:{server.port}', f'127.0.0.1:{other.port}')
        found = fetch(limits, server.photo_url(1), server.photo_url(3))
        assert outcomes(found) == [('robots', 'disallowed'), ('ok', '')]
        assert other.asked == {'/robots.txt': 1, '/photos/4.jpg': 1}


def robots_of(first, *urls, **changes):
    """What becomes of addresses on a host whose robots.txt is `first`, and everything else a photo."""
    async def run():
        async with raw_server(first, answer(PHOTO)) as server, Client(
                quick(f'127.0.0.1:{server.port}', **changes)) as client:
            return outcomes([await client.fetch(f'http://127.0.0.1:{server.port}{url}') for url in urls])
    return asyncio.run(run())


def test_robots_txt_is_read_to_its_limit():
    line = b'Disallow: /x/%06d\n'
    rules = b'User-agent: *\n' + b''.join(line % number for number in range(25_000))
    rules += b'#' * (MOST_BYTES - len(rules) - 33) + b'\nDisallow: /before\nDisallow: /after\n'
    assert rules[:MOST_BYTES].endswith(b'Disallow: /aft')
    assert robots_of(answer(rules), '/before', '/after', '/aft', '/x/000001', '/y') == [
        ('robots', 'disallowed'), ('ok', ''), ('ok', ''), ('robots', 'disallowed'), ('ok', '')]


def test_robots_txt_that_cannot_be_had_keeps_us_away():
    assert robots_of(answer(b'User', length=100), '/', retries=0) == [('truncated', 'robots.txt')]
    assert robots_of(answer(b'x', Content_Encoding='gzip'), '/') == [('encoded', 'robots.txt: gzip')]
    away = answer(b'', 302, Location='http://192.0.2.1/robots.txt')
    assert robots_of(away, '/') == [('forbidden_address', 'robots.txt: documentation')]
    assert robots_of(answer(b'', 302, Location='/robots.txt'), '/', max_redirects=0) == [('ok', '')]


def test_crawl_delay_is_kept():
    with PhotoServer(lambda number: PHOTO, robots='User-agent: *\nCrawl-delay: 0.2') as server:
        start = time.monotonic()
        found = fetch(quick(f'127.0.0.1:{server.port}'), *map(server.photo_url, range(4)), together=True)
    assert outcomes(found) == 4 * [('ok', '')] and time.monotonic() - start >= 0.6


@pytest.mark.parametrize('tags, expected', [
    (['all', 'noai, noimageai'], 'noai'), (['NoImageAI'], 'noimageai'), (['googlebot: noindex'], 'noindex'),
    (['otherbot: nofollow, somebot: noimageindex'], 'noimageindex'), (['none'], 'none'), (['all'], None), ([''], None),
    (['unavailable_after: 25 Jun 2010 15:00:00 PST'], None), (['nosnippet, max-image-preview: none-at-all'], None),
    (['indexifembedded'], None)])
def test_withdrawn_images(tags, expected):
    assert withdrawn(tags) == expected


def test_a_page_that_is_not_there_is_not_withdrawn():
    assert robots_of(answer(b'', 404), '/') == [('ok', '')]
    found = robots_of(answer(b'', 404, X_Robots_Tag='noindex'), '/')  # of robots.txt itself it says nothing
    assert found == [('ok', '')]

    async def run(status, **changes):
        async with raw_server(answer(PHOTO, status, X_Robots_Tag='noindex')) as server, Client(
                quick(f'127.0.0.1:{server.port}', robots=False, retries=0, **changes)) as client:
            return (await client.fetch(f'http://127.0.0.1:{server.port}/')).outcome

    assert asyncio.run(run(404)) == 'http_4xx'
    assert asyncio.run(run(200)) == 'opt_out'
    assert asyncio.run(run(200, opt_out=False)) == 'ok'


def test_no_more_requests_at_once_than_allowed():
    with PhotoServer(lambda number: PHOTO, delay_s=0.02) as server:
        names = Names(a_example=['127.0.0.1'], b_example=['127.0.0.1'])
        hosts = [f'{name}.example:{server.port}' for name in 'ab']
        for changes, most in ((dict(host_connections=3), 3), (dict(connections=4, host_connections=3), 4),
                              (dict(connections=20, host_connections=3), 6)):
            server.most_at_once = 0
            several = hosts if most > 3 else hosts[:1]
            found = fetch(quick(*hosts, robots=False, **changes), *[f'http://{host}/photos/{number}.jpg'
                          for number in range(20) for host in several], together=True, resolver=names)
            assert {each.outcome for each in found} == {'ok'}
            assert server.most_at_once == most


def test_a_host_s_rate_is_kept_and_holds_up_no_other_host():
    with PhotoServer(lambda number: PHOTO) as server:
        names = Names(a_example=['127.0.0.1'], b_example=['127.0.0.1'])
        hosts = [f'{name}.example:{server.port}' for name in 'ab']

        async def run():
            ends = {}

            async def one(client, host, number):
                assert (await client.fetch(f'http://{host}/photos/{number}.jpg')).outcome == 'ok'
                ends.setdefault(host, []).append(time.monotonic() - start)

            async with Client(quick(*hosts, robots=False, host_rate=20.0, connections=2), resolver=names) as client:
                start = time.monotonic()
                await asyncio.gather(*[one(client, hosts[0], number) for number in range(10)],
                                     *[one(client, hosts[1], number) for number in range(3)])
            return [ends[host] for host in hosts]

        slow, other = asyncio.run(run())
    assert all(end >= number / 20 for number, end in enumerate(sorted(slow)))
    assert max(other) < max(slow)


def test_bytes_have_a_rate():
    with PhotoServer(lambda number: PHOTO) as server:
        for limit in ('bytes_per_s', 'host_bytes_per_s'):
            start = time.monotonic()
            limits = quick(f'127.0.0.1:{server.port}', robots=False, read_s=0.2, total_s=0.3,
                           **{limit: 8.0 * len(PHOTO)})
            found = fetch(limits, *map(server.photo_url, range(6)), together=True)
            # The last one need not wait, and waiting is nobody's time-out.
            assert {each.outcome for each in found} == {'ok'} and time.monotonic() - start >= 5 / 8


def test_a_host_that_is_down_is_left_alone_for_a_while():
    with PhotoServer(lambda number: PHOTO, {1: ['reset', 'reset', 'reset', 'ok']}) as server:
        names = Names(a_example=['127.0.0.1'], b_example=['127.0.0.1'])
        a, b = (f'http://{name}.example:{server.port}/photos/' for name in 'ab')

        async def run():
            limits = quick(f'a.example:{server.port}', f'b.example:{server.port}', robots=False, retries=0, breaker=3,
                           breaker_s=1.0)
            async with Client(limits, resolver=names) as client:
                first = [await client.fetch(a + '1.jpg') for _ in range(5)]
                first.append(await client.fetch(b + '2.jpg'))
                asked = server.asked['/photos/1.jpg']
                await asyncio.sleep(1.05)
                again = [await client.fetch(a + '1.jpg') for _ in range(2)]
                return outcomes(first), asked, outcomes(again)

        first, asked, again = asyncio.run(run())
    assert first == 3 * [('connection', '')] + 2 * [('host_down', 'connection')] + [('ok', '')]
    assert asked == 3
    assert again == 2 * [('ok', '')]


def test_one_request_finds_out_whether_a_host_is_back():
    with PhotoServer(lambda number: PHOTO, {1: ['silent']}) as server:
        async def run():
            limits = quick(f'127.0.0.1:{server.port}', robots=False, retries=0, breaker=2, breaker_s=0.2, read_s=0.2)
            async with Client(limits) as client:
                await asyncio.gather(*[client.fetch(server.photo_url(1)) for _ in range(2)])
                await asyncio.sleep(0.25)
                before = server.asked['/photos/1.jpg']
                found = await asyncio.gather(*[client.fetch(server.photo_url(1)) for _ in range(5)])
                return outcomes(found), server.asked['/photos/1.jpg'] - before

        found, asked = asyncio.run(run())
    assert asked == 1
    assert sorted(found) == 4 * [('host_down', 'timeout')] + [('timeout', 'read')]


def test_retry_after_is_waited_for_or_the_host_is_left():
    with PhotoServer(lambda number: PHOTO, {1: ['429:1', 'ok'], 2: ['503:1000'], 3: ['ok']}) as server:
        start = time.monotonic()
        [found] = fetch(quick(f'127.0.0.1:{server.port}', max_wait_s=2.0), server.photo_url(1))
        assert found.outcome == 'ok' and time.monotonic() - start >= 1.0
        found = fetch(quick(f'127.0.0.1:{server.port}'), server.photo_url(2), server.photo_url(3))
    assert outcomes(found) == [('throttled', '503'), ('host_down', 'throttled')]
    assert found[0].retry_after == 1000 and found[0].attempts == 1


@pytest.mark.parametrize('text, least, most', [
    ('120', 120, 120), (' 0 ', 0, 0),
    (email.utils.formatdate(0), 0, 0), ('-5', None, None), ('1.5', None, None), ('soon', None, None), ('', None, None),
    ('9' * 50, None, None), ('Wed, 99 Foo 0000 99:99:99 GMT', None, None), (None, None, None)])
def test_seconds_of_retry_after(text, least, most):
    found = retry_after_s(text)
    assert found is None if least is None else least <= found <= most


def test_seconds_until_a_date():
    assert 598 <= retry_after_s(email.utils.formatdate(time.time() + 600)) <= 600


def test_a_retry_waits_longer_each_time():
    with PhotoServer(lambda number: PHOTO, {1: ['500']}) as server:
        start = time.monotonic()
        [found] = fetch(quick(f'127.0.0.1:{server.port}', backoff_s=0.1, retries=3), server.photo_url(1))
        spent = time.monotonic() - start
    assert found.attempts == 4
    assert 0.5 * (0.1 + 0.2 + 0.4) <= spent < 1.5 * (0.1 + 0.2 + 0.4) + 5


def test_pace_lets_units_through_at_its_rate():
    pace = Pace(100.0)
    waits = [pace.wait_s() for _ in range(5)]
    assert waits[0] == 0 and all(abs(wait - number / 100) < 0.005 for number, wait in enumerate(waits))
    assert [Pace(None).wait_s(10**9) for _ in range(3)] == [0, 0, 0]


def test_the_table_of_hosts_stays_small():
    async def run():
        hosts = Hosts(Limits(host_rate=None), most=10)
        hosts['busy'].users += 1
        for _ in range(20):
            hosts['broken'].note('timeout')
        for number in range(1000):
            assert hosts[f'{number}.example'] is not None
        assert len(hosts) <= 10 and hosts['busy'].users == 1
    asyncio.run(run())


def test_many_hosts_leave_few_connections_open():
    """A connection is kept for a host's next request, but not to each of the hosts of the last seconds."""
    async def run(port):
        names = [f'h{number}.example' for number in range(700)]

        async def resolver(name, port):
            return ['127.0.0.1']

        limits = quick(*[f'{name}:{port}' for name in names], robots=False, read_s=5.0, total_s=5.0)
        async with Client(limits, resolver=resolver) as client:
            most = 0
            for first in range(0, 700, 20):
                found = await asyncio.gather(*[client.fetch(f'http://{name}:{port}/photos/1.jpg')
                                               for name in names[first:first + 20]])
                assert {each.outcome for each in found} == {'ok'}
                most = max(most, client._exchange.count_idle())
        return most

    before = len(list(Path('/proc/self/fd').iterdir()))
    with PhotoServer(lambda number: PHOTO) as server:
        assert MOST_IDLE <= asyncio.run(run(server.port)) <= MOST_IDLE + 20
    assert len(list(Path('/proc/self/fd').iterdir())) <= before + 5
