"""The commands that reach servers, as programs: what they do to a real one, and with which status they end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from explicit_servers import free_ports, serving
from swapping import MODEL, NETWORK, built, publish
from test_cli import build_repo
from test_rollout_bad_days import http_server

from builder.errors import RolloutBusy, ServerAway, ServerOdd
from builder.lifecycle import exclusive
from builder.lifecycle.serving import serving as served
from builder.lifecycle.state import look
from builder.triton.connection import Access, connected
from builder.util import hints

IMPATIENT = """
import sys
from builder.commands import rollback
from builder.cli import main
rollback.PATIENCE_SECONDS = 1.0
sys.argv = ["build-repo", *sys.argv[1:]]
main()
"""


def told(*arguments: object) -> Any:
    finished = build_repo(*arguments, "--json")
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def loaded(url: str) -> set[int]:
    connection = connected(Access(url))
    found = look(connection).versions(NETWORK)
    connection.close()
    return found


def test_servers_by_commands(tmp_path: Path) -> None:
    """The way of an operator, over one server that vanishes and comes back. It takes half a minute: three versions are
    built, three servers start, and each command is a program of its own.
    """
    repository, ports = built(tmp_path), free_ports(3)
    publish(repository, 1)
    of = [MODEL, "-r", repository]
    with serving(repository, tmp_path, ports=ports) as server:
        grpc, http = ["--url", server.grpc], ["--url", server.http]
        publish(repository, 3)
        assert f"{server.grpc}  {MODEL}            1  3 is published; rollout brings it" in status(repository, grpc)
        assert told("prune", *of, "--keep", 2, "--dry-run")["versions"] == {MODEL: [1], NETWORK: [1]}
        assert told("prune", *of, "--keep", 2, "--yes", *http)["versions"] == {}  # the server has it
        finished = build_repo("rollout", *of, *grpc, "--trial", "process", "--max-slowdown", 9)
        assert finished.stdout.startswith(f"{server.grpc}: {MODEL} 3 serves (was 1), "), finished.stderr
        assert "was not measured, so that --max-slowdown refuses nothing: it is tried in a s" in finished.stderr
        assert loaded(server.grpc) == {3}
        (result,) = told("rollback", *of, "--to", 1, *http)["servers"]
        assert [(change["before"], change["after"]) for change in result["changes"]] == [(3, 1)]
        assert loaded(server.grpc) == {1, 3}  # for going forward again
        with exclusive.on_this_machine(repository, Access(server.grpc)):
            busy = impatient("rollback", *of, "--to", 2, *grpc)
        assert (busy.returncode, busy.stdout) == (RolloutBusy.exit_code, f"{MODEL} 2 is published (was 1)\n")
        assert served(Access(server.grpc)) == {MODEL: 1}
        with http_server(200, b"hello") as address:
            for command in (["rollback", *of, "--to", 2], ["prune", *of]):
                assert build_repo(*command, "--url", f"http://{address}").returncode == ServerOdd.exit_code
    again = ["rollback", *of, "--to", 2, *grpc]
    for command in (again, ["prune", *of, "--keep", 1, "--yes", *http]):
        assert build_repo(*command).returncode == ServerAway.exit_code
    (away,) = told("status", "-r", repository, *grpc)["servers"]
    assert away["exit_code"] == ServerAway.exit_code
    with serving(repository, tmp_path, ports=ports):
        assert build_repo(*again).stdout == f"{MODEL} 2 is what is published already\n{grpc[1]}: serves that already\n"
        assert told("status", "-r", repository, *http)["servers"] == [
            {"url": http[1], "versions": {MODEL: 2}, "not_as_published": []}
        ]


def test_hints_name_the_repository_as_a_shell_takes_it() -> None:
    assert hints.command(Path("model_repository"), "rollback", "m") == "build-repo rollback m"
    assert hints.command(Path.cwd() / "model_repository", "rollback", "m") == "build-repo rollback m"
    assert hints.command(Path("my models"), "rollback", "m") == "build-repo rollback m -r 'my models'"


def status(repository: Path, url: list[str]) -> str:
    finished = build_repo("status", "-r", repository, *url)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def impatient(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", IMPATIENT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
