"""What may be asked: public addresses only, judged in one form, and those that were judged are connected to."""

import asyncio
import ipaddress
import re
import ssl
import subprocess

import pytest
from fetching import PHOTO, Names, fetch, quick, spy_on_connect
from raw_server import answer, raw_server

from clear.curation.demo.server import PhotoServer
from clear.curation.download.addresses import canonical, forbidden, literal
from clear.curation.download.client import Client
from clear.curation.download.gate import Gate
from clear.curation.download.outcomes import Failed
from clear.curation.download.targets import redirected, target

# 127.0.0.2 stands for a public address, which nothing here may connect to.
PUBLIC = '127.0.0.2'


def judge(address):
    return None if str(canonical(address)) == PUBLIC else forbidden(address)


@pytest.mark.parametrize('address, why', [
    ('0.0.0.0', 'unspecified'), ('0.1.2.3', 'unspecified'), ('10.255.0.1', 'private'), ('100.63.255.255', None),
    ('100.64.0.0', 'shared'), ('100.127.255.255', 'shared'), ('100.128.0.0', None), ('127.255.255.254', 'loopback'),
    ('169.254.169.254', 'link-local'), ('172.15.255.255', None), ('172.16.0.1', 'private'),
    ('172.31.255.255', 'private'),
    ('172.32.0.0', None), ('192.0.0.170', 'reserved'), ('192.0.2.1', 'documentation'), ('192.88.99.1', 'relay'),
    ('192.167.255.255', None), ('192.168.0.1', 'private'), ('198.17.255.255', None), ('198.19.0.1', 'benchmarking'),
    ('198.51.100.7', 'documentation'), ('203.0.113.7', 'documentation'), ('223.255.255.255', None),
    ('224.0.0.1', 'multicast'), ('240.0.0.1', 'reserved'), ('255.255.255.255', 'reserved'),
    ('::', 'unspecified'), ('::1', 'loopback'), ('::7f00:1', 'reserved'), ('fe80::1', 'link-local'),
    ('fe80::1%1', 'with a zone'), ('2600::1%1', 'with a zone'), ('febf::1', 'link-local'), ('fec0::1', 'site-local'),
    ('fc00::1', 'private'), ('fdff::1', 'private'), ('ff02::1', 'multicast'), ('100::1', 'reserved'),
    ('2001:db8::1', 'documentation'), ('3fff::1', 'documentation'), ('2001::1', 'reserved'), ('2001:10::1', 'reserved'),
    ('5f00::1', 'reserved'), ('4000::1', 'reserved'), ('2600::1', None), ('2a00:1450::1', None), ('2001:4860::8', None),
    ('::ffff:10.0.0.1', 'private'), ('::ffff:192.0.2.1', 'documentation'), ('::ffff:100.128.0.0', None),
    ('64:ff9b::127.0.0.1', 'loopback'), ('64:ff9b::100.128.0.0', None), ('64:ff9b:1::1', 'reserved'),
    ('2002:7f00:1::', 'loopback'), ('2002:c0a8:1::1', 'private'), ('2002:6480::1', None)])
def test_public_addresses(address, why):
    assert forbidden(ipaddress.ip_address(address)) == why


def test_what_python_calls_local_is_forbidden():
    """Python's own properties, asked about the beginning, middle and end of every 262,144th of the space."""
    for number in range(0, 2**32, 2**18):
        for address in (ipaddress.IPv4Address(number + offset) for offset in (0, 2**17, 2**18 - 1)):
            if address.is_private or address.is_multicast or address.is_reserved or address.is_link_local:
                assert forbidden(address), address


@pytest.mark.parametrize('host, address', [
    ('127.0.0.1', '127.0.0.1'), ('127.1', '127.0.0.1'), ('2130706433', '127.0.0.1'), ('0x7f000001', '127.0.0.1'),
    ('017700000001', '127.0.0.1'), ('0177.0.0.1', '127.0.0.1'), ('0x7f.0.0.1', '127.0.0.1'),
    ('127.0.0.1.', '127.0.0.1'), ('10.1', '10.0.0.1'), ('0', '0.0.0.0'),
    ('::1', '::1'), ('::ffff:127.0.0.1', '::ffff:7f00:1'),
    ('example.com', None), ('1.2.3.4.example', None), ('127.0.0.1.5', None), ('0x7f.example', None)])
def test_an_address_is_known_in_every_form(host, address):
    found = literal(host)
    assert found == (None if address is None else ipaddress.ip_address(address))


