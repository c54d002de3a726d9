"""What examples/nginx holds, in a real nginx before the real server and the real gateway."""

import http.client
import os
import pwd
import re
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import trustme
from conftest import ANY_PORTS, build
from gateways import gateway
from processes import started
from test_security import CLOSED, OPEN
from tools import program
from tritonclient.utils import InferenceServerException
from waiting import until

from builder.data.images import SAMPLES
from builder.launchers import LAUNCHERS, access, keys
from builder.types import Endpoints
from client import Client, ClientError, InvalidInput, NotAllowed, ServerUnavailable, Tls

pytestmark = pytest.mark.nginx

FILES = Path(__file__).parent.parent / "examples" / "nginx"
PHOTO = SAMPLES / "coffee.jpg"
ADMIN_PATHS = [
    "/v2/repository/index",
    "/v2/repository/models/lenet/load",
    "/v2/repository/models/lenet/unload",
    "/v2/systemsharedmemory/status",
    "/v2/systemsharedmemory/region/x/status",
    "/v2/systemsharedmemory/region/x/register",
    "/v2/systemsharedmemory/unregister",
    "/v2/systemsharedmemory/region/x/unregister",
    "/v2/cudasharedmemory/status",
    "/v2/cudasharedmemory/region/x/register",
    "/v2/cudasharedmemory/unregister",
    "/v2/logging",
    "/v2/trace/setting",
    "/v2/models/lenet/trace/setting",
]
# The same by other spellings, and what is not Triton's at all.
SPELLINGS = [
    "//v2/repository/index",
    "/v2//repository/index",
    "/v2/repository/index/",
    "/v2/repository/index?x=/v2/health/live",
    "/v2/repository%2Findex",
    "/v2/%72epository/index",
    "/v2/models/../repository/index",
    "/v2/models/x/..%2f..%2frepository/index",
    "/v2/health/live/../../repository/index",
    "/v2/models/lenet/infer/../trace/setting",
    "/v2/models/lenet%0a/infer",
    "/metrics",
    "/",
]


@dataclass
class Nginx:
    port: int
    plain_port: int
    authority: Path

    @property
    def https(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def grpcs(self) -> str:
        return f"grpcs://127.0.0.1:{self.port}"

    @property
    def tls(self) -> Tls:
        return Tls(self.authority)

    def status(self, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, str]:
        """Of exactly this path, which other libraries would tidy up."""
        context = ssl.create_default_context(cafile=self.authority)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=30)
        connection.request(method, path, body)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """Unrestricted, so that what is closed is closed by nginx."""
    folder = tmp_path_factory.mktemp("tiny")
    build(folder, "models:\n  lenet: {weights: random, format: onnx}\n")
    server = LAUNCHERS["embedded"].launch(folder / "repository", ANY_PORTS)
    yield server.endpoints
    server.stop()


@pytest.fixture(scope="module")
def triton(served: Endpoints) -> Iterator[Nginx]:
    with nginx("triton.conf", behind(served)) as running:
        yield running


def behind(served: Endpoints) -> dict[str, str]:
    return {"127.0.0.1:8000": served.http, "127.0.0.1:8001": served.grpc}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@contextmanager
def nginx(file: str, changes: dict[str, str], clients: trustme.CA | None = None) -> Iterator[Nginx]:
    """The example with other ports, run by a user who may do nothing else."""
    found = program("nginx", "apt-get install nginx-light", "nginx")
    port, plain_port = free_port(), free_port()
    text = (FILES / file).read_text(encoding="utf-8")
    changes = changes | {"127.0.0.1:8443": f"127.0.0.1:{port}", "$host:8443": f"$host:{port}"}
    if file == "gateway.conf":
        changes["127.0.0.1:8081"] = f"127.0.0.1:{plain_port}"
    else:
        changes.pop("$host:8443")
    if clients:
        changes |= {"#ssl_client_certificate": "ssl_client_certificate", "#ssl_verify_client": "ssl_verify_client"}
    for before, after in changes.items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nginx-")))
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        (folder / file).write_text(text, encoding="utf-8")
        (folder / "certificate.pem").write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
        certificate.private_key_pem.write_to_path(str(folder / "certificate.key"))
        authority.cert_pem.write_to_path(str(folder / "authority.pem"))
        if clients:
            clients.cert_pem.write_to_path(str(folder / "clients.pem"))
        stack.enter_context(running(found, folder, folder / file, port))
        yield Nginx(port, plain_port, folder / "authority.pem")


