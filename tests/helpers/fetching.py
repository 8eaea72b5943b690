"""The client of the download against hosts on loopback: photos, limits that fail fast, resolvers, and a spy."""

import asyncio
import io
import ipaddress
import socket

import numpy as np
from PIL import Image

from clear.curation.download.client import Client
from clear.curation.download.limits import Limits


def jpeg(seed=0, size=(120, 90), kind='JPEG', **options):
    """The bytes of an image of noise."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


PHOTO = jpeg()


def quick(*origins, **changes):
    """Limits that fail fast and know no pace."""
    return Limits(**dict(dict(connections=8, host_rate=None, backoff_s=0.01, connect_s=2.0, read_s=0.4, total_s=1.2,
                              max_bytes=400_000, retries=1, allow=origins), **changes))


def fetch(limits, *urls, together=False, **options):
    """What becomes of addresses, one after the other or all at once."""
    async def run():
        async with Client(limits, **options) as client:
            if together:
                return await asyncio.gather(*[client.fetch(url) for url in urls])
            return [await client.fetch(url) for url in urls]
    return asyncio.run(asyncio.wait_for(run(), 60))


class Names:
    """A resolver: name -> list of answers, or a list of such lists for one look-up after the other."""

    def __init__(self, **answers):
        self.answers, self.asked = {name.replace('_', '.'): value for name, value in answers.items()}, []

    async def __call__(self, name, port):
        self.asked.append(name)
        if name not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, 'no such name')
        found = self.answers[name]
        if isinstance(found, Exception):
            raise found
        return found.pop(0) if found and isinstance(found[0], list) else found


def spy_on_connect(monkeypatch):
    """The addresses that anything in this process tries to connect to; what is not on loopback raises, unconnected."""
    seen, real = [], socket.socket.connect

    def connect(self, address):
        seen.append(address[0])
        assert ipaddress.ip_address(address[0]).is_loopback, address
        return real(self, address)

    def look_up(*arguments, **options):
        raise AssertionError(f'looked up {arguments}')

    monkeypatch.setattr(socket.socket, 'connect', connect)
    monkeypatch.setattr(socket.socket, 'connect_ex', connect)
    monkeypatch.setattr(socket, 'getaddrinfo', look_up)
    return seen
