"""What the first process of a container is told, and tritonserver's command line that follows from it.

Beside entry.py, with the standard library alone.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
from pathlib import Path

import control  # type: ignore[import-not-found]
import sharing  # type: ignore[import-not-found]
import wanted  # type: ignore[import-not-found]

BINARY = "/opt/tritonserver/bin/tritonserver"
# The same as in builder/launchers/access.py.
KEY_VARIABLE = "BUILD_REPO_ADMIN_KEY"
SHORTEST_KEY = 16
LINGER_SECONDS = 1.0
"""Time to serve on when the signal comes, for requests that are on their way."""
PYTHON = re.compile(r'^backend: "python"', re.MULTILINE)
SOME_WORKERS = 4
"""Workers that are reckoned with where the repository does not tell."""


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve a repository with this image's tritonserver.")
    parser.add_argument("--repository", "-r", default="/models")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--http-host", default="", help="where plain HTTP listens, if not there")
    parser.add_argument("--metrics-host", default="", help="where the metrics are, if not where HTTP is")
    for name, port in (("http", 8000), ("grpc", 8001), ("metrics", 8002)):
        parser.add_argument(f"--{name}-port", type=int, default=port)
    parser.add_argument("--admin-key-file", type=Path)
    parser.add_argument("--unrestricted", action="store_true")
    for name in ("--tls-cert", "--tls-key", "--tls-client-ca"):
        parser.add_argument(name)
    parser.add_argument("--no-check", dest="check", action="store_false", help="take what is published as it is")
    parser.add_argument("--linger", type=float, default=LINGER_SECONDS, help="to serve on after SIGTERM")
    parser.add_argument("--until-input-closes", action="store_true", help="stop when whoever started this is gone")
    parser.add_argument("--verbose", "-v", action="store_true")
    parser.add_argument("rest", nargs="*", help="more arguments for tritonserver, behind --")
    return parser.parse_args()


def key(options: argparse.Namespace) -> str | None:
    """The administrator's; one that nobody knows where none is given. Raises OSError."""
    if options.unrestricted:
        return None
    if options.admin_key_file:
        return _usable(options.admin_key_file.read_bytes().decode(errors="replace").strip(), options.admin_key_file)
    given = os.environ.get(KEY_VARIABLE)
    return secrets.token_urlsafe(32) if given is None else _usable(given.strip(), KEY_VARIABLE)


def _usable(key: str, source: object) -> str:
    """Raises OSError, which holds no word of the key."""
    if len(key) < SHORTEST_KEY or not all("!" <= character <= "~" for character in key):
        raise OSError(f"{source} holds no key: one line of at least {SHORTEST_KEY} ASCII characters without spaces")
    return key


def arguments(options: argparse.Namespace) -> list[str]:
    """Those that everybody may see, behind the program itself."""
    http_host = options.http_host or options.host
    return [
        shutil.which("tritonserver") or BINARY,
        f"--model-repository={options.repository}",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in wanted_of(options.repository) or "*"),
        "--disable-auto-complete-config",
        "--exit-on-error=false",  # the reasons are read from the repository index
        f"--exit-timeout-secs={control.GRACE_SECONDS}",
        f"--http-address={http_host}",
        f"--grpc-address={options.host}",
        f"--metrics-address={options.metrics_host or http_host}",
        *(f"--{name}-port={getattr(options, f'{name}_port')}" for name in ("http", "grpc", "metrics")),
        "--metrics-config=summary_latencies=true",
        f"--log-info={'true' if options.verbose else 'false'}",
        *sharing.arguments(_workers(options.repository), sharing.free()),
        f"--backend-config=python,stub-timeout-seconds={control.STUB_TIMEOUT_SECONDS}",
        *_tls(options),
        *options.rest,
    ]


def wanted_of(repository: str) -> list[str] | None:
    """What is loaded of a repository in a folder; None: all that there is where the server alone can read it."""
    return wanted.wanted(Path(repository)) if Path(repository).is_dir() else None


def _workers(repository: str) -> int:
    """How many models of a repository in a folder run in processes of their own; their instances are one each."""
    configs = [path.read_text(errors="replace") for path in Path(repository).glob("*/config.pbtxt")]
    return sum(bool(PYTHON.search(text)) for text in configs) or SOME_WORKERS


def require_shared_memory(repository: str) -> None:
    """Raises OSError."""
    workers = _workers(repository)
    if lack := sharing.lack(workers, workers * sharing.LEAST_BYTES, sharing.free()):
        raise OSError(lack)


def _tls(options: argparse.Namespace) -> list[str]:
    if not options.tls_cert:
        return []
    kind = "--grpc-use-ssl-mutual=true" if options.tls_client_ca else "--grpc-use-ssl=true"
    arguments = [kind, f"--grpc-server-cert={options.tls_cert}", f"--grpc-server-key={options.tls_key}"]
    return arguments + ([f"--grpc-root-cert={options.tls_client_ca}"] if options.tls_client_ca else [])


def environment() -> dict[str, str]:
    told = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
    return {"ORT_DISABLE_TELEMETRY": "1"} | told  # ONNX Runtime would report its use to its makers
