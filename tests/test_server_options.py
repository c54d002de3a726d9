"""Which servers a command reaches, and with what."""

import os
from pathlib import Path

import pytest
import typer

from builder.commands.servers import accesses
from builder.errors import LaunchError
from builder.triton.connection import Access

KEY = "0123456789abcdef0123"


def test_each_server_once_with_the_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    file.chmod(0o600)
    urls = ["a.example:8001", "https://b.example:8000", "a.example:8001"]
    assert accesses(urls, file) == [Access("a.example:8001", KEY), Access("https://b.example:8000", KEY)]
    assert KEY not in repr(accesses(urls, file))
    assert accesses(None, file) == []
    file.chmod(0o644)
    with pytest.raises(LaunchError, match="every user of this machine can open"):
        accesses(urls, file)


def test_certificates_are_for_tls(tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_text("PEM")
    ca, cert, key = (tmp_path / name for name in ("ca", "cert", "key"))
    assert accesses(["grpcs://a.example:1"], None, ca, cert, key) == [
        Access("grpcs://a.example:1", None, ca, cert, key)
    ]
    with pytest.raises(typer.BadParameter, match=r"a\.example:1 is reached without TLS"):
        accesses(["grpcs://a.example:1", "a.example:1"], None, ca)
    with pytest.raises(typer.BadParameter, match="--cert and --key go together"):
        accesses(["grpcs://a.example:1"], None, ca, cert)
    with pytest.raises(typer.BadParameter, match="there is no file"):
        accesses(["grpcs://a.example:1"], None, tmp_path / "none")


@pytest.mark.parametrize("url", ["", "a", ":1", "a:", "a:x", "a:0", "a:70000", "ftp://a:1", "http://a", "a:²"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no address of a server; write HOST:PORT"):
        accesses([url])


def test_the_key_is_also_in_the_environment() -> None:
    assert "BUILD_REPO_ADMIN_KEY" not in os.environ
    assert accesses(["a.example:1"]) == [Access("a.example:1")]
