"""A detector's candidates in, the objects of each picture out: boxes in its own pixels, scores and classes.

Published into the repository as the `model.py` of a python-backend model, so it needs nothing but NumPy. Of a class,
boxes that a better one overlaps are left out (non-maximum suppression, as torchvision.ops.batched_nms does it).
"""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Found = tuple[Array, Array, Array]
PLACEMENT = "PLACEMENT"
MOST_CANDIDATES = 30_000
"""The best of those above the threshold: no more are looked at."""


class Detector:
    """The network's answer for one picture, and its placement -> boxes float32 [n, 4], scores [n], classes [n]."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._threshold = np.float32(settings["score_threshold"])

    def __call__(self, *given: Array) -> Found:
        *answer, placement = given
        boxes, scores, classes = self._candidates(answer)
        if not np.isfinite(scores).all() or not np.isfinite(boxes).all():
            raise ValueError("the network gives NaN or infinite numbers for this picture")
        boxes = self._clipped(boxes, placement)
        if self._settings["layout"] != "candidates":  # what lies in the picture's border alone
            seen = (boxes[:, 2:] > boxes[:, :2]).all(1)
            boxes, scores, classes = boxes[seen], scores[seen], classes[seen]
        kept = suppressed(boxes, classes, self._settings["iou_threshold"], self._settings["max_detections"])
        return self._in_picture(boxes[kept], placement), scores[kept], classes[kept]

    def _candidates(self, answer: list[Array]) -> Found:
        """Those above the threshold, the best first."""
        if self._settings["layout"] == "candidates":
            boxes, scores, classes = answer
            rows = _best(scores, self._threshold)
            return boxes[rows].astype(np.float32), scores[rows].astype(np.float32), classes[rows].astype(np.int32)
        boxes, table = self._table(answer)
        if self._settings["layout"] == "yolo":  # as its own pipeline does: a box is of its best class alone
            classes = table.argmax(1)
            scores = np.take_along_axis(table, classes[:, None], 1)[:, 0]
            rows = _best(scores, self._threshold)
            return self._corners(boxes[rows]), scores[rows], classes[rows].astype(np.int32)
        rows, columns = np.divmod(_best(table.ravel(), self._threshold), table.shape[1])
        return self._corners(boxes[rows]), table[rows, columns], columns.astype(np.int32)

    def _table(self, answer: list[Array]) -> tuple[Array, Array]:
        """Boxes [N, 4] as they are, scores float32 [N, C]."""
        if self._settings["layout"] == "yolo":
            boxes, table = answer[0][:4].T, answer[0][4:].T
        else:
            boxes, table = answer
        table = _activated(table.astype(np.float32), self._settings["activation"])
        if self._settings["background"] is not None:
            table[:, self._settings["background"]] = -1
        return boxes.astype(np.float32), table

    def _corners(self, boxes: Array) -> Array:
        """x1, y1, x2, y2 in pixels of the network's input."""
        first, second = boxes[:, :2], boxes[:, 2:]
        if self._settings["box"] == "cxcywh":
            first, second = first - second / 2, first + second / 2
        elif self._settings["box"] == "xywh":
            second = first + second
        corners = np.concatenate([first, second], 1)
        height, width = self._settings["network_size"]
        whole = corners * np.array([width, height] * 2, np.float32) if self._settings["normalized"] else corners
        return np.asarray(whole)

    def _clipped(self, boxes: Array, placement: Array) -> Array:
        """To what the input has of the picture."""
        rows, columns = self._settings["network_size"]
        top, left, high, wide = (int(number) for number in placement[2:])
        low, most = np.array([max(0, left), max(0, top)]), np.array([min(columns, left + wide), min(rows, top + high)])
        return np.asarray(boxes.clip(np.tile(low, 2).astype(np.float32), np.tile(most, 2).astype(np.float32)))

    def _in_picture(self, boxes: Array, placement: Array) -> Array:
        height, width, top, left, high, wide = (int(number) for number in placement)
        scale = np.array([width / wide, height / high] * 2, np.float32)
        return np.asarray((boxes - np.array([left, top] * 2, np.float32)) * scale, np.float32)


