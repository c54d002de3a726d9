"""This machine: cores, memory, GPUs."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from client.monitoring.metrics import Gpu


def cpu_and_memory() -> tuple[float, int, int]:
    """Utilisation 0..1 since the last call, and bytes of memory used and there."""
    import psutil

    memory = psutil.virtual_memory()
    return psutil.cpu_percent() / 100, memory.total - memory.available, memory.total


class Gpus:
    """NVIDIA's, by NVML. That there is no GPU, or no driver, is nothing to speak of."""

    def __init__(self, nvml: Any = None) -> None:
        """`nvml` has the functions of pynvml; None is pynvml itself."""
        self._nvml: Any = None
        try:
            found = importlib.import_module("pynvml") if nvml is None else nvml
            found.nvmlInit()
            self._nvml = found
        except Exception:  # whatever stands for: not here
            return

    def read(self) -> tuple[Gpu, ...]:
        return tuple(self._read()) if self._nvml else ()

    def close(self) -> None:
        if self._nvml:
            self._nvml.nvmlShutdown()
            self._nvml = None

    def _read(self) -> Iterator[Gpu]:
        nvml = self._nvml
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            memory = self._asked(nvml.nvmlDeviceGetMemoryInfo, handle)
            rates = self._asked(nvml.nvmlDeviceGetUtilizationRates, handle)
            power = self._asked(nvml.nvmlDeviceGetPowerUsage, handle)
            name = self._asked(nvml.nvmlDeviceGetName, handle) or "GPU"
            yield Gpu(
                f"{index} {name.decode() if isinstance(name, bytes) else name}",
                rates.gpu / 100 if rates else None,
                int(memory.used) if memory else None,
                int(memory.total) if memory else None,
                power / 1000 if power is not None else None,
                self._asked(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
            )

    def _asked(self, function: Any, *arguments: Any) -> Any:
        """None where this GPU does not tell, as slices of MIG do not."""
        with contextlib.suppress(self._nvml.NVMLError):
            return function(*arguments)
        return None
