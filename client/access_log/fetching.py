"""An image of the site: from its folder, or over HTTP. Logs are written by strangers, and trusted in nothing."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

from client import files
from client.access_log.selecting import Asked
from client.errors import InvalidInput, InvalidOption, UnreadableFile

BLOCK = 64 * 1024


class Folder:
    """The site's document root. Nothing outside it is read, through links neither."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root, self._max_bytes = _real_folder(root), max_bytes

    def located(self, asked: Asked) -> Asked:
        """Whatever host a whole URL named, there is one folder."""
        return Asked(asked.path)

    def read(self, asked: Asked) -> bytes:
        """Raises UnreadableFile, InvalidInput."""
        path = os.path.realpath(self._root / asked.path.lstrip("/"))
        self._refuse_outside(path)
        try:
            with files.opened(path, follow=False) as descriptor:
                self._refuse_outside(os.path.realpath(f"/proc/self/fd/{descriptor}"))  # a folder that became a link
                return self._content(descriptor, path)
        except UnreadableFile as error:
            raise UnreadableFile(str(error).removeprefix(f"{path}: ")) from None

    def _refuse_outside(self, path: str) -> None:
        if not Path(path).is_relative_to(self._root):
            raise InvalidInput("it leads out of the folder")

    def _content(self, descriptor: int, path: str) -> bytes:
        size = os.fstat(descriptor).st_size
        if size > self._max_bytes:
            raise InvalidInput(f"it has {size} bytes; at most {self._max_bytes} are read")
        return files.content(descriptor, path)[: self._max_bytes]


class Site:
    """An HTTP server. Only hosts that the user named are asked, at the addresses that they had at the start.

    So no name in a log is resolved, no redirection followed, and a name that changes its address later leads
    nowhere. No cookies, credentials or proxies are used.
    """

    def __init__(self, base_url: str, allowed: Sequence[str], max_bytes: int, seconds: float) -> None:
        url = urlsplit(base_url)
        if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query or url.fragment:
            raise InvalidOption(f"{base_url!r} is no base URL; write http://HOST or https://HOST[:PORT][/PATH]")
        self._scheme, self._base, self._prefix = url.scheme, url.netloc.lower(), url.path.rstrip("/")
        self._max_bytes, self._seconds = max_bytes, seconds
        self._context = ssl.create_default_context() if url.scheme == "https" else None
        self._addresses = {host: _resolve(host, url.scheme) for host in (self._base, *map(str.lower, allowed))}

    def located(self, asked: Asked) -> Asked:
        return Asked(asked.path) if asked.host == self._base else asked

    def read(self, asked: Asked) -> bytes:
        """Raises UnreadableFile, InvalidInput."""
        host = asked.host.lower() or self._base
        if host not in self._addresses:
            raise InvalidInput(f"{host} is not among the hosts that may be asked; --allow-host would add it")
        try:
            return self._fetched(host, quote((self._prefix + asked.path).encode("utf-8", "surrogateescape")))
        except (OSError, http.client.HTTPException) as error:
            raise UnreadableFile(f"{host} cannot be asked: {error or type(error).__name__}") from None

    def _fetched(self, host: str, path: str) -> bytes:
        deadline = time.monotonic() + self._seconds
        connection = self._connection(host)
        try:
            connection.request("GET", path, headers={"Host": host, "User-Agent": "repo-client", "Connection": "close"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise UnreadableFile(f"{host} answered {answer.status} {answer.reason}")
            data = b""
            while block := answer.read1(BLOCK):
                data += block
                if len(data) > self._max_bytes:
                    raise InvalidInput(f"it has more than {self._max_bytes} bytes")
                if time.monotonic() > deadline:
                    raise UnreadableFile(f"{host} did not send it within {self._seconds:g} s")
            return data
        finally:
            connection.close()

    def _connection(self, host: str) -> http.client.HTTPConnection:
        """To an address of the start, under the name that was asked for."""
        name, _ = _split(host, self._scheme)
        connection = http.client.HTTPConnection(host, timeout=self._seconds)
        connection.sock = socket.create_connection(self._addresses[host], timeout=self._seconds)
        if self._context:
            connection.sock = self._context.wrap_socket(connection.sock, server_hostname=name)
        return connection


def _resolve(host: str, scheme: str) -> tuple[str, int]:
    name, port = _split(host, scheme)
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidInput(f"{host} cannot be resolved: {error.strerror}") from None
    return str(found[0][4][0]), port


def _split(host: str, scheme: str) -> tuple[str, int]:
    try:
        url = urlsplit(f"//{host}")
        return url.hostname or "", url.port or (443 if scheme == "https" else 80)
    except ValueError:
        raise InvalidInput(f"{host!r} is no host") from None


def _real_folder(root: Path) -> Path:
    if not os.path.isdir(root):
        raise InvalidInput(f"{root} is no folder")
    return root.resolve()
