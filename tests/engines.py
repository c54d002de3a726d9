"""Docker's engine, and an image to start from that comes from no registry, for tests marked `docker`."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from leftovers import MARK, docker_name
from tools import missing, needs, which

from builder.errors import EngineError
from builder.machine.docker import connect

NAME = "build-repo-test-base"
OWN = docker_name(os.environ[MARK])
"""How names of containers, networks and stacks begin, so that one can tell which run has left them."""
# What Python with its usual modules, and the wheels beside it, are linked with.
LIBRARIES = (
    "ca-certificates",
    "libbz2-1.0",
    "libexpat1",
    "libffi8",
    "libgomp1",
    "liblzma5",
    "libncursesw6",
    "libreadline8",
    "libsqlite3-0",
    "libssl3",
    "libstdc++6",
    "libuuid1",
    "zlib1g",
)
UNNEEDED = ("./var/cache/apt/archives/*.deb", "./var/lib/apt/lists/*", "./usr/share/doc/*", "./usr/share/man/*")


def engine() -> Any:
    """A client of this machine's engine. The test is skipped where there is none, and fails in CI."""
    needs("docker")
    try:
        return connect()
    except EngineError as error:
        missing(str(error))


def base_image(client: Any, packages: Sequence[str] = ()) -> str:
    """The reference of a small image of this machine's own release, with LIBRARIES and `packages`.

    It is made once, by debootstrap, from where apt gets its packages on this machine.
    """
    from docker.errors import ImageNotFound

    codename = _os_release()["VERSION_CODENAME"]
    wanted = sorted({*LIBRARIES, *packages})
    tag = hashlib.sha256(" ".join((codename, *wanted)).encode()).hexdigest()[:12]
    reference = f"{NAME}:{tag}"
    with FileLock(Path(os.environ["PYTEST_DEBUG_TEMPROOT"]) / f"{NAME}.lock"):  # of all runs on this machine
        try:
            client.images.get(reference)
        except ImageNotFound:
            _import(client, codename, wanted, tag)
    return reference


def _import(client: Any, codename: str, packages: Sequence[str], tag: str) -> None:
    if os.geteuid() or not which("debootstrap"):
        missing("making an image needs root and debootstrap: apt-get install debootstrap")
    with tempfile.TemporaryDirectory(prefix=f"{NAME}-") as folder:
        root, tar = Path(folder) / "root", Path(folder) / "root.tar"
        include = f"--include={','.join(packages)}"
        _run("debootstrap", "--variant=minbase", include, codename, str(root), _mirror(codename))
        _run("tar", "-C", str(root), "-cf", str(tar), *(f"--exclude={path}" for path in UNNEEDED), ".")
        client.api.import_image_from_file(str(tar), repository=NAME, tag=tag)


def _run(*command: str) -> None:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=540
    )
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout[-3000:]}"


def _mirror(codename: str) -> str:
    """Where apt gets the release from."""
    command = ["apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(SITE)", "Created-By: Packages"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=540).stdout.splitlines()
    return next(line.split()[2] for line in lines if line.split()[:2] == [codename, "main"])


def _os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines if line)}


# Those that Docker 20.10 knows, by their numbers in the kernel.
CAPABILITIES = """
    chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service
    net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin
    sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override
    mac_admin syslog wake_alarm block_suspend audit_read
"""


def nearly_privileged() -> dict[str, Any]:
    """What a container needs to run systemd, without the capabilities that this machine itself lacks."""
    bounding = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd:"))
    bits, names = int(bounding.split()[1], 16), CAPABILITIES.split()
    own = [name for number, name in enumerate(names) if bits >> number & 1]
    if own == names:
        return {"privileged": True, "cgroupns": "private"}
    return {
        "cap_drop": ["all"],
        "cap_add": own,
        "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
        "cgroupns": "private",
    }
