"""What timm's configurations say of pictures, as recipes: timm's own evaluation transform, to the last bit."""

import io
import itertools
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.models import get_pretrained_cfg
from timm.models._registry import _model_pretrained_cfgs  # private, and the only list of all

from builder.data.images import SAMPLES
from builder.networks.timm.recipe import NoRecipe, recipe_of, resolved
from builder.steps import STEPS

PHOTOS = sorted(SAMPLES.glob("*.jpg"))


def said(config: Any) -> dict[str, Any]:
    return dict(resolve_data_config(pretrained_cfg=config.to_dict()))


def combinations() -> dict[tuple[Any, ...], tuple[int, dict[str, Any]]]:
    """What timm's configurations differ in, with how many say it."""
    found: Counter[tuple[Any, ...]] = Counter()
    kept = {}
    for config in _model_pretrained_cfgs.values():
        data = said(config)
        key = tuple(sorted((name, tuple(value) if isinstance(value, list) else value) for name, value in data.items()))
        found[key] += 1
        kept[key] = data
    return {key: (count, kept[key]) for key, count in found.items()}


ALL = combinations()


def pictures() -> list[bytes]:
    """Photos: as they are, odd, tall, wide, smaller than any crop, of one pixel, grey."""
    first, second = (Image.open(path).convert("RGB") for path in PHOTOS[:2])
    made = [
        *(first.resize(size) for size in ((333, 251), (97, 401), (640, 60), (31, 17), (1, 1), (224, 224))),
        second.resize((257, 383)).convert("L"),
        second,
    ]
    buffers = [io.BytesIO() for _ in made]
    for picture, buffer in zip(made, buffers, strict=True):
        picture.save(buffer, "PNG")
    return [buffer.getvalue() for buffer in buffers]


PICTURES = pictures()
QUICK = [picture for number, picture in enumerate(PICTURES) if number != 2]
"""Without the very wide one, of which a resize of the shorter side makes thousands of columns."""


def differing(data: dict[str, Any], chosen: list[bytes]) -> list[int]:
    """The pictures of which the served step gives something else than timm does."""
    own = recipe_of(data)
    served, reference = STEPS["pillow"].function(own), own.reference_transform()
    theirs = create_transform(**data, is_training=False)
    found = []
    for number, picture in enumerate(chosen):
        image = Image.open(io.BytesIO(picture)).convert("L" if own.channels == 1 else "RGB")
        expected = theirs(image)
        ours = served(picture)
        same = ours.shape == tuple(expected.shape) and ours.tobytes() == expected.numpy().tobytes()
        if not same or not torch.equal(reference(image), expected):
            found.append(number)
    return found


def sizes_of(data: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(data[name] for name in ("input_size", "interpolation", "crop_pct", "crop_mode"))


def test_all_that_timms_configurations_say_is_served_to_the_last_bit(tell) -> None:
    """Seconds: there are some 180 combinations, each with one of the pictures; the next test has all."""
    served = refused = 0
    turns = itertools.cycle(QUICK)
    for count, data in ALL.values():
        try:
            recipe_of(data)
        except NoRecipe:
            refused += count
            continue
        chosen = [next(turns)]
        assert differing(data, chosen) == [], data
        served += count
    tell(f"timm's configurations: {served} are served to the last bit, {refused} are refused with their reason")
    assert refused / (served + refused) < 0.01


KINDS = {
    "center, bicubic": ("resnet50.a1_in1k", {}),
    "center, bilinear": ("resnet18.tv_in1k", {}),
    "a share that is no whole number of pixels": ("convnext_tiny.in12k_ft_in1k", {}),
    "whole, no crop": ("vit_base_patch16_384.augreg_in1k", {}),
    "squash": ("vit_base_patch16_siglip_384.webli", {}),
    "squash, and then a crop": ("maxvit_tiny_tf_384.in1k", {}),
    "squash, not square": ("vit_base_patch16_sapiens2.fb", {}),
    "a crop that is larger than the picture": ("volo_d4_448.sail_in1k", {}),
    "gray": ("resnet18.a1_in1k", {"in_chans": 1}),
    "another size": ("efficientnet_b0.ra_in1k", {"img_size": 96}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_served_to_the_last_bit_for_pictures_of_all_forms(kind: str) -> None:
    name, arguments = KINDS[kind]
    config = get_pretrained_cfg(name)
    assert config is not None
    module = SimpleNamespace(pretrained_cfg=config.to_dict())
    data = resolved(module, arguments)
    if arguments.get("in_chans") == 1:  # timm's own loader takes the average, too
        data |= {key: (float(np.mean(data[key])),) for key in ("mean", "std")}
    assert differing(data, PICTURES) == []


def test_what_no_recipe_says_is_refused_with_the_reason() -> None:
    border = next(data for _, data in ALL.values() if data["crop_mode"] == "border")
    with pytest.raises(NoRecipe, match="crop_mode border"):
        recipe_of(border)
    flat = said(get_pretrained_cfg("resnet18.a1_in1k"))
    with pytest.raises(NoRecipe, match="4 channels"):
        recipe_of(flat | {"input_size": (4, 224, 224)})
    with pytest.raises(NoRecipe, match="256x128"):
        recipe_of(flat | {"input_size": (3, 256, 128)})