@pytest.mark.parametrize('text, asked', [
    ('http://example.com/a%2Db%7Ec%2Fd%2be%21.jpg?sig=a%2Bb%2F%3D%7E&u=x+y%20z%3Bq', None),
    ('HTTP://Example.COM/A', 'http://example.com/A'), (' http://example.com/a ', 'http://example.com/a'),
    ('http://example.com/a b"ü', 'http://example.com/a%20b%22%C3%BC'),
    ('http://bücher.example/', 'http://xn--bcher-kva.example/'),
    ('http://１２７.0.0.1/', 'http://127.0.0.1/'), ('http://0x7F.1:80/x', 'http://127.0.0.1/x'),
    ('http://2130706433:8000/', 'http://127.0.0.1:8000/')])
def test_what_is_asked_is_what_is_written(text, asked):
    found = target(text)
    assert str(found.url) == (asked or text)
    assert found.text == str(found.url) or found.text.lower() == str(found.url).lower()


@pytest.mark.parametrize('text, outcome', [
    ('ftp://example.com/', 'forbidden_scheme'), ('file:///etc/hostname', 'forbidden_scheme'),
    ('//example.com/', 'forbidden_scheme'), ('', 'forbidden_scheme'),
    ('data:image/png;base64,aaaa', 'forbidden_scheme'),
    ('http://', 'bad_url'), ('http:///a', 'bad_url'), ('http:a', 'bad_url'), ('http://example.com:0/', 'bad_url'),
    ('http://example.com:65536/', 'bad_url'), ('http://u@example.com/', 'bad_url'), ('http://@example.com/', 'bad_url'),
    ('http://u:p@example.com/', 'bad_url'), ('http://example.com\\@192.0.2.1/', 'bad_url'),
    ('http://example.com/\r\nHost: x', 'bad_url'), ('http://example.com/\0', 'bad_url'), ('http://a\tb/', 'bad_url'),
    ('http://example.com/\ud800', 'bad_url'), ('http://[::1', 'bad_url'), ('http://[::g]/', 'bad_url'),
    ('http://a%2eb/', 'bad_url'), ('http://a..b/', 'bad_url'), ('http://a b/', 'bad_url'),
    ('http://*.example/', 'bad_url'),
    ('http://example.com/' + 'a' * 9000, 'bad_url')])
def test_addresses_that_cannot_be_asked(text, outcome):
    with pytest.raises(Failed) as error:
        target(text)
    assert error.value.outcome == outcome


@pytest.mark.parametrize('location, asked', [
    ('/b.jpg', 'http://example.com/b.jpg'), ('c.jpg?x=%2f', 'http://example.com/a/c.jpg?x=%2f'),
    ('//other.example/x', 'http://other.example/x'), ('https://other.example', 'https://other.example')])
def test_redirects_are_relative_to_what_was_asked(location, asked):
    assert redirected('http://example.com/a/b.jpg', location).text == asked


def test_every_answer_of_a_resolver_is_judged(monkeypatch):
    seen = spy_on_connect(monkeypatch)
    answers = dict(one=['192.0.2.1'], last=[PUBLIC, PUBLIC, '198.51.100.1'], mapped=['::ffff:192.0.2.1'],
                   nat=['64:ff9b::10.0.0.1'], inner=['10.0.0.1'], linked=['fe80::1%1'], own=['127.0.0.1'],
                   meta=['169.254.169.254'])
    names = Names(**{f'{name}_example': found for name, found in answers.items()})
    urls = [f'http://{name}.example:9/' for name in answers]
    found = fetch(quick(robots=False), *urls, resolver=names, judge=judge)
    assert [(each.outcome, each.attempts) for each in found] == len(urls) * [('forbidden_address', 1)]
    assert [each.detail for each in found] == ['documentation', 'documentation', 'documentation', 'private', 'private',
                                               'with a zone', 'loopback', 'link-local']
    assert seen == []


def test_a_redirect_is_judged_anew(monkeypatch):
    seen = spy_on_connect(monkeypatch)
    script = {1: ['to:http://inner.example/'], 2: ['to:http://192.0.2.1/'], 3: ['to:http://photos.example:9/']}
    with PhotoServer(lambda number: PHOTO, script) as server:
        names = Names(photos_example=['127.0.0.1'], inner_example=['198.51.100.1'])
        urls = [f'http://photos.example:{server.port}/photos/{number}.jpg' for number in (1, 2, 3, 4)]
        found = fetch(quick(f'photos.example:{server.port}', robots=False), *urls, resolver=names)
    assert [each.outcome for each in found] == 3 * ['forbidden_address'] + ['ok']
    assert set(seen) == {'127.0.0.1'}


