"""The operators of an artifact that are not PyTorch's own: a process that serves it has to import their library."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

from builder.errors import ExportError

FACT = "operator_libraries"
"""What the config records of an artifact, for `runtimes/pytorch/model.py`."""
# PyTorch's own, in a process that has imported nothing else.
OWN = frozenset(
    {
        "_native", "_quantized", "aten", "cuda", "debugprims", "inductor", "inductor_prims", "mkl", "mkldnn",
        "mkldnn_prepacked", "onednn", "prepacked", "prim", "prims", "profiler", "quantization", "quantized",
        "quantized_decomposed", "rngprims", "sparse", "static_runtime", "tensorexpr", "xnnpack",
    }
)  # fmt: skip
SERVED = frozenset({"torchvision"})
"""Those that the server has: NVIDIA's backend is linked with it, the embedded server's worker imports it."""
TARGET = re.compile(rb'"target": "(\w+::\w+)')


def required(operators: Iterable[str]) -> dict[str, str]:
    """The fact to record of an artifact with these operators, `library::name`. Raises ExportError for foreign ones."""
    foreign = {name.partition("::")[0]: name for name in sorted(operators, reverse=True) if "::" in name}
    foreign = {library: name for library, name in sorted(foreign.items()) if library not in OWN}
    unknown = [name for library, name in foreign.items() if library not in SERVED]
    if unknown:
        raise ExportError(
            f"it calls {', '.join(unknown)}, of a library that no server has; write it with PyTorch's own operators, "
            "or try `format: onnx`, which holds what such an operator is made of"
        )
    return {FACT: " ".join(foreign)} if foreign else {}


def of_package(path: Path) -> set[str]:
    """Those that an AOTInductor package does not compile but calls by name."""
    with zipfile.ZipFile(path) as package:
        texts = [package.read(name) for name in package.namelist() if name.endswith(".json")]
    return {target.decode() for text in texts for target in TARGET.findall(text)}
