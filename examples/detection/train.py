"""Trains the detector of network.py from nothing, and says its mean average precision on pictures it has not seen.

python examples/detection/train.py shapes    # writes shapes/shapes.pth, and pictures beside it
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from network import CLASSES, SIDE, shapes
from PIL import Image
from shapes import Box, pictures, save
from torch import Tensor, nn

BATCH = 16
Values = Tensor | np.ndarray


def train(count: int, epochs: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    module = shapes().train()
    examples = [scaled(picture, found) for picture, found in pictures(count, seed)]
    steps = epochs * (count // BATCH)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.15)
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(count)[: count // BATCH * BATCH].view(-1, BATCH).tolist():
            loss = sum(module(*turned([examples[number] for number in batch])).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1} of {epochs}: loss {total / (count // BATCH):.3f}", flush=True)
    return module.eval()


def scaled(picture: Image.Image, found: list[tuple[str, Box]]) -> tuple[Tensor, dict[str, Tensor]]:
    """The picture as the network sees it, so that each epoch need not scale it anew."""
    pixels = nn.functional.interpolate(tensor(picture)[None], (SIDE, SIDE), mode="bilinear", align_corners=False)[0]
    size = torch.tensor([picture.width, picture.height] * 2)
    boxes = torch.tensor([box for _, box in found]) / size * SIDE
    return pixels, {"boxes": boxes, "labels": torch.tensor([CLASSES.index(kind) for kind, _ in found])}


def turned(chosen: list[tuple[Tensor, dict[str, Tensor]]]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """A batch laid one of four ways, its colours swapped: shapes look the same in all."""
    pixels = torch.stack([pixels for pixels, _ in chosen])
    flip, swap = (torch.rand(2) < 0.5).tolist()
    if flip:
        pixels = pixels.flip(-1)
    if swap:
        pixels = pixels.transpose(-1, -2).contiguous()
    return list(pixels[:, torch.randperm(3)]), [laid(target, flip, swap) for _, target in chosen]


def laid(target: dict[str, Tensor], flip: bool, swap: bool) -> dict[str, Tensor]:
    x1, y1, x2, y2 = target["boxes"].unbind(1)
    if flip:
        x1, x2 = SIDE - x2, SIDE - x1
    corners = [y1, x1, y2, x2] if swap else [x1, y1, x2, y2]
    return {"boxes": torch.stack(corners, 1), "labels": target["labels"]}


def tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255


def score(module: nn.Module, annotations: Path) -> tuple[float, float]:
    """COCO's mean average precision (of overlaps 0.5 to 0.95, and of 0.5) of the module itself."""
    rows = []
    for image in json.loads(annotations.read_text())["images"]:
        with torch.inference_mode():
            found = module([tensor(Image.open(annotations.parent / image["file_name"]))])[0]
        rows += as_rows(image["id"], found["boxes"], found["scores"], found["labels"])
    return coco(annotations, rows)


def as_rows(image: int, boxes: Values, scores: Values, classes: Values) -> list[dict[str, object]]:
    """Detections (tensors or arrays) as COCO's results have them."""
    return [
        {
            "image_id": image,
            "category_id": int(number),
            "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
            "score": float(value),
        }
        for (x1, y1, x2, y2), value, number in zip(boxes, scores, classes, strict=True)
    ]


def coco(annotations: Path, rows: list[dict[str, object]]) -> tuple[float, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(annotations))
    evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    annotations = save(options.folder / "heldout", 200, seed=1)
    save(options.folder / "calibration", 100, seed=2)
    start, spent = time.perf_counter(), time.process_time()
    module = train(options.pictures, options.epochs)
    print(f"{time.perf_counter() - start:.0f} s, {time.process_time() - spent:.0f} s of processors")
    torch.save(module.state_dict(), options.folder / "shapes.pth")
    print("mAP 0.5:0.95 {:.3f}, at 0.5 {:.3f}".format(*score(module, annotations)))


if __name__ == "__main__":
    main()
