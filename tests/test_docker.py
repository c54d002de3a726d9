"""Real containers with the real server in them: both kinds of image, the launcher, and what it leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import rebuilding
import standin
import test_text
import trustme
from conftest import ANY_PORTS, build
from docker.errors import ImageNotFound, NotFound
from engines import OWN, engine
from load import BATCH, in_flight, over_grpc
from processes import started
from published import publish_model
from test_watch import asking, now
from tools import program
from waiting import until

from builder.containers import building, make
from builder.containers.building import BuiltImage
from builder.data.images import SAMPLES
from builder.errors import EngineError, ImageError, LaunchError, ModelLoadError, RepositoryError
from builder.launchers import LAUNCHERS, access, workers
from builder.launchers.docker_settings import ContainerOptions, default_name
from builder.launchers.options import LaunchOptions, ServerTls
from builder.repository.served import read_repository
from builder.triton import releases
from client import Client, ClientError, Tls

pytestmark = pytest.mark.docker

PHOTO = SAMPLES / "chelsea.jpg"
MEGABYTE = 1_000_000
ENTRY = """
  {name}:
    network: small.py:small
    weights: random
    format: {name}
    labels: [cat, dog, "other: thing"]
    preprocess: {{channels: 3, resize: 40, crop: 32, mean: [0.5, 0.4, 0.3], std: [0.2, 0.25, 0.3]}}
"""


@pytest.fixture(scope="module")
def docker() -> Iterator[Any]:
    client = engine()
    yield client
    client.close()


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that both kinds of image can serve. Its path has a space and a comma on purpose."""
    folder = tmp_path_factory.mktemp("with a space, and a comma")
    build(folder, "models:" + ENTRY.format(name="onnx"))
    return folder / "repository"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a repository of one version, and with the same one `later`, when it has two."""
    folder = tmp_path_factory.mktemp("two")
    build(folder, "models:\n" + rebuilding.entry())
    shutil.copytree(folder / "repository", folder / "later")
    build(folder, "models:\n" + rebuilding.entry(seed="1"), folder / "later")
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both")
    build(folder, "models:" + "".join(ENTRY.format(name=name) for name in ("onnx", "openvino")))
    return folder / "repository"


def built(repository: Path, kind: str, base: str, bake: bool) -> BuiltImage:
    order = make.order(read_repository(repository), kind, base, bake)
    return make.build(order, f"build-repo-test/{kind}:{'baked' if bake else 'mounted'}")


@pytest.fixture(scope="module")
def slim(docker: Any, both: Path) -> BuiltImage:
    """With every runtime that a slim image can have, and the repository in it."""
    return built(both, "slim", standin.python_base(docker), bake=True)


@pytest.fixture(scope="module")
def nvidia(docker: Any) -> str:
    """What is chosen of NVIDIA's images, as far as a stand-in goes."""
    return standin.nvidia_image(docker)


def options(image: str | None = None, **changes: Any) -> tuple[LaunchOptions, ContainerOptions]:
    """What every server is told, and what a container takes beside it."""
    return replace(ANY_PORTS, **changes), ContainerOptions(image=image, name=f"{OWN}-{time.monotonic_ns()}")


@pytest.fixture(params=["slim", "nvidia"], scope="module")
def image(request: pytest.FixtureRequest) -> str | None:
    """An image of each kind; NVIDIA's is left to be chosen."""
    if request.param == "slim":
        return str(request.getfixturevalue("slim").reference)
    request.getfixturevalue("nvidia")
    return None


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(releases.REGISTRY_VARIABLE, standin.REGISTRY)


def containers(docker: Any) -> list[str]:
    return [
        one.name for one in docker.containers.list(all=True, ignore_removed=True) if one.name.startswith("build-repo-")
    ]


def test_a_slim_image_is_slim_and_tells_where_it_is_from(docker: Any, slim: BuiltImage) -> None:
    found = docker.images.get(slim.reference)
    base = docker.images.get(standin.python_base(docker)).attrs["Size"]
    assert slim.bytes - base <= 475 * MEGABYTE  # below 600 in all on Debian's own: the tests' base has HAProxy, too
    assert found.attrs["Config"]["User"] == "1000:1000"
    told = json.loads(found.labels["build-repo.models"])
    assert [model["name"] for model in told] == ["onnx", "openvino"]
    assert all(len(model["artifact_sha256"]) == 64 for model in told)
    assert "pillow==" in found.labels["build-repo.requirements"]
    assert found.labels["org.opencontainers.image.base.digest"]


