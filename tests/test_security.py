"""The closed doors of a served repository, each tried, on the real server."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
import trustme
import warm
from conftest import build
from cryptography.hazmat.primitives import serialization
from PIL import Image
from processes import started
from test_hidden import forbidding_ptrace
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from builder.data.images import SAMPLES
from builder.errors import LaunchError, RepositoryError
from builder.launchers import LAUNCHERS, access, keys
from builder.launchers.options import LaunchOptions, ServerTls
from builder.types import Endpoints
from client import Client, NotAllowed, ServerUnavailable, Tls, endpoint

PHOTO = SAMPLES / "coffee.jpg"
KEY = "k:e=y,with/all;that%may!be'in-it"  # what Triton's own syntax uses, too
WRONG = {"none": None, "other": "x" * len(KEY), "shorter": KEY[:-1], "longer": KEY + "x", "empty": ""}
REFUSAL = re.compile(r"This (protocol|API) is restricted, expecting header")
Call = Callable[[Any, dict[str, str]], Any]

# tritonclient's two libraries have the same methods, so that each door is tried with both.
CLOSED: dict[str, Call] = {
    "index": lambda c, h: c.get_model_repository_index(headers=h),
    "load": lambda c, h: c.load_model("nobody's", headers=h),
    "unload": lambda c, h: c.unload_model("nobody's", headers=h),
    "system memory, status": lambda c, h: c.get_system_shared_memory_status(headers=h),
    "system memory, register": lambda c, h: c.register_system_shared_memory("mine", "/none", 8, headers=h),
    "system memory, unregister": lambda c, h: c.unregister_system_shared_memory("mine", headers=h),
    "system memory, unregister all": lambda c, h: c.unregister_system_shared_memory(headers=h),
    "GPU memory, status": lambda c, h: c.get_cuda_shared_memory_status(headers=h),
    "GPU memory, register": lambda c, h: c.register_cuda_shared_memory("mine", b"AAAA", 0, 8, headers=h),
    "GPU memory, unregister": lambda c, h: c.unregister_cuda_shared_memory("mine", headers=h),
    "GPU memory, unregister all": lambda c, h: c.unregister_cuda_shared_memory(headers=h),
    "log, get": lambda c, h: c.get_log_settings(headers=h),
    "log, set": lambda c, h: c.update_log_settings({"log_verbose_level": 0}, headers=h),
    "trace, get": lambda c, h: c.get_trace_settings(headers=h),
    "trace, set": lambda c, h: c.update_trace_settings(settings={"trace_rate": "7"}, headers=h),
    "trace of a model, get": lambda c, h: c.get_trace_settings("lenet", headers=h),
    "trace of a model, set": lambda c, h: c.update_trace_settings("lenet", {"trace_rate": "7"}, headers=h),
}
OPEN: dict[str, Call] = {
    "live": lambda c, h: c.is_server_live(headers=h),
    "ready": lambda c, h: c.is_server_ready(headers=h),
    "model ready": lambda c, h: c.is_model_ready("lenet", headers=h),
    "metadata": lambda c, h: c.get_server_metadata(headers=h),
    "model metadata": lambda c, h: c.get_model_metadata("lenet", headers=h),
    "config": lambda c, h: c.get_model_config("lenet", headers=h),
    "statistics": lambda c, h: c.get_inference_statistics(headers=h),
}
HEADERS = {"grpc": access.GRPC_HEADER, "http": access.HEADER}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    build(folder, "models:\n  lenet: {weights: random, format: onnx}\n")
    return folder / "repository"


def options(**changes: Any) -> LaunchOptions:
    """As beyond loopback, where no test may listen."""
    return LaunchOptions(**{"http_port": 0, "grpc_port": 0, "metrics_port": 0, "restrict": True} | changes)


@pytest.fixture(scope="module")
def restricted(tiny: Path) -> Iterator[Endpoints]:
    server = LAUNCHERS["embedded"].launch(tiny, options(admin_key=KEY))
    yield server.endpoints
    server.stop()


@pytest.fixture(params=["grpc", "http"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def connection(protocol: str, restricted: Endpoints) -> Iterator[Any]:
    library: Any = {"grpc": triton_grpc, "http": triton_http}[protocol]
    opened = library.InferenceServerClient(getattr(restricted, protocol))
    yield opened
    opened.close()


@pytest.fixture
def url(protocol: str, restricted: Endpoints) -> str:
    return restricted.grpc if protocol == "grpc" else f"http://{restricted.http}"


# --- doors ---


@pytest.mark.parametrize("door", CLOSED)
def test_closed_door(door: str, connection: Any, protocol: str) -> None:
    call = CLOSED[door]
    for key in WRONG.values():
        with pytest.raises(InferenceServerException, match=REFUSAL):
            call(connection, {} if key is None else {HEADERS[protocol]: key})
    other = ({*HEADERS.values()} - {HEADERS[protocol]}).pop()
    with pytest.raises(InferenceServerException, match=REFUSAL):
        call(connection, {other: KEY})
    said = ""
    try:
        call(connection, {HEADERS[protocol]: KEY})
    except InferenceServerException as error:
        said = error.message()  # such as that there is no such memory
    assert not REFUSAL.search(said)


def test_refused_settings_are_not_taken(connection: Any, protocol: str) -> None:
    before = connection.get_log_settings(headers={HEADERS[protocol]: KEY})
    with pytest.raises(InferenceServerException, match=REFUSAL):
        connection.update_log_settings({"log_verbose_level": 3})
    assert connection.get_log_settings(headers={HEADERS[protocol]: KEY}) == before


@pytest.mark.parametrize("door", OPEN)
def test_open_door(door: str, connection: Any) -> None:
    assert OPEN[door](connection, {})


def test_no_method_is_forgotten() -> None:
    """Each of the protocol's methods is of one of the two kinds, or an inference."""
    of_door = {
        "ServerLive": "live", "ServerReady": "ready", "ModelReady": "model ready", "ServerMetadata": "metadata",
        "ModelMetadata": "model metadata", "ModelConfig": "config", "ModelStatistics": "statistics",
        "RepositoryIndex": "index", "RepositoryModelLoad": "load", "RepositoryModelUnload": "unload",
        "SystemSharedMemoryStatus": "system memory, status", "SystemSharedMemoryRegister": "system memory, register",
        "SystemSharedMemoryUnregister": "system memory, unregister", "CudaSharedMemoryStatus": "GPU memory, status",
        "CudaSharedMemoryRegister": "GPU memory, register", "CudaSharedMemoryUnregister": "GPU memory, unregister",
        "TraceSetting": "trace, set", "LogSettings": "log, set",
    }  # fmt: skip
    methods = {method.name for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods}
    assert methods - {"ModelInfer", "ModelStreamInfer"} == set(of_door)
    assert set(of_door.values()) <= CLOSED.keys() | OPEN.keys()


