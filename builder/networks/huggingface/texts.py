"""Networks that read texts: what stands around transformers' modules, and what their snapshots tell of texts."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import NetworkError
from builder.networks.huggingface.kinds import Kind
from builder.networks.huggingface.loading import Loaded
from builder.networks.huggingface.snapshot import MODULES, Snapshot, read_json, read_object
from builder.types import TextFacts

if TYPE_CHECKING:
    import torch
    from torch import nn

TOKENIZER = "tokenizer.json"
TYPES = "token_type_ids"
POOLS = ("mean", "cls")
LEGACY_POOLS = {"cls_token": "cls", "mean_tokens": "mean"}
"""Of the keys `pooling_mode_...: true` of older snapshots."""
UNLIMITED = 1_000_000
"""Tokens; tokenizers without a limit say that they have one far beyond it."""


def module(loaded: Loaded, kind: Kind) -> nn.Module:
    """forward(input_ids, attention_mask[, token_type_ids]), each int64 [B, S], gives float32 [B, S, D] of an encoder,
    its tokens' vectors, and [B, C] of a classifier, its logits. The third is asked where the network has several types.
    """
    import torch
    from torch import nn

    network, result = loaded.module, "last_hidden_state" if kind.is_encoder else "logits"

    class Texts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            given = self.network(input_ids=input_ids, attention_mask=attention_mask)
            return torch.as_tensor(given[result])

    class TextsOfTypes(Texts):
        def forward(  # type: ignore[override]
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
        ) -> torch.Tensor:
            given = self.network(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
            return torch.as_tensor(given[result])

    return (TextsOfTypes() if takes_types(loaded) else Texts()).eval()


def takes_types(loaded: Loaded) -> bool:
    """Whether the network tells a text's first part from its second by a number a token."""
    takes = TYPES in inspect.signature(loaded.module.forward).parameters
    return takes and int(getattr(loaded.config, "type_vocab_size", 0) or 0) > 1


def facts(snapshot: Snapshot, kind: Kind, loaded: Loaded) -> TextFacts:
    """Raises NetworkError for a snapshot that lacks a tokenizer, or whose vectors are made in ways not known here."""
    tokenizer = _tokenizer(snapshot)
    longest = max_length(snapshot, loaded)
    if not kind.is_encoder:
        return TextFacts(tokenizer, longest, activation=activation(loaded.config))
    pool, normalize = pooling(snapshot)
    _require_plain(snapshot, tokenizer)
    return TextFacts(tokenizer, longest, pool=pool, normalize=normalize)


def _tokenizer(snapshot: Snapshot) -> Path:
    path = snapshot.folder / TOKENIZER
    if not path.is_file():
        raise NetworkError(
            f"{snapshot.folder} has no {TOKENIZER}, which the server reads texts with. Where there are files of an "
            "older tokenizer, transformers converts them: `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)`; "
            "if the snapshot has none at all, save the network's tokenizer beside it"
        )
    return path


def max_length(snapshot: Snapshot, loaded: Loaded) -> int | None:
    """Tokens, special ones included: as sentence-transformers has it, or the tokenizer, within what the network has
    positions for.
    """
    told = [
        (snapshot.read("sentence_bert_config.json") or {}).get("max_seq_length"),
        (snapshot.read("tokenizer_config.json") or {}).get("model_max_length"),
    ]
    sane = [int(value) for value in told if isinstance(value, int | float) and 0 < value < UNLIMITED]
    limits = [value for value in (*sane[:1], _positions(loaded)) if value]
    return min(limits) if limits else None


def _positions(loaded: Loaded) -> int | None:
    """Tokens that there are positions for. RoBERTa and those after it keep the first few for padding."""
    from torch import nn

    for name, part in loaded.module.named_modules():
        if name.endswith("position_embeddings") and isinstance(part, nn.Embedding):
            kept = 0 if part.padding_idx is None else part.padding_idx + 1
            return part.num_embeddings - kept
    found = getattr(loaded.config, "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def activation(config: Any) -> str:
    """Of a classifier's scores, as transformers' own pipeline has it."""
    problem = getattr(config, "problem_type", None)
    if problem == "regression":
        return "none"
    return "sigmoid" if problem == "multi_label_classification" or config.num_labels == 1 else "softmax"


def pooling(snapshot: Snapshot) -> tuple[str | None, bool]:
    """How tokens' vectors become a text's, and whether it is made one long, as sentence-transformers' modules.json
    says; (None, False) where there is none. Raises NetworkError for what is not known here.
    """
    listed = read_json(snapshot.folder / MODULES)
    if listed is None:
        return None, False
    pool: str | None = None
    normalize = False
    for part in listed if isinstance(listed, list) else [listed]:
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise NetworkError(f"{snapshot.folder / MODULES} is no list of modules; write the snapshot once more")
        kind = part["type"].rpartition(".")[2]
        if kind == "Pooling":
            pool = _pool(snapshot.folder / str(part.get("path", "")))
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer" or part.get("path"):
            where = f" in the folder {part['path']}" if kind == "Transformer" else ""
            raise NetworkError(
                f"{snapshot.name}: {MODULES} has a {kind}{where}, and known are a Transformer in the snapshot's own "
                "folder, Pooling and Normalize. A callable of your own can do all of it: "
                "`network: path/file.py:callable`"
            )
    return pool, normalize


def _pool(folder: Path) -> str:
    told = read_object(folder / "config.json")
    if told is None:
        raise NetworkError(
            f"{folder / 'config.json'} does not exist, which tells how texts get one vector; copy it, too"
        )
    mode = told.get("pooling_mode") or [
        LEGACY_POOLS.get(key.removeprefix("pooling_mode_"), key)
        for key, value in told.items()
        if key.startswith("pooling_mode_") and value is True
    ]
    modes = [mode] if isinstance(mode, str) else list(mode)
    if len(modes) != 1 or modes[0] not in POOLS:
        raise NetworkError(
            f"{folder / 'config.json'}: the pooling {' and '.join(map(str, modes)) or 'of no mode'} is not known; "
            f"known are {', '.join(POOLS)}. A callable of your own can pool by itself: `network: path/file.py:callable`"
        )
    return str(modes[0])


def _require_plain(snapshot: Snapshot, tokenizer: Path) -> None:
    """Raise NetworkError where sentence-transformers changes the text itself, before its tokenizer sees it."""
    prompts = "config_sentence_transformers.json"
    told = snapshot.read(prompts) or {}
    default = told.get("default_prompt_name")
    if default and (told.get("prompts") or {}).get(default):
        raise NetworkError(
            f"{snapshot.folder / prompts} puts the prompt {default!r} before every text, and the server takes texts as "
            "they come. Take default_prompt_name out of a copy of it, and let clients write the prompt themselves"
        )
    if (snapshot.read("sentence_bert_config.json") or {}).get("do_lower_case") and not _lowers(tokenizer):
        raise NetworkError(
            f"{snapshot.folder / 'sentence_bert_config.json'} has do_lower_case, and {TOKENIZER} does not make texts "
            "lower case; put its Lowercase normalizer into the tokenizer, and take the key away"
        )


def _lowers(tokenizer: Path) -> bool:
    normalizer = (read_object(tokenizer) or {}).get("normalizer") or {}
    parts = normalizer.get("normalizers", [normalizer])
    return any(part.get("type") == "Lowercase" or part.get("lowercase") is True for part in parts)