def test_a_baked_image_serves_without_this_machine(docker: Any, slim: BuiltImage, both: Path) -> None:
    """By the engine alone, with nothing of this tool around it."""
    running = docker.containers.run(
        slim.reference,
        detach=True,
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        tmpfs={"/tmp": "rw,nosuid,nodev,exec,size=256m"},
        shm_size=2**30,
        ports={"8001/tcp": ("127.0.0.1", None)},
        name=f"{OWN}-baked",
    )
    try:
        wait_for(lambda: health(running) == "healthy", running)
        port = running.attrs["NetworkSettings"]["Ports"]["8001/tcp"][0]["HostPort"]
        with Client(f"127.0.0.1:{port}") as client:
            for model, expected in embedded_probabilities(both).items():
                np.testing.assert_allclose(client.probabilities([PHOTO], model), expected, atol=1e-6)
        said = running.exec_run(["python3", "-c", "open('/opt/x', 'w')"], user="0")
        assert b"Read-only file system" in said.output
    finally:
        running.stop(timeout=40)
        status = running.wait(timeout=60)["StatusCode"]
        running.remove(force=True)
    assert status == 0


def embedded_probabilities(repository: Path) -> dict[str, Any]:
    """What the embedded server gives for the photo, by model."""
    server = LAUNCHERS["embedded"].launch(repository, ANY_PORTS)
    try:
        with Client(server.endpoints.grpc) as client:
            return {model.name: client.probabilities([PHOTO], model.name) for model in read_repository(repository)}
    finally:
        server.stop()


def health(container: Any) -> str:
    container.reload()
    return str(container.attrs["State"]["Health"]["Status"])