def test_everybody_may_ask_the_models(url: str) -> None:
    """The client does without the index, which names them, and without shared memory."""
    with Client(url) as client, Client(url, admin_key=KEY) as administrator:
        assert [model.name for model in client.models()] == [model.name for model in administrator.models()]
        assert client.models() == administrator.models()
        assert client.classify(PHOTO)[0] == administrator.classify(PHOTO, "lenet")[0]


def test_wrong_key_is_told(url: str) -> None:
    with Client(url, admin_key="wrong") as client, pytest.raises(NotAllowed, match="another administrator's key"):
        client.models()


def large_image() -> bytes:
    """Beyond what the client sends by value where it may share memory."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    assert len(buffer.getvalue()) > 512 * 1024
    return buffer.getvalue()


def regions(restricted: Endpoints) -> int:
    with triton_grpc.InferenceServerClient(restricted.grpc) as connection:
        headers = access.grpc_headers(KEY)
        return len(connection.get_system_shared_memory_status(headers=headers, as_json=True).get("regions", ()))


def test_memory_is_shared_with_the_administrator_alone(url: str, restricted: Endpoints) -> None:
    image = large_image()
    with Client(url) as client:
        by_value = client.classify(image)
        assert regions(restricted) == 0
    with Client(url, shared_memory=True) as client, pytest.raises(NotAllowed, match="--admin-key-file FILE or in"):
        client.classify(image, "lenet")
    with Client(url, shared_memory=True, admin_key=KEY) as client:
        assert client.classify(image) == by_value
        assert regions(restricted) == 1


def test_the_client_knows_the_servers_headers() -> None:
    assert (endpoint.ADMIN_HEADER, endpoint.GRPC_ADMIN_HEADER) == (access.HEADER, access.GRPC_HEADER)
    assert KEY not in repr(endpoint.parse("host:1", admin_key=KEY))
    assert KEY not in repr(LaunchOptions(admin_key=KEY))


def repo_client(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return warm.run("client.cli", *arguments, environment=os.environ | environment)


def test_key_on_the_command_line_is_a_file_or_the_environment(url: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    for asked in (
        repo_client("models", "--url", url, "--json", "--admin-key-file", str(file)),
        repo_client("models", "--url", url, "--json", REPO_CLIENT_ADMIN_KEY=KEY),
    ):
        assert "lenet" in asked.stdout, asked.stderr
    wrong = repo_client("models", "--url", url, REPO_CLIENT_ADMIN_KEY="wrong")
    assert (wrong.returncode, "another administrator's key" in wrong.stderr) == (NotAllowed.exit_code, True)
    missing = repo_client("models", "--url", url, "--admin-key-file", str(tmp_path / "none"))
    assert "No such file" in missing.stderr
    file.write_text("\n")
    assert "one line of printable ASCII" in repo_client("models", "--admin-key-file", str(file)).stderr


# --- what is served ---


def test_repository_that_was_changed_is_not_served(tiny: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(tiny, changed)
    (step,) = changed.glob("preprocess_*/1/model.py")
    with step.open("a") as code:
        code.write("# changed\n")
    with pytest.raises(RepositoryError, match=f"{step.relative_to(changed)} differs from what was recorded"):
        LAUNCHERS["embedded"].launch(changed, options())
    server = LAUNCHERS["embedded"].launch(changed, options(verify_integrity=False))
    server.stop()


# --- TLS ---


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def write(folder: Path, name: str, certificate: trustme.LeafCert) -> tuple[Path, Path]:
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))
    return chain, key


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of the server, of a client, and of one whose authority the server does not know."""
    folder = tmp_path_factory.mktemp("certificates")
    stranger = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    stranger.cert_pem.write_to_path(str(folder / "stranger.pem"))
    write(folder, "server", authority.issue_cert("localhost", "127.0.0.1"))
    write(folder, "client", authority.issue_cert("client@example.org"))
    write(folder, "other", stranger.issue_cert("client@example.org"))
    return folder


