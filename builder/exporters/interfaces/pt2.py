"""Archives of torch.export: programs, which are networks, and AOTInductor's packages, which are artifacts."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from builder.errors import NetworkError
from builder.exporters.interfaces import files
from builder.triton.interface import Interface, ToldTensor
from builder.triton.signature import ANY_SIZE

KIND = "an archive of torch.export"
PROGRAM, PACKAGE = "program", "package"
OLD_PROGRAM = "serialized_exported_program.json"
# torch._export.serde.schema.ScalarType, which is part of the archive's format.
DATA_TYPES = {
    1: "UINT8", 2: "INT8", 3: "INT16", 4: "INT32", 5: "INT64", 6: "FP16", 7: "FP32", 8: "FP64", 12: "BOOL",
    13: "BF16", 28: "UINT16",
}  # fmt: skip
PRECISIONS = {"FP32": "fp32", "FP64": "fp32", "FP16": "fp16", "BF16": "bf16"}
HOLDERS = ("parameter", "buffer", "tensor_constant")


def kind_of(path: Path) -> str:
    """PROGRAM or PACKAGE. Raises NetworkError for anything else."""
    files.head_of(path)
    names = files.archive_names(path)
    if any(name.startswith("data/aotinductor/") for name in names):
        return PACKAGE
    if any(name.startswith("models/") or name == OLD_PROGRAM for name in (*names, *_outer(path))):
        return PROGRAM
    if any(name.startswith("code/") for name in names):
        raise NetworkError(f"{path} is TorchScript; name it {path.stem}.pt")
    raise files.damaged(path, KIND)


def _outer(path: Path) -> tuple[str, ...]:
    """Names as they stand: older archives have no folder around everything."""
    with zipfile.ZipFile(path) as archive:
        return tuple(archive.namelist())


def interface(path: Path) -> Interface:
    """Raises NetworkError."""
    return _of_package(path) if kind_of(path) == PACKAGE else _of_program(path)


def _of_package(path: Path) -> Interface:
    facts: dict[str, str] = {}
    for text in _read(path, "_metadata.json", "data/aotinductor/"):
        told = _json(text, path)
        facts |= {key.lower(): str(value) for key, value in told.items() if value and key.startswith("AOTI_")}
    return Interface(None, None, None, facts)


def _of_program(path: Path) -> Interface:
    texts = list(_read(path, ".json", "models/"))
    if len(texts) != 1:
        return Interface(None, None)  # of an older form, or several: it tells when it is loaded
    program = _json(texts[0], path)
    try:
        return _program(program)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise files.damaged(path, KIND, f"{type(error).__name__}: {error}") from None


def _read(path: Path, suffix: str, folder: str) -> Iterable[bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith(suffix) and n.partition("/")[2].startswith(folder)]
            return [archive.read(name) for name in names]
    except Exception as error:  # whatever damage makes of an archive
        raise files.damaged(path, KIND, error) from None


def _json(text: bytes, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise files.damaged(path, KIND, error) from None
    if not isinstance(found, dict):
        raise files.damaged(path, KIND)
    return found


def _program(program: dict[str, Any]) -> Interface:
    graph, signature = program["graph_module"]["graph"], program["graph_module"]["signature"]
    values = graph["tensor_values"]
    taken = [spec["user_input"]["arg"] for spec in signature["input_specs"] if "user_input" in spec]
    given = [spec["user_output"]["arg"] for spec in signature["output_specs"] if "user_output" in spec]
    facts = {"torch_version_of_program": str(program.get("torch_version", ""))}
    return Interface(
        inputs=tuple(_told(arg["as_tensor"]["name"], values) for arg in taken if "as_tensor" in arg),
        outputs=tuple(_told(arg["as_tensor"]["name"], values) for arg in given if "as_tensor" in arg),
        precision=_precision(signature["input_specs"], values),
        facts={key: value for key, value in facts.items() if value},
    )


def _told(name: str, values: dict[str, Any]) -> ToldTensor:
    meta = values[name]
    shape = tuple(int(size["as_int"]) if "as_int" in size else ANY_SIZE for size in meta["sizes"])
    return ToldTensor(name, DATA_TYPES.get(meta["dtype"]), shape)


def _precision(specs: list[dict[str, Any]], values: dict[str, Any]) -> str | None:
    room: Counter[str] = Counter()
    for spec in specs:
        for holder in HOLDERS:
            if holder in spec and (told := _told(spec[holder]["arg"]["name"], values)).data_type in PRECISIONS:
                room[PRECISIONS[str(told.data_type)]] += _elements(told.shape or ())
    return room.most_common(1)[0][0] if room else None


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= max(size, 1)
    return count
