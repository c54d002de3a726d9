"""Discs and squares: pictures drawn here with their masks, and a small network that learns them in seconds.

`python examples/segmentation/shapes.py` writes pictures/, masks/ and shapes.pth beside itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

HERE = Path(__file__).parent
SIDE = 96
COLOURS = np.array([[30, 30, 40], [200, 20, 20], [220, 230, 210]])
PICTURES, HELD_BACK, STEPS = 32, 12, 80


class Segmenter(nn.Module):
    """float32 [B, 3, SIDE, SIDE] -> logits of ground, square and disc, of a quarter of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 3, 1),
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(pixels)
        return logits


def drawn(number: int) -> tuple[Image.Image, Image.Image]:
    """A picture, and its mask: 0 is ground, 1 square, 2 disc."""
    draw = np.random.default_rng(number)
    height, width = draw.integers(100, 200, 2)
    rows, columns = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.uint8)
    top, left = draw.integers(0, 50, 2)
    mask[top : top + 45, left : left + 45] = 1
    distance = (rows - height * draw.uniform(0.6, 0.8)) ** 2 + (columns - width * draw.uniform(0.6, 0.8)) ** 2
    mask[distance < draw.integers(15, 25) ** 2] = 2
    pixels = COLOURS[mask] + draw.normal(0, 12, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), Image.fromarray(mask)


def trained() -> nn.Module:
    """On pictures that are not among those that the proof is made with."""
    torch.manual_seed(0)
    pairs = [drawn(number) for number in range(PICTURES)]
    pictures = [np.array(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for picture, _ in pairs]
    pixels = torch.tensor(np.stack(pictures)).permute(0, 3, 1, 2) / 255 * 4 - 2  # mean 0.5, std 0.25
    masks = torch.tensor(np.stack([np.array(mask.resize((SIDE, SIDE), Image.Resampling.NEAREST)) for _, mask in pairs]))
    network = Segmenter()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(STEPS):
        logits = nn.functional.interpolate(network(pixels), (SIDE, SIDE), mode="bilinear")
        loss = nn.functional.cross_entropy(logits, masks.long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def main() -> None:
    for folder in ("pictures", "masks"):
        (HERE / folder).mkdir(exist_ok=True)
    for number in range(PICTURES, PICTURES + HELD_BACK):
        picture, mask = drawn(number)
        picture.save(HERE / "pictures" / f"{number}.png")
        mask.save(HERE / "masks" / f"{number}.png")
    torch.save(trained().state_dict(), HERE / "shapes.pth")


if __name__ == "__main__":
    main()
