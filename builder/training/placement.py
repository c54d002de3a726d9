"""What a run computes on: a CPU, a GPU, or one of several processes under torchrun."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.errors import TrainingError
from builder.machine.cores import granted_cores
from builder.training.spec import TrainingSpec

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Placement:
    """Where one process of a run computes, and how. `rank` is its number among `world` processes."""

    device: torch.device
    mixed: torch.dtype | None
    """What the network computes in, where that is not float32."""
    channels_last: bool
    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def layout(self) -> torch.memory_format:
        """Memory format of images, and of the weights that are applied to them."""
        import torch

        return torch.channels_last if self.channels_last else torch.contiguous_format

    def placed(self, tensor: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] on the device, in the layout of the run."""
        return tensor.to(self.device, non_blocking=True, memory_format=self.layout)

    def autocast(self) -> Any:
        import torch

        return torch.autocast(self.device.type, self.mixed, enabled=self.mixed is not None)

    def summed(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes."""
        import torch

        if self.world > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def wait(self) -> None:
        import torch

        if self.world > 1:
            torch.distributed.barrier()


@contextmanager
def placement_of(spec: TrainingSpec) -> Iterator[Placement]:
    """Of this process, by the spec and by what torchrun's environment says; PyTorch is set up for it meanwhile.

    Raises TrainingError.
    """
    import torch

    rank, world, local = (int(os.environ.get(name, default)) for name, default in TORCHRUN)
    if spec.batch_size % world:
        raise TrainingError(f"a batch of {spec.batch_size} images cannot be shared by {world} processes evenly")
    device = _device(spec.device, local)
    _settle(spec, device, world)
    if world > 1:
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Placement(device, _mixed(spec.precision, device), spec.channels_last, rank, world)
    finally:
        if world > 1:
            torch.distributed.destroy_process_group()


TORCHRUN = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))


def _device(wanted: str, local: int) -> torch.device:
    import torch

    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise TrainingError("device: gpu, but PyTorch sees none here; mend the driver, or leave device out")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def _settle(spec: TrainingSpec, device: torch.device, world: int) -> None:
    import torch

    if device.type == "cpu":
        torch.set_num_threads(max(1, granted_cores() // world))
    else:
        torch.backends.cudnn.benchmark = not spec.deterministic
        torch.set_float32_matmul_precision("highest" if spec.precision == "fp32" else "high")
    if spec.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(spec.deterministic)


def _mixed(precision: str, device: torch.device) -> torch.dtype | None:
    """auto is mixed on GPUs alone: on CPUs it gains only where they have bf16 natively, and was not measured."""
    import torch

    if precision == "fp32" or (precision == "auto" and device.type == "cpu"):
        return None
    if precision == "fp16" and device.type == "cpu":
        raise TrainingError("precision: fp16 is for GPUs; on a CPU choose bf16 or fp32")
    if precision == "auto":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if precision == "bf16" else torch.float16