def _best(scores: Array, threshold: Any) -> Array:
    """Where scores are above the threshold, the highest first; NaN counts as above, so that it is seen."""
    places = np.flatnonzero(~(scores <= threshold))
    if len(places) > MOST_CANDIDATES:
        places = places[np.argpartition(-scores[places], MOST_CANDIDATES)[:MOST_CANDIDATES]]
        places.sort()
    return np.asarray(places[np.argsort(-scores[places], kind="stable")])


def _activated(table: Array, activation: str) -> Array:
    with np.errstate(over="ignore"):
        if activation == "sigmoid":
            return np.asarray(1 / (1 + np.exp(-table)), np.float32)
        if activation == "softmax":
            powers = np.exp(table - table.max(1, keepdims=True))
            return np.asarray(powers / powers.sum(1, keepdims=True), np.float32)
    return table.copy()


def suppressed(boxes: Array, classes: Array, limit: float, most: int) -> Array:
    """Which of the candidates, the best first, are kept, at most `most`."""
    sides = np.ascontiguousarray(boxes.T)  # a row for each of the four, which are read one by one
    areas = (sides[2] - sides[0]) * (sides[3] - sides[1])
    alive = np.ones(len(boxes), bool)
    kept: list[int] = []
    place = 0
    while len(kept) < most and place < len(alive):
        place += int(alive[place:].argmax())
        if not alive[place]:
            break
        kept.append(place)
        rivals = place + 1 + np.flatnonzero(alive[place + 1 :] & (classes[place + 1 :] == classes[place]))
        alive[rivals[_overlaps(sides, areas, place, rivals) > limit]] = False
        place += 1
    return np.array(kept, np.int64)


def _overlaps(sides: Array, areas: Array, place: int, rivals: Array) -> Array:
    """Intersection over union of one box with others, float32; 0 where neither has an area."""
    left, top, right, bottom = sides
    wide = np.minimum(right[rivals], right[place]) - np.maximum(left[rivals], left[place])
    high = np.minimum(bottom[rivals], bottom[place]) - np.maximum(top[rivals], top[place])
    common = np.maximum(wide, 0) * np.maximum(high, 0)
    union = areas[place] + areas[rivals] - common
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0))


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        import triton_python_backend_utils as pb_utils

        self._pb = pb_utils
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._inputs = [one["name"] for one in config["input"]]
        self._outputs = [one["name"] for one in config["output"]]
        settings = json.loads(parameters["recipe"])
        self._most = settings["max_detections"]
        self._detector = Detector(settings)
        self._pool = ThreadPoolExecutor(int(parameters["threads"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        given = [[self._given(request, name) for name in self._inputs] for request in requests]
        rows = [row for tensors in given for row in zip(*tensors, strict=True)]
        found = self._pool.map(self._attempt, rows)
        return [self._response([next(found) for _ in tensors[0]]) for tensors in given]

    def _given(self, request: Any, name: str) -> Any:
        return self._pb.get_input_tensor_by_name(request, name).as_numpy()

    def _attempt(self, row: tuple[Array, ...]) -> "Found | ValueError":
        try:
            return self._detector(*row)
        except ValueError as error:
            return error

    def _response(self, found: "list[Found | ValueError]") -> Any:
        count = len(found)
        boxes, scores = np.zeros((count, self._most, 4), np.float32), np.zeros((count, self._most), np.float32)
        classes, counts = np.zeros((count, self._most), np.int32), np.zeros((count, 1), np.int32)
        for row, one in enumerate(found):
            if isinstance(one, ValueError):
                return self._pb.InferenceResponse([], self._pb.TritonError(str(one)))
            number = len(one[1])
            boxes[row, :number], scores[row, :number], classes[row, :number] = one
            counts[row] = number
        tensors = zip(self._outputs, (boxes, scores, classes, counts), strict=True)
        return self._pb.InferenceResponse([self._pb.Tensor(*pair) for pair in tensors])

    def finalize(self) -> None:
        self._pool.shutdown()
