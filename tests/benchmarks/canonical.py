"""What each step of the canonicaliser is worth, and what it all costs.

    python -m tests.benchmarks.canonical --data data --wild FOLDER

prints a table: for each set of pictures the accuracy with every step, and by how many points it changes with
one step switched off. The sets are images of the dataset drawn again in many ways, scikit-learn's 8x8 digits
enlarged by several filters, and any folder of pictures with a `labels.csv` (columns file and label).
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

from service import canonical, digits, ink, strokes
from service.errors import ImageRejected
from service.images import read_image

from .renderings import RENDERINGS
from .scene import FILTERS, WHITE, paint, save

Uploads = tuple[list[bytes], NDArray[np.integer]]  # pictures and their labels
MAX_PIXELS = 50_000_000
ENLARGED = dict(zip(("nearest", "linear", "cubic", "lanczos"), FILTERS, strict=True))


def without_colour(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey, and ink is dark."""
    return np.full(picture.shape[2], -1 / picture.shape[2], np.float32)


def edge_colour(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """One paper for the whole picture: the median of its edge."""
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    return np.full_like(picture, np.median(edge, axis=0).astype(np.uint8)).squeeze()


def without_opacity(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return picture[:, :, :3] if picture.ndim == 3 else picture[:, :, np.newaxis]


def place_by_box(drawn: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Put the middle of the box, not the centre of mass, into the middle."""
    small = np.clip(digits.to_side(drawn, digits.BOX), 0, 1)
    canvas = np.zeros((digits.SIDE, digits.SIDE), np.uint8)
    top, left = ((digits.SIDE - side) // 2 for side in small.shape)
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = np.rint(small * 255)
    return canvas


def off(module: object, name: str, instead: object) -> AbstractContextManager[Any]:
    return mock.patch.object(module, name, instead)


STEPS_OFF: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "repeated pixels": lambda: off(canonical, "without_repetition", lambda picture: picture),
    "opacity": lambda: off(ink, "on_ground", without_opacity),
    "colour, polarity": lambda: off(ink, "ink_direction", without_colour),
    "local paper": lambda: off(ink, "_paper", edge_colour),
    "shadows": lambda: off(ink, "without_shadows", lambda ink, _pen: ink - ink.min()),
    "sharpening": lambda: off(ink, "sharpened", lambda ink, _pen: ink),
    "specks": lambda: off(strokes, "SPECK", 0.0),
    "sheet on a desk": lambda: off(digits, "find_sheet", lambda _mask: None),
    "frames": lambda: off(strokes, "without_frames", lambda strokes: strokes),
    "lines": lambda: off(strokes, "without_lines", lambda strokes, _shape: strokes),
    "second look": lambda: off(digits, "only", lambda drawn, _digit: drawn),
    "even pen": lambda: off(digits, "even_pen", lambda drawn: drawn),
    "centre of mass": lambda: off(digits, "place", place_by_box),
}


def rendered(data: Path, split: str, count: int) -> dict[str, Uploads]:
    """Images of the dataset in every rendering; of the training set the last ones, kept for validation."""
    stem = {"train": "train", "test": "t10k"}[split]
    pixels = np.fromfile(data / "MNIST" / "raw" / f"{stem}-images-idx3-ubyte", np.uint8)[16:]
    labels = np.fromfile(data / "MNIST" / "raw" / f"{stem}-labels-idx1-ubyte", np.uint8)[8:][-count:]
    images = pixels.reshape(-1, 28, 28)[-count:]
    sets: dict[str, Uploads] = {"MNIST as it is": ([save(image / 255) for image in images], labels)}
    for rendering in RENDERINGS:
        rng = np.random.default_rng(0)
        sets[rendering.__name__.replace("_", " ")] = [rendering(image, rng) for image in images], labels
    return sets


def enlarged_digits(count: int) -> dict[str, Uploads]:
    """scikit-learn's 8x8 digits, dark on light, twenty times as large."""
    bunch = load_digits()
    images, labels = bunch.images[-count:].astype(np.float32) / 16, bunch.target[-count:]
    return {
        f"8x8, {name}": (
            [
                save(paint(cv2.resize(image, None, fx=20, fy=20, interpolation=how), WHITE, 0 * WHITE))
                for image in images
            ],
            labels,
        )
        for name, how in ENLARGED.items()
    }


def folder(path: Path) -> Uploads:
    with (path / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    uploads = [(path / "images" / row["file"]).read_bytes() for row in rows]
    return uploads, np.array([int(row["label"]) for row in rows])


def accuracy(session: ort.InferenceSession, uploads: Uploads) -> float:
    """Share of pictures read right; a refused one is read wrong."""
    pictures, labels = uploads
    images = np.zeros((len(pictures), 28, 28), np.uint8)
    read = np.zeros(len(pictures), bool)
    for index, picture in enumerate(pictures):
        try:
            images[index] = read_image(picture, "digit", "auto", MAX_PIXELS)
        except ImageRejected:
            continue
        read[index] = True
    parts = np.array_split(images, 1 + len(images) // 256)
    probabilities = np.concatenate([session.run(["probabilities"], {"images": part})[0] for part in parts])
    return float((read & (probabilities.argmax(axis=1) == labels)).mean())


def print_accuracies(console: Console, session: ort.InferenceSession, sets: dict[str, Uploads]) -> None:
    table = Table("pictures", "count", "all steps, %", *STEPS_OFF, title="points lost without a step")
    columns = [nullcontext, *STEPS_OFF.values()]
    for name, uploads in sets.items():
        shares = []
        for step_off in columns:
            with step_off():
                shares.append(100 * accuracy(session, uploads))
        losses = [
            f"{share - shares[0]:+.1f}" if abs(share - shares[0]) > 0.05 else "" for share in shares[1:]
        ]
        table.add_row(name, str(len(uploads[0])), f"{shares[0]:.2f}", *losses)
    console.print(table)


def print_costs(console: Console, session: ort.InferenceSession) -> None:
    """Median milliseconds of the thread's processor time, on one core."""
    rng = np.random.default_rng(0)
    canvas = np.full((280, 280, 4), 255, np.uint8)
    cv2.ellipse(canvas, (140, 140), (50, 80), 10, 0, 300, (0, 0, 0, 255), 14, cv2.LINE_AA)
    photo = rng.normal(200, 6, (3000, 4000, 3)).clip(0, 255).astype(np.uint8)
    cv2.ellipse(photo, (1800, 1400), (500, 800), 10, 0, 300, (60, 40, 40), 60, cv2.LINE_AA)
    drawing = canvas[40:236:7, 40:236:7, 0]
    dataset = read_image(save(drawing / 255), "digit", "auto", MAX_PIXELS)
    uploads = {
        "28x28 in canonical form, PNG": (save(dataset / 255), 500),
        "28x28 drawing, PNG": (save(drawing / 255), 200),
        "280x280 canvas, PNG": (save(canvas / 255), 200),
        "12 megapixels, JPEG": (save(photo / 255, "JPEG", quality=85), 15),
    }
    table = Table("upload", "kB", "digit, ms", "garment, ms", title="cost of one upload")
    for name, (upload, repeats) in uploads.items():
        row = [f"{cost_ms(upload, form, repeats):.3f}" for form in ("digit", "garment")]
        table.add_row(name, f"{len(upload) / 1000:.1f}", *row)
    console.print(table)


def cost_ms(upload: bytes, form: str, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        read_image(upload, form, "auto", MAX_PIXELS)
        times.append(1000 * (time.thread_time() - start))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("models/mnist-cnn.onnx"))
    data = Path(os.environ.get("DIGITSERVE_DATA", "data"))
    parser.add_argument("--data", type=Path, default=data, help="folder in torchvision's layout")
    parser.add_argument("--split", choices=("train", "test"), default="train")
    parser.add_argument("--wild", type=Path, help="folder of labels.csv and images/")
    parser.add_argument("--images", type=int, default=200, help="of each rendering")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(arguments.model, options, providers=["CPUExecutionProvider"])
    sets = {"wild digits": folder(arguments.wild)} if arguments.wild else {}
    sets |= enlarged_digits(arguments.images) | rendered(arguments.data, arguments.split, arguments.images)
    console = Console(width=190)
    print_accuracies(console, session, sets)
    print_costs(console, session)


if __name__ == "__main__":
    main()
