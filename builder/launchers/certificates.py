"""What is wrong with a server's certificates, asked before the server starts."""

from __future__ import annotations

import contextlib
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import LaunchError

if TYPE_CHECKING:
    from builder.launchers.options import ServerTls

ROUNDS = 4
"""Turns of each side. A TLS handshake takes two at most; the rest is to spare."""


def require_usable(tls: ServerTls) -> None:
    """Raise LaunchError for files that are missing, broken, expired, or do not belong together."""
    for path in filter(None, (tls.certificate, tls.key, tls.client_ca)):
        _require_readable(path)
    server = _server_context(tls)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False  # by which name clients will call is not known here
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself is the one trusted
    try:
        trusting.load_verify_locations(tls.certificate)
        _shake_hands(server, trusting)
    except ssl.SSLCertVerificationError as error:
        raise LaunchError(f"{tls.certificate} would be refused by clients: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise LaunchError(f"{tls.certificate} is of no use: {error.reason or error}") from None
    if tls.client_ca:
        _require_authority(tls.client_ca)


def _require_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise LaunchError(f"{path} cannot be read: {error.strerror}") from None


def _server_context(tls: ServerTls) -> ssl.SSLContext:
    # OpenSSL would ask at the terminal, which a server has not.
    def refuse_password() -> str:
        raise LaunchError(f"{tls.key} is encrypted, and the server cannot ask for its password; decrypt it")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.certificate, tls.key, refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise LaunchError(f"{tls.key} is not the key of {tls.certificate}") from None
        raise LaunchError(f"{tls.certificate} and {tls.key} are not a PEM certificate and its key") from None
    return context


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """A TLS handshake of the two, in memory: no port is opened. Raises ssl.SSLError."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True))
    for _ in range(ROUNDS):
        for side in sides:
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()


def _require_authority(path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # that of a server: it is clients who are to be verified
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise LaunchError(f"{path} holds no PEM certificates") from None
    authorities = context.get_ca_certs()
    if not authorities:
        raise LaunchError(f"{path} holds no certificate of an authority, so that no client could show one of it")
    if all(ssl.cert_time_to_seconds(str(authority["notAfter"])) < time.time() for authority in authorities):
        raise LaunchError(f"the authority in {path} has expired, so that no client could show a certificate of it")
