"""Draws pictures to learn from: circles, squares and triangles on crops of photos, with COCO's annotations.

python examples/detection/shapes.py shapes/heldout --count 200 --seed 1
"""

from __future__ import annotations

import argparse
import colorsys
import json
import math
import random
from pathlib import Path

from PIL import Image, ImageDraw

PHOTOS = sorted((Path(__file__).parents[2] / "builder" / "samples").glob("*.jpg"))
CATEGORIES = ["circle", "square", "triangle"]
CORNERS = {"square": 4, "triangle": 3}
FINE = 3  # drawn this many times larger, so that edges are smooth
Box = tuple[float, float, float, float]


def draw(dice: random.Random, photos: list[Image.Image]) -> tuple[Image.Image, list[tuple[str, Box]]]:
    """A picture with one to four shapes that do not touch, and where they are (x1, y1, x2, y2)."""
    picture = background(dice, photos)
    large = picture.resize((picture.width * FINE, picture.height * FINE))
    found: list[tuple[str, Box]] = []
    for _ in range(dice.randint(1, 4)):
        kind = dice.choice(CATEGORIES)
        outline = place(dice, picture.size, kind)
        box = around(outline)
        if not any(touch(box, other) for _, other in found):
            colour = bright(dice)
            ImageDraw.Draw(large).polygon([(x * FINE, y * FINE) for x, y in outline], fill=colour)
            found.append((kind, box))
    return large.resize(picture.size, Image.Resampling.BOX), found


def bright(dice: random.Random) -> tuple[int, ...]:
    """A colour that photos seldom have."""
    found = colorsys.hsv_to_rgb(dice.random(), dice.uniform(0.7, 1), dice.uniform(0.7, 1))
    return tuple(round(255 * value) for value in found)


def background(dice: random.Random, photos: list[Image.Image]) -> Image.Image:
    width, height = dice.randint(112, 144), dice.randint(112, 144)
    photo = dice.choice(photos)
    left, top = dice.randint(0, photo.width - width), dice.randint(0, photo.height - height)
    return photo.crop((left, top, left + width, top + height))


def place(dice: random.Random, size: tuple[int, int], kind: str) -> list[tuple[float, float]]:
    """The corners of a shape, turned at random (a circle has many), wholly inside of the picture."""
    radius = dice.uniform(14, 36)
    count, turn = CORNERS.get(kind, 72), dice.uniform(0, 2 * math.pi)
    middle = [dice.uniform(radius, side - radius) for side in size]
    angles = [turn + 2 * math.pi * corner / count for corner in range(count)]
    return [(middle[0] + radius * math.cos(angle), middle[1] + radius * math.sin(angle)) for angle in angles]


def around(outline: list[tuple[float, float]]) -> Box:
    across, down = zip(*outline, strict=True)
    return min(across), min(down), max(across), max(down)


def touch(box: Box, other: Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def pictures(count: int, seed: int) -> list[tuple[Image.Image, list[tuple[str, Box]]]]:
    dice = random.Random(seed)
    photos = [Image.open(path).convert("RGB") for path in PHOTOS]
    return [draw(dice, photos) for _ in range(count)]


def save(folder: Path, count: int, seed: int) -> Path:
    """Pictures and `coco.json` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    coco: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
    coco["categories"] = [{"id": number, "name": name} for number, name in enumerate(CATEGORIES, 1)]
    for number, (picture, found) in enumerate(pictures(count, seed), 1):
        name = f"{number:04}.png"
        picture.save(folder / name)
        coco["images"].append({"id": number, "file_name": name, "width": picture.width, "height": picture.height})
        for kind, (x1, y1, x2, y2) in found:
            box = [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)]
            coco["annotations"].append(
                {
                    "id": len(coco["annotations"]) + 1,
                    "image_id": number,
                    "category_id": CATEGORIES.index(kind) + 1,
                    "bbox": box,
                    "area": round(box[2] * box[3], 3),
                    "iscrowd": 0,
                }
            )
    path = folder / "coco.json"
    path.write_text(json.dumps(coco))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(save(options.folder, options.count, options.seed))


if __name__ == "__main__":
    main()
