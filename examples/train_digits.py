"""Train LeNet on scikit-learn's digits: real scans that ship inside the package.

Writes lenet.safetensors and PNG files named <label>/<number>.png into the folder given: the held-out
digits under heldout/, and some of the others, to calibrate int8 with, under calibration/. Training and
serving share one recipe, that of builder.networks.lenet.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from builder.networks.lenet import RECIPE, lenet

EPOCHS = 30
BATCH_SIZE = 64
LEARNING_RATE = 5e-3
MAX_SHIFT = 2
HELD_OUT = 0.25
CALIBRATION = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "digits")
    out = parser.parse_args().out
    torch.manual_seed(0)
    train, heldout = split_digits()
    network = trained(tensors(train))
    save_pictures(heldout, out / "heldout")
    save_pictures(train[:CALIBRATION], out / "calibration")
    save_file(network.state_dict(), out / "lenet.safetensors")
    print(f"held-out accuracy of the PyTorch module: {accuracy(network, tensors(heldout)):.2%} of {len(heldout)}")


def split_digits() -> tuple[list[tuple[Image.Image, int]], list[tuple[Image.Image, int]]]:
    """8x8 grayscale pictures and their labels, to train with and held out."""
    digits = load_digits()
    pixels = np.round(digits.images * 255 / 16).astype(np.uint8)
    pictures = [(Image.fromarray(image), int(label)) for image, label in zip(pixels, digits.target, strict=True)]
    return train_test_split(pictures, test_size=HELD_OUT, random_state=0, stratify=digits.target)


def tensors(pictures: list[tuple[Image.Image, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    transform = RECIPE.reference_transform()
    images = torch.stack([transform(picture) for picture, _ in pictures])
    return images, torch.tensor([label for _, label in pictures])


def trained(data: tuple[torch.Tensor, torch.Tensor]) -> torch.nn.Module:
    images, labels = data
    network = lenet()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    steps = EPOCHS * math.ceil(len(images) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH_SIZE):
            optimizer.zero_grad()
            shifted = torch.roll(images[batch], shift(), dims=(2, 3))
            torch.nn.functional.cross_entropy(network(shifted), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def shift() -> tuple[int, int]:
    """Pixels down and right: digits are not always written in the middle."""
    down, right = torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (2,)).tolist()
    return down, right


def accuracy(network: torch.nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> float:
    images, labels = data
    with torch.inference_mode():
        return (network(images).argmax(1) == labels).float().mean().item()


def save_pictures(pictures: list[tuple[Image.Image, int]], folder: Path) -> None:
    for number, (picture, label) in enumerate(pictures):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        picture.save(folder / str(label) / f"{number:04}.png")


if __name__ == "__main__":
    main()