def test_allow_opens_one_origin_only(monkeypatch):
    seen = spy_on_connect(monkeypatch)
    with PhotoServer(lambda number: PHOTO) as server, PhotoServer(lambda number: PHOTO) as other:
        names = Names(photos_example=['127.0.0.1'], alias_example=['127.0.0.1'])
        urls = [f'http://{host}/photos/1.jpg' for host in (
            f'127.0.0.1:{server.port}', f'127.0.0.1:{other.port}', f'photos.example:{server.port}',
            f'alias.example:{server.port}', f'photos.example:{other.port}', f'2130706433:{server.port}')]
        found = fetch(quick(f'127.0.0.1:{server.port}', f'photos.example:{server.port}'), *urls, resolver=names)
        assert not other.asked
    assert [each.outcome for each in found] == ['ok', 'forbidden_address', 'ok', 'forbidden_address',
                                                'forbidden_address', 'ok']
    assert set(seen) == {'127.0.0.1'}


def test_the_address_that_was_judged_is_the_one_connected_to(monkeypatch):
    """A name that answers with a public address once, and with others ever after."""
    seen = spy_on_connect(monkeypatch)
    names = Names(rebind_example=[[PUBLIC], ['192.0.2.1'], ['10.0.0.1'], ['127.0.0.1']])

    async def run(port):
        async with Client(quick(robots=False), resolver=names, judge=judge) as client:
            found = []
            for _ in range(4):
                found.append((await client.fetch(f'http://rebind.example:{port}/photos/1.jpg')).outcome)
                # As when the answer is too old and the connection is closed.
                client._exchange.forget_addresses()
                for kept in client._exchange._connector._conns.values():
                    for protocol, _ in kept:
                        protocol.close()
            return found

    with PhotoServer(lambda number: PHOTO, host=PUBLIC) as server:
        outcomes = asyncio.run(run(server.port))
    assert outcomes == ['ok', 'forbidden_address', 'forbidden_address', 'forbidden_address']
    assert names.asked == 4 * ['rebind.example']  # once a connection
    assert seen == [PUBLIC]


def test_a_socket_is_refused_whatever_led_to_it():
    gate = Gate((), 1.0)
    for host in ('192.0.2.1', '::1', '::ffff:10.0.0.1'):
        with pytest.raises(Failed, match='forbidden_address'):
            gate.socket((2, 1, 6, '', (host, 80)))


def test_environment_gives_no_proxy_no_cookie_and_no_password(monkeypatch, tmp_path):
    (tmp_path / '.netrc').write_text('machine 127.0.0.1 login me password secret\n')
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.setenv(name, 'http://192.0.2.1:3128')
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('NETRC', str(tmp_path / '.netrc'))
    seen = spy_on_connect(monkeypatch)

    async def run():
        async with raw_server(answer(PHOTO, Set_Cookie='a=b; Path=/'), keep=True) as server:
            async with Client(quick(f'127.0.0.1:{server.port}', robots=False, contact='me@example.org')) as client:
                for _ in range(2):
                    assert (await client.fetch(f'http://127.0.0.1:{server.port}/a%2fb?x=%7e#y')).outcome == 'ok'
            return server.heads, server.port

    heads, port = asyncio.run(run())
    assert seen == ['127.0.0.1'] and len(heads) == 2
    for head in heads:
        first, *lines = head.decode().rstrip().split('\r\n')
        fields = dict(line.split(': ', 1) for line in lines)
        assert first == 'GET /a%2fb?x=%7e HTTP/1.1'
        assert re.fullmatch(r'clear-framework/[0-9.]+ \(\+me@example.org\)', fields['User-Agent'])
        assert fields['Accept-Encoding'] == 'identity' and fields['Host'] == f'127.0.0.1:{port}'
        assert set(fields) == {'Host', 'User-Agent', 'Accept', 'Accept-Encoding'}


def test_certificates_are_verified(tmp_path):
    key, certificate = tmp_path / 'key.pem', tmp_path / 'certificate.pem'
    try:
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', certificate,
                        '-days', '2', '-subj', '/CN=photos.example', '-addext', 'subjectAltName=DNS:photos.example'],
                       check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip('needs openssl')
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def run():
        async with raw_server(answer(PHOTO), ssl=context) as server:
            origin = f'photos.example:{server.port}'
            async with Client(quick(origin, robots=False), resolver=Names(photos_example=['127.0.0.1'])) as client:
                found = [await client.fetch(f'https://{origin}/')]
                return [*found, server.heads]

    found, heads = asyncio.run(run())
    assert (found.outcome, found.detail, found.attempts, heads) == ('tls', 'certificate', 1, [])
