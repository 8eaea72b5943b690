"""Which addresses may be asked: public unicast ones, judged in one canonical form."""

from __future__ import annotations

import functools
import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address

# IANA's registries of special purpose addresses; written out, because `is_global` changes between releases of Python.
_FORBIDDEN_V4 = {
    '0.0.0.0/8': 'unspecified', '10.0.0.0/8': 'private', '100.64.0.0/10': 'shared', '127.0.0.0/8': 'loopback',
    '169.254.0.0/16': 'link-local', '172.16.0.0/12': 'private', '192.0.0.0/24': 'reserved',
    '192.0.2.0/24': 'documentation', '192.88.99.0/24': 'relay', '192.168.0.0/16': 'private',
    '198.18.0.0/15': 'benchmarking', '198.51.100.0/24': 'documentation', '203.0.113.0/24': 'documentation',
    '224.0.0.0/4': 'multicast', '240.0.0.0/4': 'reserved'}
# Of IPv6 only 2000::/3 is in use as global unicast; inside it:
_FORBIDDEN_V6 = {'2001::/23': 'reserved', '2001:db8::/32': 'documentation', '3fff::/20': 'documentation'}
_V4 = [(ipaddress.IPv4Network(net), why) for net, why in _FORBIDDEN_V4.items()]
_V6 = [(ipaddress.IPv6Network(net), why) for net, why in _FORBIDDEN_V6.items()]
_NAMED_V6 = [(ipaddress.IPv6Network(net), why) for net, why in {
    '::/128': 'unspecified', '::1/128': 'loopback', 'fe80::/10': 'link-local', 'fc00::/7': 'private',
    'ff00::/8': 'multicast', 'fec0::/10': 'site-local'}.items()]
_GLOBAL_V6 = ipaddress.IPv6Network('2000::/3')
_NAT64 = ipaddress.IPv6Network('64:ff9b::/96')


@functools.lru_cache(4096)
def literal(host: str) -> Address | None:
    """The address that a host is written as, in any form that a C library takes (127.1, 0x7f.1, 017700000001,
    2130706433, IPv6 with or without a zone); None for a name.
    """
    if ':' in host:
        return ipaddress.IPv6Address(host)
    # No top-level domain begins with a digit, so a host that ends otherwise is a name.
    if not host.rstrip('.').rpartition('.')[2][:1].isdigit():
        return None
    try:
        return IPv4Address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host.rstrip('.')))
    except OSError:
        return None


def canonical(address: Address) -> Address:
    """The IPv4 address inside a mapped, NAT64 or 6to4 one; any other as it is."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour or address


def forbidden(address: Address) -> str | None:
    """Why an address may not be asked ('private', 'loopback' ...), or None if it is public."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return 'with a zone'
    address = canonical(address)
    if isinstance(address, IPv4Address):
        return next((why for net, why in _V4 if address in net), None)
    if address not in _GLOBAL_V6:
        return next((why for net, why in _NAMED_V6 if address in net), 'reserved')
    return next((why for net, why in _V6 if address in net), None)
