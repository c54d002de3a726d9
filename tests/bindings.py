"""TensorRT without TensorRT: a module that has what the real Python bindings have, and nothing else.

The bindings are wheels of their own; the libraries behind them are not to be had everywhere. With
empty libraries in their place the bindings import, and tell their names, signatures and enums.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
    "getInferLibVersion",
)
DUMP = """
import json, tensorrt_bindings as trt
def described(value):
    if isinstance(value, type):
        return {name: described(getattr(value, name)) for name in dir(value) if name[0] != "_" or name == "__init__"}
    try:
        return int(value)
    except TypeError:
        return "property" if isinstance(value, property) else value.__doc__ or ""
names = {name: described(value) for name, value in vars(trt).items() if isinstance(value, type)}
# A constructor that Python cannot call has none of its own.
print(json.dumps({"version": trt.__version__, "classes": names}))
"""
SIGNATURE = re.compile(r"^(?:\d+\. )?\w+\(self: [^,)]+(?:, )?(.*)\) -> (.+)$", re.MULTILINE)
RETURNED = {"None": None, "bool": True, "int": 0}


def folder(major: int) -> Path:
    """Where `make install` puts the wheel."""
    return ROOT / ".venv" / f"tensorrt-{major}"


def dump(major: int, scratch: Path) -> dict[str, Any]:
    """Names, docstrings and enum values of the real bindings."""
    source = scratch / "stub.c"
    source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in SYMBOLS))
    for library in LIBRARIES:
        target = scratch / f"lib{library}.so.{major}"
        subprocess.run(
            ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{target.name}", "-o", target, source], check=True, timeout=240
        )
    environment = os.environ | {"LD_LIBRARY_PATH": str(scratch), "PYTHONPATH": str(folder(major))}
    run = subprocess.run(
        [sys.executable, "-c", DUMP], env=environment, capture_output=True, text=True, check=True, timeout=240
    )
    found: dict[str, Any] = json.loads(run.stdout)
    return found


class FakeTensorRT:
    """Raises AttributeError and TypeError where the real module would; writes down every call.

    `answers` gives what a call returns, by `Class.method`: a value, or a function of the arguments.
    What it leaves out returns an object of the class that the real method is documented to return.
    """

    def __init__(self, bindings: dict[str, Any], answers: dict[str, Any] | None = None) -> None:
        self.classes: dict[str, Any] = bindings["classes"]
        self.answers = answers or {}
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.__version__ = bindings["version"]

    def __getattr__(self, name: str) -> Any:
        if name not in self.classes:
            raise AttributeError(f"TensorRT {self.__version__} has no {name}")
        if name == "ILogger":
            members = {key: value for key, value in self.classes[name].items() if isinstance(value, int)}
            return type(name, (), members)
        return FakeClass(self, name)

    def call(self, name: str, document: str, arguments: tuple[Any, ...]) -> Any:
        returned = returned_by(document, len(arguments))
        if returned is None:
            raise TypeError(f"{name} of TensorRT {self.__version__} takes no {len(arguments)} arguments")
        self.calls.append((name, arguments))
        if name in self.answers:
            answer = self.answers[name]
            return answer(*arguments) if callable(answer) else answer
        kind = returned.rpartition(".")[2].rpartition("::")[2]
        # The parser's errors are documented by their C++ name.
        return RETURNED[kind] if kind in RETURNED else FakeObject(self, kind.replace("IParserError", "ParserError"))

    def called(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for called, arguments in self.calls if called == name]


class FakeClass:
    def __init__(self, module: FakeTensorRT, name: str) -> None:
        self._module, self._name = module, name

    def __getattr__(self, name: str) -> Any:
        members = self._module.classes[self._name]
        if name not in members:
            raise AttributeError(f"TensorRT {self._module.__version__} has no {self._name}.{name}")
        return members[name]

    def __call__(self, *arguments: Any) -> FakeObject:
        document = self._module.classes[self._name]["__init__"]
        self._module.call(f"{self._name}.__init__", document, arguments)
        return FakeObject(self._module, self._name)


class FakeObject:
    def __init__(self, module: FakeTensorRT, kind: str) -> None:
        self._module, self._kind = module, kind
        assert kind in module.classes, kind

    def __getattr__(self, name: str) -> Any:
        members, full = self._module.classes[self._kind], f"{self._kind}.{name}"
        if name not in members:
            raise AttributeError(f"TensorRT {self._module.__version__} has no {full}")
        if members[name] == "property":
            return self._module.answers[full]
        return lambda *arguments: self._module.call(full, members[name], arguments)


def returned_by(document: str, count: int) -> str | None:
    """The documented type of what a method returns for that many arguments; None if it takes other numbers."""
    for parameters, returned in SIGNATURE.findall(document):
        found = [part for part in split(parameters) if part]
        required = [part for part in found if "=" not in part]
        if len(required) <= count <= len(found):
            return str(returned).strip()
    return None


def split(parameters: str) -> list[str]:
    """At the commas outside of brackets."""
    parts, depth = [""], 0
    for character in parameters:
        depth += (character in "[(<") - (character in "])>")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]
