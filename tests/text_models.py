"""Models of texts, written by hand: of a few lines, and what they give is computed of the bytes."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from by_hand import add

MOST = 1000
"""Bytes of a text."""
ENCODER = """
import zlib
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer([one[0] for one in self.texts(request)]) for request in requests]

    def texts(self, request):
        return pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()

    def answer(self, texts):
        if b"refused" in texts:
            return pb_utils.InferenceResponse([], pb_utils.TritonError("the text is refused"))
        rows = [[np.nan] * 3 if one == b"NaN" else [len(one), zlib.crc32(one) % 1000, 1] for one in texts]
        return pb_utils.InferenceResponse([pb_utils.Tensor("EMBEDDING", np.float32(rows))])
"""
JUDGE = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([self.scores(request)]) for request in requests]

    def scores(self, request):
        texts = [one[0] for one in pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()]
        return pb_utils.Tensor("PROBABILITIES", np.float32([[0.75, 0.25] if b"good" in one else [0.125, 0.875]
                                                            for one in texts]))
"""
TEXT = 'input { name: "TEXT" data_type: TYPE_STRING dims: 1 }\n'
VECTORS = TEXT + 'output { name: "EMBEDDING" data_type: TYPE_FP32 dims: 3 }\n'
SCORES = TEXT + 'output { name: "PROBABILITIES" data_type: TYPE_FP32 dims: 2 LABELS }\n'


def vector(text: str) -> list[float]:
    """As ENCODER has it."""
    data = text.encode()
    return np.float32([len(data), zlib.crc32(data) % 1000, 1]).tolist()


def write(repository: Path) -> None:
    """`sentences` gives vectors, `mood` classes with names from a file, and `tone` with those of its config."""
    add(repository, "sentences", ENCODER, VECTORS, 8, task="text", max_text_bytes=str(MOST))
    labelled = SCORES.replace("LABELS", 'label_filename: "labels.txt"')
    add(repository, "mood", JUDGE, labelled, 4, task="text", max_text_bytes=str(MOST))
    (repository / "mood" / "labels.txt").write_text("glad\n=sad\n")
    add(repository, "tone", JUDGE, SCORES.replace("LABELS", ""), 4, task="text", labels='[\\"up\\", \\"down\\"]')