def server_tls(files: Path, mutual: bool = False) -> ServerTls:
    return ServerTls(files / "server.pem", files / "server.key", files / "authority.pem" if mutual else None)


@pytest.fixture(scope="module")
def encrypted(tiny: Path, files: Path) -> Iterator[Endpoints]:
    server = LAUNCHERS["embedded"].launch(tiny, options(tls=server_tls(files)))
    yield server.endpoints
    server.stop()


@pytest.fixture(scope="module")
def mutual(tiny: Path, files: Path) -> Iterator[Endpoints]:
    server = LAUNCHERS["embedded"].launch(tiny, options(tls=server_tls(files, mutual=True), admin_key=KEY))
    yield server.endpoints
    server.stop()


def classify(url: str, **connection: Any) -> str:
    with Client(url, retries=0, timeout=10, **connection) as client:
        return client.classify(PHOTO, "lenet")[0].label


def test_tls_of_an_authority_that_is_known(encrypted: Endpoints, files: Path) -> None:
    assert encrypted.grpc.startswith("grpcs://")
    assert classify(encrypted.grpc, tls=Tls(files / "authority.pem"))
    for tls in (Tls(files / "stranger.pem"), Tls()):
        with pytest.raises(ServerUnavailable, match="does a server speak TLS there"):
            classify(encrypted.grpc, tls=tls)


def test_plain_text_is_refused_by_tls(encrypted: Endpoints) -> None:
    with pytest.raises(ServerUnavailable):
        classify(encrypted.grpc.removeprefix("grpcs://"))


