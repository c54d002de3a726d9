"""A small ViT of transformers, trained on scikit-learn's digits and saved as a snapshot, with its processor.

Run it from anywhere; it writes snapshot/ and heldout/ beside itself, and downloads nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

HERE = Path(__file__).parent
SIDE = 32
EPOCHS = 25
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # the network is too small for more
    digits = load_digits()
    train, held, classes, truth = train_test_split(
        digits.images, digits.target, test_size=0.2, random_state=0, stratify=digits.target
    )
    processor = ViTImageProcessorPil(size={"height": SIDE, "width": SIDE})
    network = made()
    learn(network, pixels(processor, train), torch.tensor(classes))
    with torch.no_grad():
        found = network(pixel_values=pixels(processor, held)).logits.argmax(1)
    network.save_pretrained(HERE / "snapshot")
    processor.save_pretrained(HERE / "snapshot")
    save(held, truth)
    print(f"{(found == torch.tensor(truth)).float().mean():.2%} of {len(held)} held-out digits are right")


def made() -> ViTForImageClassification:
    return ViTForImageClassification(
        ViTConfig(
            image_size=SIDE,
            patch_size=8,
            hidden_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=128,
            id2label=dict(enumerate(NAMES)),
            label2id={name: number for number, name in enumerate(NAMES)},
        )
    )


def picture(digit: np.ndarray) -> Image.Image:
    """8x8 of levels from 0 to 16, as a grey picture."""
    return Image.fromarray((digit * 255 / 16).round().astype(np.uint8)).convert("RGB")


def pixels(processor: ViTImageProcessorPil, digits: np.ndarray) -> torch.Tensor:
    found: torch.Tensor = processor([picture(digit) for digit in digits], return_tensors="pt")["pixel_values"]
    return found


def learn(network: ViTForImageClassification, images: torch.Tensor, classes: torch.Tensor) -> None:
    steps = EPOCHS * (len(images) // 64)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    network.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(64)[: len(images) // 64]:
            optimiser.zero_grad()
            network(pixel_values=images[batch], labels=classes[batch]).loss.backward()
            optimiser.step()
            schedule.step()
    network.eval()


def save(digits: np.ndarray, classes: np.ndarray) -> None:
    """Pictures in folders that are named by their class."""
    for number, (digit, kind) in enumerate(zip(digits, classes, strict=True)):
        folder = HERE / "heldout" / NAMES[kind]
        folder.mkdir(parents=True, exist_ok=True)
        picture(digit).save(folder / f"{number:03}.png")


if __name__ == "__main__":
    main()
