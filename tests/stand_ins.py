"""Backends that take any model, so that only the core of the real server judges a config, in two milliseconds.

A backend of Triton's has one function that it must have. A library with that, and nothing else, stands under any name.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

# What is asked of it (warm-up asks) gets an answer without outputs: one without an answer holds the load for ever.
CODE = """
extern "C" {
void* TRITONBACKEND_ResponseNew(void** response, void* request);
void* TRITONBACKEND_ResponseSend(void* response, unsigned flags, void* error);
void* TRITONBACKEND_RequestRelease(void* request, unsigned flags);

void* TRITONBACKEND_ModelInstanceExecute(void*, void** requests, unsigned count) {
  const unsigned final_response = 1, release_all = 1;
  for (unsigned index = 0; index < count; ++index) {
    void* response = nullptr;
    TRITONBACKEND_ResponseNew(&response, requests[index]);
    TRITONBACKEND_ResponseSend(response, final_response, nullptr);
    TRITONBACKEND_RequestRelease(requests[index], release_all);
  }
  return nullptr;
}
}
"""
NAMES = ("custom", "onnxruntime", "openvino", "pytorch", "tensorrt", "tensorflow", "dali")


@functools.cache
def library() -> bytes:
    """Compiled once in a run."""
    with tempfile.TemporaryDirectory(prefix="stand-in-") as place:
        folder = Path(place)
        (folder / "stand_in.cc").write_text(CODE)
        subprocess.run(
            ["g++", "-shared", "-fPIC", "-o", folder / "stand_in.so", folder / "stand_in.cc"], check=True, timeout=120
        )
        return (folder / "stand_in.so").read_bytes()


def backends(folder: Path, names: Iterable[str] = NAMES) -> Path:
    """`folder`, filled for --backend-directory: the stand-ins, and the embedded server's own Python backend."""
    from builder.launchers.runtime import lay_out_backends

    laid_out = lay_out_backends(folder)
    for name in names:
        shutil.rmtree(laid_out / name, ignore_errors=True)
        (laid_out / name).mkdir()
        (laid_out / name / f"libtriton_{name}.so").write_bytes(library())
    return laid_out