@pytest.mark.parametrize("certificate", [None, "other"])
def test_mutual_tls_refuses_clients_without_its_certificate(
    certificate: str | None, mutual: Endpoints, files: Path
) -> None:
    own = (files / f"{certificate}.pem", files / f"{certificate}.key") if certificate else (None, None)
    with pytest.raises(ServerUnavailable):
        classify(mutual.grpc, tls=Tls(files / "authority.pem", *own))


def test_mutual_tls_and_the_key(mutual: Endpoints, files: Path) -> None:
    tls = Tls(files / "authority.pem", files / "client.pem", files / "client.key")
    assert classify(mutual.grpc, tls=tls)
    with Client(mutual.grpc, tls=tls, admin_key=KEY) as administrator:
        assert administrator.models()
    with Client(mutual.grpc, tls=tls, admin_key="wrong") as client, pytest.raises(NotAllowed):
        client.models()


@pytest.mark.parametrize("attempt", ["", "guess"])
def test_without_a_key_of_the_users_the_doors_are_closed_to_all(
    attempt: str, encrypted: Endpoints, files: Path
) -> None:
    credentials = grpc.ssl_channel_credentials((files / "authority.pem").read_bytes())
    with grpc.secure_channel(encrypted.grpc.removeprefix("grpcs://"), credentials) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="restricted"):
            stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), metadata=((access.GRPC_HEADER, attempt),))


def test_http_beside_tls_stays_on_loopback() -> None:
    tls = ServerTls(Path("certificate"), Path("key"))
    assert access.addresses(LaunchOptions("0.0.0.0", tls=tls)) == access.Addresses("127.0.0.1", "0.0.0.0", "127.0.0.1")
    watched = access.addresses(LaunchOptions("0.0.0.0", tls=tls, metrics_host="10.0.0.7"))
    assert watched == access.Addresses("127.0.0.1", "0.0.0.0", "10.0.0.7")
    assert access.addresses(LaunchOptions("::")) == access.Addresses("::", "::", "::")


def encrypt(key: Path, target: Path) -> None:
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    target.write_bytes(private.private_bytes(*kinds, serialization.BestAvailableEncryption(b"password")))


def test_useless_certificates_are_refused_before_the_start(
    authority: trustme.CA, files: Path, tiny: Path, tmp_path: Path
) -> None:
    past, future = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)
    old = write(tmp_path, "old", authority.issue_cert("localhost", not_after=past))
    early = write(tmp_path, "early", authority.issue_cert("localhost", not_before=future, not_after=future))
    certificate, key, ca = files / "server.pem", files / "server.key", files / "authority.pem"
    junk, locked = tmp_path / "junk", tmp_path / "locked.key"
    junk.write_text("no PEM")
    encrypt(key, locked)
    for tls, message in (
        (ServerTls(*old), "old.pem would be refused by clients: certificate has expired"),
        (ServerTls(*early), "early.pem would be refused by clients: certificate is not yet valid"),
        (ServerTls(certificate, files / "client.key"), "client.key is not the key of .*server.pem"),
        (ServerTls(tmp_path / "none", key), "none cannot be read: No such file"),
        (ServerTls(certificate, tmp_path), "cannot be read: Is a directory"),
        (ServerTls(junk, key), "are not a PEM certificate and its key"),
        (ServerTls(certificate, locked), "locked.key is encrypted"),
        (ServerTls(certificate, key, junk), "junk holds no PEM certificates"),
        (ServerTls(certificate, key, certificate), "holds no certificate of an authority"),
        (ServerTls(certificate, key, ca), None),
    ):
        if message:
            with pytest.raises(LaunchError, match=message):
                LAUNCHERS["embedded"].launch(tiny, options(tls=tls))


# --- the command, and what it shows ---


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.1.2.3", False),
        ("8.8.8.8", False),
        ("no such name", False),
    ],
)
def test_beyond_loopback_is_restricted(host: str, is_loopback: bool) -> None:
    assert access.is_loopback(host) == is_loopback
    assert access.is_restricted(LaunchOptions(host)) == (not is_loopback)
    assert access.is_restricted(LaunchOptions(host, admin_key=KEY))
    assert not access.is_restricted(LaunchOptions(host, restrict=False))
    assert access.is_restricted(LaunchOptions(http_host=host)) == (not is_loopback and bool(host))
    made = [access.key_of(LaunchOptions(host)) for _ in range(2)]
    assert None not in made
    assert made[0] != made[1]
    assert access.closed(LaunchOptions(host)) == (access.MODEL_CONTROL if is_loopback else access.RESTRICTED)
    assert access.closed(LaunchOptions(host, admin_key=KEY)) == access.RESTRICTED
    assert access.key_of(LaunchOptions(host, restrict=False)) is None


