"""Clients as logs name them."""

from __future__ import annotations

import ipaddress
import re

WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|(\d+\.\d+\.\d+\.\d+):\d+")
HOST = re.compile(r"(?=.{1,255}$)(?:[A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]*[A-Za-z_-][A-Za-z0-9_-]*\.?")
"""The last label of a name is never a number alone."""
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")


def address(text: str) -> str:
    """The client's IP address, written in one way, without brackets and port; empty if it is none.

    IPv4 in IPv6's clothes is the IPv4 address. What no client can have is none, such as 12:2001:db8::7, which is a
    line's number before an address.
    """
    found = WITH_PORT.fullmatch(text)
    try:
        ip = ipaddress.ip_address((found[1] or found[2] or "") if found else text)
    except ValueError:
        return ""
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return "" if ip.is_reserved and not ip.is_loopback and ip not in TRANSLATED else str(ip)


def is_host(text: str) -> bool:
    """Whether it is a name, as logs have it where addresses are looked up; `-` and nginx's `unix:` are some as well."""
    return text in ("-", "unix:") or bool(HOST.fullmatch(text))


def of_head(head: str) -> str:
    """The client, of what stands before a line's time: `[VHOST[:PORT]] CLIENT IDENT USER`. Empty if that is unclear.

    A user's name may hold spaces, and is the client's to choose, so that only the beginning counts.
    """
    words = [*head.split(), ""]
    first, second = address(words[0]), address(words[1]) if len(words) > 2 else ""
    if second:  # behind a virtual host's name, or else two addresses that could be anything
        return second if len(words) > 4 and _is_virtual_host(words[0]) else ""
    if first or not is_host(words[0]):
        return first
    plain = len(words) == 4 or (len(words) > 4 and words[1] == "-")
    return words[0] if plain and not any(map(address, words[2:])) else ""


def _is_virtual_host(text: str) -> bool:
    name, colon, port = text.rpartition(":")
    return is_host(name if colon and port.isdecimal() else text) or bool(address(text) and WITH_PORT.fullmatch(text))