def wait_for(condition: Callable[[], object], container: Any = None, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        log = container.logs().decode() if container else ""
        assert time.monotonic() < deadline, f"it did not come about within {seconds} s\n{log}"
        time.sleep(0.2)


def test_the_launcher_serves(docker: Any, image: str | None, onnx: Path) -> None:
    told: list[str] = []
    server = LAUNCHERS["docker"].launch(onnx, *options(image, report=told.append))
    try:
        with Client(server.endpoints.grpc) as client, Client(f"http://{server.endpoints.http}") as by_http:
            assert len(client.classify(PHOTO, "onnx")) == 3
            np.testing.assert_array_equal(client.probabilities([PHOTO], "onnx"), by_http.probabilities([PHOTO], "onnx"))
        with urllib.request.urlopen(server.endpoints.metrics, timeout=5) as metrics:
            assert b"nv_inference_request_success" in metrics.read()
        assert bool(told) == (image is None)  # why it was chosen
        assert server.is_restricted
        check_isolation(docker.containers.get(server.name), onnx)
    finally:
        server.stop()
    assert server.name not in containers(docker)


def check_isolation(container: Any, repository: Path) -> None:
    host, config = container.attrs["HostConfig"], container.attrs["Config"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert not host["Privileged"]
    assert config["User"].split(":")[0] != "0"
    assert {bound["HostIp"] for ports in host["PortBindings"].values() for bound in ports} == {"127.0.0.1"}
    assert [(mount["Destination"], mount["RW"]) for mount in container.attrs["Mounts"]] == [("/models", False)]
    assert host["ShmSize"] >= 2**30
    assert {limit["Name"] for limit in host["Ulimits"]} == {"stack"}
    assert config["Healthcheck"]["Test"][0] == "CMD"
    said = container.exec_run(["sh", "-c", "touch /models/x; touch /opt/x; touch /tmp/x && echo temporary"])
    assert b"/models/x': Read-only file system" in said.output
    assert b"/opt/x': Read-only file system" in said.output
    assert said.exit_code == 0  # of the last command; what they print may be told in any order
    assert not (repository / "x").exists()


def test_the_chosen_image_is_told(nvidia: str, onnx: Path) -> None:
    told: list[str] = []
    LAUNCHERS["docker"].launch(onnx, *options(report=told.append)).stop()
    assert told[0].startswith(f"{nvidia}: ONNX Runtime")
    assert "for opset 18" in told[0]
    assert "with pillow==" in told[1]


@pytest.mark.usefixtures("nvidia")
def test_an_image_of_ones_own_gets_the_first_process(docker: Any, onnx: Path) -> None:
    """One with all that is needed, and not made by build-repo."""
    LAUNCHERS["docker"].launch(onnx, *options()).stop()  # which makes the image
    own = docker.containers.create(docker.images.get(derived()).id, name=f"{OWN}-own")
    changes = ["LABEL build-repo.kind=", 'ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh"]']
    own.commit("build-repo-test/own", "1", changes=changes)
    own.remove()
    server = LAUNCHERS["docker"].launch(onnx, *options("build-repo-test/own:1"))
    try:
        with Client(server.endpoints.grpc) as client:
            assert len(client.classify(PHOTO, "onnx")) == 3
        with pytest.raises(urllib.error.HTTPError, match="403"):
            index_of(server.endpoints.http, {})
    finally:
        server.stop()


def index_of(address: str, headers: dict[str, str]) -> bytes:
    request = urllib.request.Request(f"http://{address}/v2/repository/index", b"{}", headers)
    with urllib.request.urlopen(request, timeout=5) as response:
        return bytes(response.read())


def derived() -> str:
    return f"build-repo/tritonserver:{releases.newest().tag}_pillow-{PIL.__version__}"


def test_doors_of_a_container(docker: Any, image: str | None, onnx: Path, tmp_path: Path) -> None:
    """gRPC with TLS for clients of one authority; model control behind a key that shows nowhere."""
    authority, others = trustme.CA(), trustme.CA()
    certificate, own, foreign = (ca.issue_cert("localhost", "127.0.0.1") for ca in (authority, authority, others))
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name, issued in (("own", own), ("foreign", foreign)):
        issued.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        (tmp_path / f"{name}.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    key = "a-key-that-is-long-enough-to-be-one"
    tls = ServerTls(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")
    server = LAUNCHERS["docker"].launch(onnx, *options(image, tls=tls, admin_key=key))
    try:
        container = docker.containers.get(server.name)
        shown = json.dumps(container.attrs) + str(container.top()) + container.logs().decode()
        assert key not in shown

        def client(who: str | None) -> Client:
            shown = (tmp_path / f"{who}.pem", tmp_path / f"{who}.key") if who else (None, None)
            shows = Tls(tmp_path / "ca.pem", *shown)
            return Client(server.endpoints.grpc, tls=shows, timeout=5, retries=0)

        with client("own") as allowed:
            assert len(allowed.classify(PHOTO, "onnx")) == 3
        with pytest.raises(urllib.error.HTTPError, match="403"):
            index_of(server.endpoints.http, {})
        assert b"READY" in index_of(server.endpoints.http, access.http_headers(key))
        for stranger in (None, "foreign"):
            with client(stranger) as refused, pytest.raises(ClientError):
                refused.classify(PHOTO, "onnx")
    finally:
        server.stop()
    assert files_for_containers() == []


COMMAND = [sys.executable, "-m", "builder", "serve", "--launcher", "docker", "--json"]


@contextmanager
def launched(repository: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = [*COMMAND, "-r", str(repository), "--http-port=0", "--grpc-port=0", "--metrics-port=0", *arguments]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert line, process.communicate(timeout=60)[1]
        yield process, json.loads(line)


def test_requests_in_flight_are_answered_on_sigterm(docker: Any, image: str | None, onnx: Path) -> None:
    """By both first processes: `build-repo serve` in the slim image, entry.py in NVIDIA's."""
    name = f"{OWN}-term-{os.getpid()}"
    with launched(onnx, *(("--image", image) if image else ()), "--name", name) as (process, ready):
        with Client(ready["grpc"], retries=0, timeout=30) as client:
            answers = in_flight(over_grpc(client), process.terminate)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert name not in containers(docker)
    assert answers
    assert set(answers) == {BATCH}


def test_a_container_follows_the_repository(image: str | None, two: Path, tmp_path: Path) -> None:
    """By a key that the launcher makes up; no request fails, and each is answered by the old version or the new one."""
    repository = tmp_path / "repository"
    shutil.copytree(two / "repository", repository)
    name = f"{OWN}-watch-{os.getpid()}"
    with launched(repository, "--watch", "--name", name, *(("--image", image) if image else ())) as (process, ready):
        urls = ready["grpc"], f"http://{ready['http']}"
        with asking(*urls) as asked:
            known = {now(urls[0])}
            shutil.copytree(two / "later", repository, dirs_exist_ok=True)
            while "serving m 2 (was 1), " not in (line := process.stderr.readline()):
                assert line
            known.add(now(urls[1]))
            until(lambda: len(asked.answers) == 2)
        assert (asked.failed, set(asked.answers)) == ([], known)
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said


@pytest.mark.usefixtures("nvidia")  # which is chosen
def test_builds_of_every_kind_beside_containers_under_load(slim: BuiltImage) -> None:
    """One of each kind of image, over the same repository: ten builds, no failed request, no wrong answer."""
    with ExitStack() as stack:
        folder = stack.enter_context(rebuilding.folder_for_all())
        build(folder, rebuilding.FIRST)
        repository = folder / "repository"
        servers = {}
        for kind, image in (("slim", slim.reference), ("nvidia", None)):
            server = LAUNCHERS["docker"].launch(repository, *options(image))
            stack.callback(server.stop)
            servers[kind] = server.endpoints
        with rebuilding.asked(servers) as reports:
            rebuilding.build_all_kinds(folder, repository, reports)


def test_a_killed_worker_is_brought_back(docker: Any, image: str | None, onnx: Path) -> None:
    """As the kernel kills one that takes too much memory: by both first processes."""
    server = LAUNCHERS["docker"].launch(onnx, *options(image))
    try:
        container = docker.containers.get(server.name)
        first = container.attrs["State"]["Pid"]
        with Client(server.endpoints.grpc, retries=0, timeout=10) as client:
            before = client.probabilities([PHOTO], "onnx")
            (worker,) = workers_of(first, "preprocess_")
            os.kill(worker, signal.SIGKILL)
            wait_for(lambda: workers_of(first, "preprocess_") - {worker}, container)
            wait_for(lambda: answers(f"http://{server.endpoints.http}/v2/models/onnx/ready"), container)
            wait_for(lambda: answers(f"http://{server.endpoints.http}/v2/health/ready"), container)
            np.testing.assert_array_equal(client.probabilities([PHOTO], "onnx"), before)
    finally:
        server.stop()


def below(process: int) -> list[int]:
    """Process ids of its children, theirs, and so on."""
    return [pid for child in workers.children(process) for pid in (child, *below(child))]


def workers_of(first: int, models: str) -> set[int]:
    """Of models whose names begin so, below a container's first process."""
    found = (workers.running(process) for process in (first, *below(first)))
    return {pid for by_model in found for name in by_model if name.startswith(models) for pid in by_model[name]}


def test_a_killed_launcher_leaves_no_container(docker: Any, image: str | None, onnx: Path) -> None:
    name = f"{OWN}-kill-{os.getpid()}"
    with launched(onnx, *(("--image", image) if image else ()), "--name", name) as (process, _):
        assert name in containers(docker)
        process.kill()
    wait_for(lambda: name not in containers(docker))


def test_detached_and_stopped(docker: Any, slim: BuiltImage, onnx: Path) -> None:
    with launched(onnx, "--image", slim.reference, "--detach") as (process, ready):
        assert process.wait(30) == 0
    name = default_name(onnx.absolute())
    try:
        with Client(ready["grpc"]) as client:
            assert len(client.classify(PHOTO, "onnx")) == 3
        twice = ANY_PORTS, ContainerOptions(image=slim.reference)
        with pytest.raises(LaunchError, match=f"there is a container {name} already; stop it with build-repo stop"):
            LAUNCHERS["docker"].launch(onnx, *twice)
        assert name in containers(docker)  # the refusal left the first alone
    finally:
        stop = [sys.executable, "-m", "builder", "stop", "-r", str(onnx)]
        done = subprocess.run(stop, capture_output=True, text=True, timeout=300)
    assert done.stdout == f"{name}\n"
    assert name not in containers(docker)
    again = subprocess.run(stop, capture_output=True, text=True, timeout=300)
    assert again.returncode == 10
    assert "no container serves" in again.stderr


def test_a_model_that_does_not_load_is_told_with_the_servers_reason(
    docker: Any, image: str | None, onnx: Path, tmp_path: Path
) -> None:
    shutil.copytree(onnx, tmp_path / "r")
    (tmp_path / "r" / "onnx_onnx" / "1" / "model.onnx").write_bytes(b"no model")
    (tmp_path / "r" / "build-repo.lock.json").unlink(missing_ok=True)
    wanted = options(image)
    with pytest.raises(ModelLoadError, match=r"cannot load onnx_onnx: .*INVALID_PROTOBUF"):
        LAUNCHERS["docker"].launch(tmp_path / "r", *wanted)
    assert wanted[1].name not in containers(docker)


def test_what_was_changed_is_served_only_if_that_is_wanted(image: str | None, onnx: Path, tmp_path: Path) -> None:
    shutil.copytree(onnx, tmp_path / "r")
    with (tmp_path / "r" / "onnx_onnx" / "1" / "labels.txt").open("a") as labels:
        labels.write("\n")
    with pytest.raises(RepositoryError, match=r"labels\.txt differs from what was recorded"):
        LAUNCHERS["docker"].launch(tmp_path / "r", *options(image))
    server = LAUNCHERS["docker"].launch(tmp_path / "r", *options(image, verify_integrity=False))
    server.stop()


def test_a_launch_that_is_refused_leaves_the_files_of_the_first_alone(
    docker: Any, slim: BuiltImage, onnx: Path
) -> None:
    """Both have the same name, and keys of their own."""
    first = options(slim.reference, admin_key="the-key-of-the-first-one")
    second = replace(first[0], admin_key="the-key-of-the-second-one"), first[1]
    server = LAUNCHERS["docker"].launch(onnx, *first)
    try:
        (kept,) = files_for_containers()
        with pytest.raises(LaunchError, match="already"):
            LAUNCHERS["docker"].launch(onnx, *second)
        assert files_for_containers() == [kept]
        (mount,) = [m for m in docker.containers.get(server.name).attrs["Mounts"] if m["Destination"] != "/models"]
        assert (Path(mount["Source"]) / "admin-key").read_text() == first[0].admin_key
    finally:
        server.stop()
    assert files_for_containers() == []


def files_for_containers() -> list[str]:
    folder = Path.home() / ".local/state/build-repo/containers"
    return sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The address of a registry on loopback, empty."""
    program("docker-registry", "apt-get install docker-registry", "docker")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    storage = f"storage: {{filesystem: {{rootdirectory: {tmp_path / 'registry'}}}}}"
    (tmp_path / "registry.yml").write_text(f"version: 0.1\n{storage}\nhttp: {{addr: {address}}}\n")
    command = ["docker-registry", "serve", str(tmp_path / "registry.yml")]
    with started(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        wait_for(lambda: answers(f"http://{address}/v2/"))
        yield address


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def test_a_pull_is_told_as_it_goes(docker: Any, registry: str, tmp_path: Path) -> None:
    reference = f"{registry}/large:1"
    (tmp_path / "large").write_bytes(os.urandom(8 * MEGABYTE))
    with tarfile.open(tmp_path / "large.tar", "w") as tar:
        tar.add(tmp_path / "large", "large")
    docker.api.import_image_from_file(str(tmp_path / "large.tar"), repository=f"{registry}/large", tag="1")
    docker.images.push(reference)
    docker.images.remove(reference)
    told: list[str] = []
    try:
        assert building.require(docker, reference, told.append).tags == [reference]
    finally:
        docker.images.remove(reference, force=True)
    assert told[-1] == f"pulling {reference}: 8 of 8 MB"
    with pytest.raises(ImageError, match=r"absent:1 is not on this machine and cannot be pulled: .* not found"):
        building.require(docker, f"{registry}/absent:1")


@pytest.mark.usefixtures("docker")
def test_an_image_that_is_not_there(onnx: Path) -> None:
    with pytest.raises(
        ImageError, match=r"build-repo-test/absent:1 is not on this machine and cannot be pulled: .*docker pull"
    ):
        LAUNCHERS["docker"].launch(onnx, *options("build-repo-test/absent:1"))


def test_an_image_of_nvidias_without_a_registry(monkeypatch: pytest.MonkeyPatch, docker: Any, onnx: Path) -> None:
    monkeypatch.setenv(releases.REGISTRY_VARIABLE, "")
    with suppress(ImageNotFound):
        docker.images.remove(derived(), force=True)
    with pytest.raises(ImageError, match="have a registry's name in front, which BUILD_REPO_REGISTRY can hold"):
        LAUNCHERS["docker"].launch(onnx, *options())


def test_a_port_that_is_taken(docker: Any, slim: BuiltImage, onnx: Path) -> None:
    server = LAUNCHERS["docker"].launch(onnx, *options(slim.reference))
    try:
        taken = int(server.endpoints.http.rpartition(":")[2])
        wanted = options(slim.reference, http_port=taken)
        with pytest.raises(LaunchError, match=f"{taken}.*choose another with --http-port"):
            LAUNCHERS["docker"].launch(onnx, *wanted)
        assert wanted[1].name not in containers(docker)
    finally:
        server.stop()


def test_no_gpu_runtime(docker: Any, slim: BuiltImage, tmp_path: Path) -> None:
    """The engine's own refusal, where no container can have a GPU."""
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU")
    publish_model(tmp_path, backend="pytorch", filename="model.pt", facts={"torch_version": "2.14.1"}, device="gpu")
    wanted = options(slim.reference)
    with pytest.raises(LaunchError, match=r"cannot give a container the GPU.*NVIDIA Container Toolkit"):
        LAUNCHERS["docker"].launch(tmp_path, *wanted)
    with pytest.raises(NotFound):
        docker.containers.get(wanted[1].name)


def test_no_engine(monkeypatch: pytest.MonkeyPatch, onnx: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(EngineError, match="no Docker engine answers"):
        LAUNCHERS["docker"].launch(onnx, *options())


@pytest.mark.parametrize("kind", ["nvidia", pytest.param("slim", marks=pytest.mark.slow)])
def test_an_image_has_what_reads_texts(docker: Any, kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The tokenizer's library is in it, and the container gives what the embedded server gives."""
    test_text.made(tmp_path, test_text.entry(format="onnx"))
    repository = tmp_path / "repository"
    base = request.getfixturevalue("nvidia") if kind == "nvidia" else standin.python_base(docker)
    image = built(repository, kind, base, bake=False)
    texts = ["one", "two words, and more", "", "日本語 🙂"]
    vectors = []
    for launcher, wanted in (("embedded", ANY_PORTS), ("docker", options(image.reference))):
        with ExitStack() as stack:
            running = LAUNCHERS[launcher].launch(repository, *(wanted if launcher == "docker" else (wanted,)))
            stack.callback(running.stop)
            with Client(running.endpoints.grpc) as client:
                vectors.append(np.stack(client.embed(texts, "m")))
    np.testing.assert_allclose(*vectors, atol=1e-6)
    docker.images.remove(image.reference, force=True)


def test_images_are_reproducible(docker: Any, nvidia: str, onnx: Path) -> None:
    """Built anew, without the engine's cache, an image has the same layers to the last bit."""
    order = make.order(read_repository(onnx), "nvidia", nvidia, True)
    layers = []
    for number in range(2):
        reference = make.build(order, f"build-repo-test/again:{number}").reference
        layers.append(docker.images.get(reference).attrs["RootFS"]["Layers"])
        docker.images.remove(reference, force=True)
    assert layers[0] == layers[1]
    assert len(layers[0]) > len(docker.images.get(nvidia).attrs["RootFS"]["Layers"])


def test_a_base_of_another_python(docker: Any, both: Path) -> None:
    base = standin.python_base(docker)
    order = replace(make.order(read_repository(both), "slim", base, False), python="3.9")
    with pytest.raises(ImageError, match=r"has Python 3\.\d+, and the packages verified here are for 3.9"):
        make.build(order, "build-repo-test/never:1")


def test_the_command(docker: Any, onnx: Path, nvidia: str, tmp_path: Path) -> None:
    image = [sys.executable, "-m", "builder", "image", "-r", str(onnx), "--kind", "nvidia", "--base", nvidia]
    done = subprocess.run(
        [*image, "-t", "build-repo-test/command:1", "--json"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert docker.images.get("build-repo-test/command:1").id == json.loads(done.stdout)["id"]
    context = [*image, "--output", str(tmp_path / "context"), "--bake"]
    done = subprocess.run(context, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    dockerfile = (tmp_path / "context" / "Dockerfile").read_text()
    assert f"FROM {nvidia}" in dockerfile
    assert "--require-hashes" in dockerfile
    assert "USER 1000:1000" in dockerfile
    copied = tmp_path / "context" / "models" / "onnx_onnx" / "1" / "model.onnx"
    assert not copied.samefile(onnx / "onnx_onnx" / "1" / "model.onnx")  # whoever edits it edits no repository