LOADS = {"index", "load", "unload"}


@pytest.fixture(scope="module")
def plain(tiny: Path) -> Iterator[Endpoints]:
    """On loopback, with a key that nobody gave."""
    server = LAUNCHERS["embedded"].launch(tiny, LaunchOptions(http_port=0, grpc_port=0, metrics_port=0))
    assert not server.is_restricted
    yield server.endpoints
    server.stop()


def test_who_may_load_models_runs_code_and_is_no_stranger_on_loopback_either(plain: Endpoints, protocol: str) -> None:
    """All else is open there. The key is for this user's own commands, by either address."""
    library: Any = {"grpc": triton_grpc, "http": triton_http}[protocol]
    key = keys.of(plain.http)
    assert key
    assert key == keys.of(plain.grpc) == keys.of(f"http://localhost:{plain.http.rpartition(':')[2]}")
    assert keys.of("127.0.0.1:1") is None
    with library.InferenceServerClient(getattr(plain, protocol)) as opened:
        for door, call in CLOSED.items():
            said = refusal_of(call, opened, {})
            assert bool(REFUSAL.search(said)) == (door in LOADS), door
            assert not REFUSAL.search(refusal_of(call, opened, {HEADERS[protocol]: key})), door


def refusal_of(call: Call, opened: Any, headers: dict[str, str]) -> str:
    try:
        call(opened, headers)
    except InferenceServerException as error:
        return str(error.message())
    return ""


def test_nothing_is_closed_where_the_user_says_so(tiny: Path) -> None:
    server = LAUNCHERS["embedded"].launch(tiny, options(restrict=False))
    try:
        assert keys.of(server.endpoints.grpc) is None
        with triton_grpc.InferenceServerClient(server.endpoints.grpc) as opened:
            assert all(not REFUSAL.search(refusal_of(call, opened, {})) for call in CLOSED.values())
    finally:
        server.stop()


LEFT = """
import sys, time
from builder.launchers import keys
from builder.types import Endpoints
with keys.left(Endpoints("grpcs://[::1]:7001", "127.0.0.1:7000", ""), "the key"):
    print("left", flush=True)
    time.sleep(60)
"""


