"""This machine's Docker engine."""

from __future__ import annotations

from typing import Any

from builder.errors import BuilderError, EngineError

# What an engine says that was asked for a GPU and has no runtime that could give one.
NO_RUNTIME = ("could not select device driver", "failed to discover GPU vendor", "unknown or invalid runtime")
TOOLKIT = (
    "install the NVIDIA Container Toolkit, and run: "
    "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"
)


def connect(error: type[BuilderError] = EngineError) -> Any:
    """A client of the engine, which has answered. Raises `error`."""
    try:
        import docker
    except ImportError:
        raise error(
            "the Python package docker is not installed; run: pip install 'triton-build-repo[docker]'"
        ) from None
    return reached(docker.from_env, error)


def reached(make: Any, kind: type[BuilderError] = EngineError) -> Any:
    """The client that `make()` gives, after it has answered. Raises `kind`."""
    from docker.errors import DockerException

    try:
        client = make()
        client.ping()
    except (DockerException, OSError) as error:
        if _comes_from(error, PermissionError):
            raise kind(
                "Docker's engine may not be used by this user; run: sudo usermod -aG docker $USER, and log in again"
            ) from None
        raise kind(
            f"no Docker engine answers ({error}); start it: sudo systemctl start docker, or set DOCKER_HOST"
        ) from None
    return client


def is_rootless(client: Any) -> bool:
    """Whether the engine runs as its caller, who then is root in its containers."""
    return "name=rootless" in (client.info().get("SecurityOptions") or ())


def lacks_gpu_runtime(reason: str) -> bool:
    """Whether the engine refused because nothing there could give a container the GPU."""
    return any(words in reason for words in NO_RUNTIME)


def _comes_from(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether an exception of the kind led to this; requests hides some among its arguments."""
    if error is None or isinstance(error, kind):
        return error is not None
    inner = [argument for argument in error.args if isinstance(argument, BaseException)]
    return any(_comes_from(one, kind) for one in (error.__cause__, error.__context__, *inner))
