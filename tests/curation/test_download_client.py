"""A hostile host, in a thread: every outcome is named, no attempt leaves loopback, and everything ends."""

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from clear.curation.demo.server import PhotoServer
from clear.curation.download.client import Client
from clear.curation.download.images import Header, image_header
from clear.curation.download.limits import Limits


def jpeg(seed=0, size=(120, 90)):
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, 'JPEG', quality=90)
    return file.getvalue()


PHOTO = jpeg()


def limits(server, **changes):
    return Limits(**dict(dict(connections=8, host_rate=None, backoff_s=0.01, connect_s=2.0, read_s=0.4, total_s=1.2,
                              max_bytes=400_000, retries=1, allow=[f'127.0.0.1:{server.port}']), **changes))


def fetch(server, *urls, resolver=None, **changes):
    """What becomes of the addresses, one after the other."""
    async def run():
        async with Client(limits(server, **changes), resolver=resolver) as client:
            return [await client.fetch(url) for url in urls]
    return asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize('answers, outcome, detail, attempts', [
    (['ok'], 'ok', '', 1),
    (['500', 'ok'], 'ok', '', 2),
    (['500'], 'http_5xx', '500', 2),
    (['404', 'ok'], 'http_4xx', '404', 1),
    (['204'], 'http_status', '204', 1),
    (['301'], 'http_status', '301', 1),
    (['429:0', 'ok'], 'ok', '', 2),
    (['503:1000'], 'throttled', '503', 1),
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
    (['gzip'], 'encoded', 'gzip', 1),
    (['html'], 'html', '', 1),
    (['empty'], 'empty', '', 1),
    (['noai'], 'opt_out', 'noai', 1),
    (['to:/photos/0.jpg'], 'ok', '', 1),
    (['to:file:///etc/hostname'], 'forbidden_scheme', 'file', 1),
    (['to:http://127.0.0.1:9/'], 'forbidden_address', 'loopback', 1),
    (['to:http://192.0.2.1/'], 'forbidden_address', 'documentation', 1),
    (['to:/gone/photo_unavailable.gif'], 'placeholder', '', 1),
    (['to:/photos/1.jpg'], 'too_many_redirects', '5', 1),
])
def test_every_outcome_is_named(answers, outcome, detail, attempts):
    with PhotoServer(lambda number: PHOTO, {1: answers}) as server:
        [found] = fetch(server, server.photo_url(1))
    assert (found.outcome, found.detail, found.attempts) == (outcome, detail, attempts)
    assert found.body == (PHOTO if outcome == 'ok' else b'')


def test_header_that_declares_more_pixels_than_the_cap():
    with PhotoServer(lambda number: PHOTO, {1: ['bomb']}) as server:
        [found] = fetch(server, server.photo_url(1))
    assert image_header(found.body) == 'too_many_pixels'
    assert image_header(PHOTO, 120 * 90) == Header('JPEG', 120, 90)
    assert image_header(PHOTO, 120 * 90 - 1) == 'too_many_pixels'