@contextmanager
def running(nginx: str, folder: Path, file: Path, port: int) -> Iterator[None]:
    user: dict[str, Any] = {}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": ()}
        for path in (folder, *folder.iterdir()):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    command = [nginx, "-e", "stderr", "-p", folder, "-c", file, "-g", "daemon off;"]
    with started(command, stderr=subprocess.PIPE, text=True, **user) as process:
        assert process.stderr is not None
        until(lambda: process.poll() is not None or accepts(port))
        assert process.poll() is None, process.stderr.read()
        yield
        process.terminate()
        said = process.communicate(timeout=30)[1]
    assert not re.search(r"\[(emerg|alert|crit)\]|deprecated", said), said


def accepts(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


# --- Triton ---


@pytest.mark.parametrize("protocol", ["https", "grpcs"])
def test_images_are_classified_through_it(protocol: str, triton: Nginx, served: Endpoints) -> None:
    with Client(getattr(triton, protocol), tls=triton.tls) as client, Client(served.grpc) as direct:
        assert client.ready()
        assert client.ready("lenet")
        assert client.classify(PHOTO)[0] == direct.classify(PHOTO)[0]
        assert client.models() == direct.models()
        assert client.statistics("lenet")
        outcomes = list(client.classify_many([PHOTO] * 40, "lenet", concurrency=8, batch_size=2))
        assert not [outcome.error for outcome in outcomes if outcome.error]


@pytest.mark.parametrize("path", ADMIN_PATHS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_admin_path_is_refused(path: str, method: str, triton: Nginx, served: Endpoints) -> None:
    status, text = triton.status(path, method, b"{}" if method == "POST" else None)
    assert status == 403
    assert "This API is restricted" in text
    # Of a model that is not there: the server, which would do it, is to go on serving.
    own = httpx.request(
        method,
        f"http://{served.http}{path}".replace("lenet", "nobody"),
        content=b"{}" if method == "POST" else None,
        headers=access.http_headers(keys.of(served.http)),
    )
    assert own.status_code != 403


@pytest.mark.parametrize("path", SPELLINGS)
def test_no_spelling_opens_it(path: str, triton: Nginx) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        assert triton.status(path, method, b"{}")[0] in (400, 403)


def test_other_methods_are_refused(triton: Nginx) -> None:
    assert triton.status("/v2/health/live")[0] == 200
    assert triton.status("/v2/health/live", "DELETE")[0] == 403


@pytest.fixture
def grpc_connection(triton: Nginx) -> Iterator[Any]:
    with triton_grpc.InferenceServerClient(
        f"127.0.0.1:{triton.port}", ssl=True, root_certificates=str(triton.authority)
    ) as connection:
        yield connection


@pytest.mark.parametrize("door", CLOSED)
def test_admin_method_is_refused(door: str, grpc_connection: Any) -> None:
    with pytest.raises(InferenceServerException, match="This protocol is restricted") as caught:
        CLOSED[door](grpc_connection, {})
    assert "PERMISSION_DENIED" in str(caught.value.status())


@pytest.mark.parametrize("door", OPEN)
def test_open_method(door: str, grpc_connection: Any) -> None:
    assert OPEN[door](grpc_connection, {})


def test_shared_memory_is_done_without(triton: Nginx) -> None:
    noise = np.random.default_rng(0).bytes(700_000)
    for url in (triton.https, triton.grpcs):
        with Client(url, tls=triton.tls, shared_memory=True) as client, pytest.raises(NotAllowed, match="restricted"):
            client.classify(noise, "lenet")
        with Client(url, tls=triton.tls) as client, pytest.raises(InvalidInput, match="not an image"):
            client.classify(noise, "lenet")


def test_unknown_authority_is_refused(triton: Nginx) -> None:
    with Client(triton.https, retries=0) as client, pytest.raises(ServerUnavailable, match="certificate"):
        client.models()
    with Client(triton.grpcs, retries=0, timeout=10) as client, pytest.raises(ServerUnavailable):
        client.models()


def test_plain_text_and_old_tls_are_refused(triton: Nginx) -> None:
    answer = httpx.get(f"http://127.0.0.1:{triton.port}/v2/health/live")
    assert answer.status_code == 400
    context = ssl.create_default_context(cafile=triton.authority)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", triton.port)) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_oversized_bodies_are_refused(triton: Nginx) -> None:
    large = b"x" * (33 << 20)
    status, text = triton.status("/v2/models/lenet/infer", "POST", large)
    assert status == 413
    assert "more than 32 MiB" in text
    with Client(triton.grpcs, tls=triton.tls) as client:
        with pytest.raises(ClientError, match="at most 33554432"):  # which it knows before it sends it
            client.classify(large, "lenet")
        with pytest.raises(InvalidInput, match="not an image"):
            client.classify(b"x" * (19 << 20), "lenet")  # the recipe's own limit is 20 MB


# CVE-2025-23310 and 23311: each chunk of a byte takes 16 on the stack of an older Triton. These take 5 MB of it.
CHUNK, CHUNKS = b"1\r\nA\r\n", 320_000
assert len(CHUNK) * CHUNKS < 2_000_000


def send_chunks(port: int, authority: Path, path: str, count: int = CHUNKS, headers: str = "") -> str:
    """The answer to a body of `count` bytes, each a chunk of its own."""
    context = ssl.create_default_context(cafile=authority)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n{headers}Connection: close\r\n\r\n"
    )
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(head.encode() + CHUNK * count + b"0\r\n\r\n")
        with connection.makefile("rb") as answer:
            return answer.read().decode()


@contextmanager
def recorder() -> Iterator[tuple[str, list[bytes]]]:
    """An upstream's address, and the heads of the requests that it got; it reads what it is told of."""
    heads: list[bytes] = []

    def answer(listening: socket.socket) -> None:
        with listening.accept()[0] as connection, connection.makefile("rb") as request:
            heads.append(b"".join(iter(request.readline, b"\r\n")))
            if length := re.search(rb"(?i)content-length: *(\d+)", heads[-1]):
                request.read(int(length[1]))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        thread = threading.Thread(target=answer, args=(listening,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}", heads
        thread.join(60)


@pytest.mark.parametrize(
    ("file", "upstream", "path"),
    [("triton.conf", 8000, "/v2/models/lenet/infer"), ("gateway.conf", 8080, "/classify")],
)
def test_chunks_come_out_as_one_body_of_known_length(file: str, upstream: int, path: str) -> None:
    with recorder() as (address, heads), nginx(file, {f"127.0.0.1:{upstream}": address}) as running:
        said = send_chunks(running.port, running.authority, path)
        assert said.startswith("HTTP/1.1 200 OK")
    (head,) = heads
    assert f"content-length: {CHUNKS}\r\n".encode() in head.lower()
    assert b"transfer-encoding" not in head.lower()


def test_chunks_do_not_end_the_server(triton: Nginx, served: Endpoints) -> None:
    for path in ("/v2/models/lenet/infer", "/v2/models/lenet/generate"):
        answer = send_chunks(triton.port, triton.authority, path)
        assert "failed to parse the request JSON buffer" in answer  # Triton's own words: it had the body
    assert " 403 " in send_chunks(triton.port, triton.authority, "/v2/repository/index", 1000)
    with Client(triton.https, tls=triton.tls) as client, Client(served.grpc, retries=0) as direct:
        assert client.classify(PHOTO)[0] == direct.classify(PHOTO)[0]


def test_compressed_bodies_are_refused(triton: Nginx) -> None:
    context = ssl.create_default_context(cafile=triton.authority)
    for coding, status in (("gzip", 415), ("deflate, gzip", 415), ("identity", 500), ("", 500)):
        headers = {"content-encoding": coding} if coding else {}
        answer = httpx.post(f"{triton.https}/v2/models/lenet/infer", content=b"{", headers=headers, verify=context)
        assert answer.status_code == status, coding
        told = "compressed requests are not served" if status == 415 else "failed to parse the request JSON"
        assert told in answer.json()["error"]


def test_headers(triton: Nginx) -> None:
    for path in ("/v2/health/live", "/v2/repository/index"):
        headers = httpx.get(triton.https + path, verify=ssl.create_default_context(cafile=triton.authority)).headers
        assert headers["server"] == "nginx"
        assert headers["strict-transport-security"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_server_that_is_away() -> None:
    nowhere = {f"127.0.0.1:{port}": f"127.0.0.1:{free_port()}" for port in (8000, 8001)}
    with nginx("triton.conf", nowhere) as running:
        for url in (running.https, running.grpcs):
            with Client(url, tls=running.tls, retries=0, timeout=10) as client, pytest.raises(ServerUnavailable):
                client.models()


def test_client_certificates(served: Endpoints, tmp_path: Path) -> None:
    clients, certificate, key = trustme.CA(), tmp_path / "client.pem", tmp_path / "client.key"
    own = clients.issue_cert("client@example.org")
    own.cert_chain_pems[0].write_to_path(str(certificate))
    own.private_key_pem.write_to_path(str(key))
    with nginx("triton.conf", behind(served), clients) as running:
        for url in (running.https, running.grpcs):
            with Client(url, tls=Tls(running.authority, certificate, key)) as client:
                assert client.models()
        assert running.status("/v2/health/live")[0] == 400
        with Client(running.grpcs, tls=running.tls, retries=0) as client, pytest.raises(ClientError, match="400"):
            client.models()


# --- the gateway ---


@pytest.fixture(scope="module")
def before_gateway(served: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    key = tmp_path_factory.mktemp("gateway") / "key"
    key.write_text("secret")
    with (
        gateway(served.grpc, "--api-key-file", str(key)) as url,
        nginx("gateway.conf", {"127.0.0.1:8080": url.removeprefix("http://")}) as running,
    ):
        yield running


@pytest.fixture
def web(before_gateway: Nginx) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=before_gateway.authority)
    with httpx.Client(base_url=before_gateway.https, verify=context, timeout=60) as client:
        yield client


def test_gateway_through_it(web: httpx.Client) -> None:
    photo, kind = PHOTO.read_bytes(), {"content-type": "image/jpeg"}
    assert web.post("/classify", content=photo, headers=kind).status_code == 401
    answer = web.post("/classify", content=photo, headers=kind | {"x-api-key": "secret"})
    assert len(answer.json()["predictions"]) == 5
    assert web.get("/").status_code == web.get("/readyz").status_code == 200


def test_gateway_headers_come_once(web: httpx.Client) -> None:
    headers = web.get("/").headers
    assert headers["server"] == "nginx"
    for name in ("strict-transport-security", "content-security-policy", "x-content-type-options"):
        assert len(headers.get_list(name)) == 1, name


def test_gateway_metrics_are_not_for_everybody(web: httpx.Client) -> None:
    assert web.get("/metrics").status_code == 403


def test_gateway_limits(web: httpx.Client) -> None:
    headers = {"content-type": "image/jpeg", "x-api-key": "secret"}
    for mebibytes, status in ((21, 413), (19, 400)):
        answer = web.post("/classify", content=b"x" * (mebibytes << 20), headers=headers)
        assert answer.status_code == status
        assert ("20 MiB" if status == 413 else "not an image") in answer.json()["error"]["message"]
    unknown = web.post("/classify", content=b"x" * (19 << 20), headers=headers | {"x-api-key": "wrong"})
    assert unknown.status_code == 401


def test_gateway_plain_http_is_redirected(before_gateway: Nginx) -> None:
    answer = httpx.get(f"http://127.0.0.1:{before_gateway.plain_port}/docs?x=1")
    assert answer.status_code == 308
    assert answer.headers["location"] == f"https://127.0.0.1:{before_gateway.port}/docs?x=1"