def test_a_key_goes_with_its_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However that ends; what a killed one left is nobody's, and is swept away. Others can read none of it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "build-repo" / "keys"
    with started([sys.executable, "-c", LEFT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "left\n"
        assert keys.of("localhost:7001") == keys.of("http://127.0.0.1:7000/") == "the key"
        (file,) = folder.iterdir()
        assert (file.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
        process.kill()
        process.wait(60)
        assert keys.of("127.0.0.1:7000") is None
        with keys.left(Endpoints("127.0.0.1:1", "127.0.0.1:2", ""), "another"):
            assert keys.of("127.0.0.1:1") == "another"
            assert not file.exists()
    assert list(folder.iterdir()) == []
    folder.chmod(0o777)  # anybody may have put something there
    with keys.left(Endpoints("127.0.0.1:1", "127.0.0.1:2", ""), "another"):
        assert keys.of("127.0.0.1:1") is None


def test_where_nothing_can_be_written_no_key_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that may write nothing."""
    (tmp_path / "file").touch()
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with keys.left(Endpoints("127.0.0.1:1", "127.0.0.1:2", ""), "the key"):
        assert keys.of("127.0.0.1:1") is None


def test_keys_that_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with pytest.raises(LaunchError, match="No such file"):
        access.read_key(file)
    file.touch(0o600)
    for text, message in (
        ("\n", "is empty; make one"),
        ("short", "of 5 characters can be guessed"),
        ("with spaces, of which some", "printable ASCII without spaces"),
        ("of several\nlines, as is seen", "one line"),
        ("schlüssel-von-guter-länge", "printable ASCII"),
    ):
        file.write_text(text)
        with pytest.raises(LaunchError, match=message) as caught:
            access.read_key(file)
        assert text.strip() not in str(caught.value).replace(str(file), "") or not text.strip()
    file.write_text(f"{KEY}\r\n")
    assert access.read_key(file) == KEY
    for mode in (0o604, 0o602, 0o644):
        file.chmod(mode)
        with pytest.raises(LaunchError, match=f"run: chmod 600 {file}"):
            access.read_key(file)
    assert access.read_key(None, {}) is None
    assert access.read_key(None, {access.ENVIRONMENT: KEY}) == KEY


@contextmanager
def build_repo(*arguments: str, code: str = "", **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`build-repo serve`; the code runs before it, in its process."""
    run = f"{code}\nimport sys\nfrom builder.cli import main\nsys.argv[0] = 'build-repo'\nmain()"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", run, "serve", *arguments]
    with started(command, text=True, env=os.environ | environment, **pipes) as process:
        yield process


FREE_PORTS = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")


class Watch:
    """Looks at every process's command line, over and over, until it is told to stop."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _look(self) -> None:
        while not self._stop.is_set():
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(process.read_bytes())
                except OSError:
                    continue


def descendants(pid: int) -> list[int]:
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [below for child in found for below in descendants(child)]


def test_the_key_is_seen_nowhere(tiny: Path) -> None:
    loud = ("-r", str(tiny), "--json", "--verbose", *FREE_PORTS)
    with Watch() as watch, build_repo(*loud, BUILD_REPO_ADMIN_KEY=KEY) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        below = descendants(process.pid)
        environments = [Path(f"/proc/{pid}/environ").read_text() for pid in below]
        with Client(ready["grpc"], admin_key=KEY) as client:
            assert client.models()
        process.terminate()
        said = "".join(process.communicate(timeout=90))
    assert ready["restricted"]
    assert len(below) >= 4  # the guard, the server, and two stubs
    assert [text for text in watch.seen if b"--grpc-restricted-protocol=hidden" in text]
    assert not [text for text in watch.seen if KEY.encode() in text]
    assert not [text for text in environments if KEY in text]
    assert "started" in said.lower()
    assert KEY not in said


def test_where_the_key_cannot_be_hidden_nothing_is_served(tiny: Path) -> None:
    closed = {"code": forbidding_ptrace(), "BUILD_REPO_ADMIN_KEY": KEY}
    with Watch() as watch, build_repo("-r", str(tiny), *FREE_PORTS, **closed) as process:
        _, said = process.communicate(timeout=90)
    assert process.returncode == LaunchError.exit_code
    assert "ptrace(2) is forbidden" in said
    assert "--unrestricted" in said
    assert "Traceback" not in said
    assert not [text for text in watch.seen if KEY.encode() in text]


def refused(*arguments: str) -> str:
    with build_repo(*arguments) as process:
        _, said = process.communicate(timeout=90)
    assert process.returncode == LaunchError.exit_code, said
    assert "Traceback" not in said
    return said


def test_the_command_says_who_is_let_in(tmp_path: Path, files: Path) -> None:
    """A repository that does not exist, so that nothing listens."""
    none = ("-r", str(tmp_path / "none"), "--host", "0.0.0.0")
    assert "closed to everybody; --admin-key-file FILE lets" in refused(*none)
    assert "unrestricted: whoever reaches 0.0.0.0" in refused(*none, "--unrestricted")
    assert "closed" not in refused("-r", str(tmp_path / "none"))
    assert "both --tls-cert and --tls-key" in refused(*none, "--tls-cert", str(files / "server.pem"))
    assert "both --tls-cert and --tls-key" in refused(*none, "--tls-client-ca", str(files / "authority.pem"))
    key = tmp_path / "key"
    key.write_text(KEY)
    key.chmod(0o644)
    said = refused(*none, "--admin-key-file", str(key))
    assert f"chmod 600 {key}" in said
    assert KEY not in said
    key.chmod(0o600)
    assert "closed to everybody" not in refused(*none, "--admin-key-file", str(key))
    assert "give one of the two" in refused(*none, "--admin-key-file", str(key), "--unrestricted")
