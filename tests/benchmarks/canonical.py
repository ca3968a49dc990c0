"""What each step of the canonicaliser is worth, and what it all costs.

    python -m tests.benchmarks.canonical --data data --wild FOLDER --wild-garments FOLDER

prints a table for digits and one for garments: for each set of pictures the accuracy with every step, and by
how many points it changes with one step switched off. The sets are images of the dataset drawn again in many
ways, scikit-learn's 8x8 digits enlarged by several filters, and any folder of pictures with a `labels.csv`
(columns file and label, and maybe background). A further table tells of pictures of several digits.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

from service.canonical import CanonicalForm
from service.errors import ImageRejected, SeveralDigits
from service.images import read_digits, read_image

from . import records
from .garment_renderings import RENDERINGS as GARMENT_RENDERINGS
from .numbers import written_together
from .renderings import RENDERINGS
from .scene import FILTERS, WHITE, paint, save
from .steps import DIGIT_STEPS, GARMENT_STEPS
from .surroundings import SURROUNDINGS

Uploads = tuple[list[bytes], NDArray[np.integer]]  # pictures and their labels
MAX_PIXELS = 50_000_000
ENLARGED = dict(zip(("nearest", "linear", "cubic", "lanczos"), FILTERS, strict=True))


def rendered(data: Path, form: CanonicalForm, split: str, count: int) -> dict[str, Uploads]:
    """Images of the dataset in every rendering; of the training set the last ones, kept for validation."""
    images, labels = data_set(data, form, split)
    images, labels = images[-count:], labels[-count:]
    sets: dict[str, Uploads] = {"as it is": ([save(image / 255) for image in images], labels)}
    for rendering in {"digit": RENDERINGS + SURROUNDINGS, "garment": GARMENT_RENDERINGS}[form]:
        rng = np.random.default_rng(0)
        sets[rendering.__name__.replace("_", " ")] = [rendering(image, rng) for image in images], labels
    return sets


def data_set(data: Path, form: CanonicalForm, split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    stem = {"train": "train", "test": "t10k"}[split]
    raw = data / {"digit": "MNIST", "garment": "FashionMNIST"}[form] / "raw"
    pixels = np.fromfile(raw / f"{stem}-images-idx3-ubyte", np.uint8)[16:]
    return pixels.reshape(-1, 28, 28), np.fromfile(raw / f"{stem}-labels-idx1-ubyte", np.uint8)[8:]


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


def folder(path: Path) -> dict[str, Uploads]:
    """Pictures found elsewhere; apart by their ground where `labels.csv` tells photographs from others."""
    with (path / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    sets: dict[str, Uploads] = {}
    for name, is_photo in (("wild photographs", True), ("wild", False)):
        some = [row for row in rows if (row.get("background") == "photo") == is_photo]
        if some:
            uploads = [(path / "images" / row["file"]).read_bytes() for row in some]
            sets[name] = uploads, np.array([int(row["label"]) for row in some])
    return sets


@dataclass(frozen=True)
class Outcome:
    """Shares of a set of pictures, from 0 to 1; a refused one is read wrong."""

    right: float
    several: float  # refused, as if they showed several digits


def outcome(session: ort.InferenceSession, form: CanonicalForm, uploads: Uploads) -> Outcome:
    pictures, labels = uploads
    images = np.zeros((len(pictures), 28, 28), np.uint8)
    read = np.zeros(len(pictures), bool)
    several = 0
    for index, picture in enumerate(pictures):
        try:
            images[index] = read_image(picture, form, "auto", MAX_PIXELS)
            read[index] = True
        except ImageRejected as rejected:
            several += isinstance(rejected, SeveralDigits)
    right = read & (classify(session, images) == labels)
    return Outcome(float(right.mean()), several / len(pictures))


def classify(session: ort.InferenceSession, images: NDArray[np.uint8]) -> NDArray[np.integer]:
    """The likeliest label of each of the images (n, 28, 28)."""
    parts = np.array_split(images, 1 + len(images) // 256)
    probabilities = np.concatenate([session.run(["probabilities"], {"images": part})[0] for part in parts])
    return np.asarray(probabilities.argmax(axis=1))


def print_accuracies(
    console: Console, model: Path, form: CanonicalForm, sets: dict[str, Uploads], *, with_steps: bool
) -> None:
    session = open_session(model)
    steps = {"digit": DIGIT_STEPS, "garment": GARMENT_STEPS}[form] if with_steps else {}
    more = ["several, %"] if form == "digit" else []
    title = f"{form}s read right, and points changed without a step"
    table = Table("pictures", "count", "all steps, %", *more, *steps, title=title)
    for name, uploads in sets.items():
        whole = outcome(session, form, uploads)
        changes = []
        for step_off in steps.values():
            with step_off():
                changes.append(100 * (outcome(session, form, uploads).right - whole.right))
        told = [f"{change:+.1f}" if abs(change) > 0.05 else "" for change in changes]
        several = [f"{100 * whole.several:.1f}"] if more else []
        table.add_row(name, str(len(uploads[0])), f"{100 * whole.right:.2f}", *several, *told)
    console.print(table)


def print_mistakes(console: Console, model: Path, form: CanonicalForm, path: Path) -> None:
    """Each picture of a folder that is not read right; models/README.md says what the networks read worse."""
    session = open_session(model)
    with (path / "labels.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                pixels = read_image((path / "images" / row["file"]).read_bytes(), form, "auto", MAX_PIXELS)
                answer = str(classify(session, pixels[np.newaxis])[0])
            except ImageRejected as rejected:
                answer = rejected.code
            if answer != row["label"]:
                console.print(f"{path.name}/{row['file']} shows {row['label']}, read as {answer}")


def print_several_digits(console: Console, model: Path, data: Path, count: int) -> None:
    """Two to five digits on one picture: how many pictures are refused, how many digits found and right."""
    session = open_session(model)
    images, labels = data_set(data, "digit", "train")
    images, labels = images[-5000:], labels[-5000:]
    rng = np.random.default_rng(0)
    refused = exact = right = 0
    overlaps: list[float] = []
    for written in (written_together(images, rng) for _ in range(count)):
        found = read_digits(written.upload, MAX_PIXELS)
        refused += len(found) > 1
        exact += len(found) == len(written.members)
        said = classify(session, np.stack([segment.pixels for segment in found]))
        for member, box in zip(written.members, written.boxes, strict=True):
            overlap, label = max(
                (overlap_of(one.box, box), int(k)) for one, k in zip(found, said, strict=True)
            )
            overlaps.append(overlap)
            right += label == labels[member]
    table = Table("pictures", "refused, %", "as many found, %", "digits", "right, %", "overlap of boxes")
    table.title = "two to five training digits on one picture"
    shares = [f"{100 * refused / count:.1f}", f"{100 * exact / count:.1f}", str(len(overlaps))]
    table.add_row(str(count), *shares, f"{100 * right / len(overlaps):.1f}", f"{np.mean(overlaps):.2f}")
    console.print(table)


def overlap_of(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    sides = [
        max(0, min(one[k] + one[k + 2], other[k] + other[k + 2]) - max(one[k], other[k])) for k in (0, 1)
    ]
    shared = sides[0] * sides[1]
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def print_costs() -> None:
    """Median milliseconds of the thread's processor time, on one core."""
    rng = np.random.default_rng(0)
    canvas = np.full((280, 280, 4), 255, np.uint8)
    cv2.ellipse(canvas, (140, 140), (50, 80), 10, 0, 300, (0, 0, 0, 255), 14, cv2.LINE_AA)
    photo = rng.normal(200, 6, (3000, 4000, 3)).clip(0, 255).astype(np.uint8)
    cv2.ellipse(photo, (1800, 1400), (500, 800), 10, 0, 300, (60, 40, 40), 60, cv2.LINE_AA)
    drawing = canvas[40:236:7, 40:236:7, 0]
    uploads = {
        "28x28 drawing, PNG": (save(drawing / 255), 200),
        "280x280 canvas, PNG": (save(canvas / 255), 200),
        "12 megapixels, JPEG": (save(photo / 255, "JPEG", quality=85), 15),
    }
    forms: tuple[CanonicalForm, ...] = ("digit", "garment")
    samples = {"28x28 in canonical form, PNG": {form: canonical_cost_ms(drawing, form) for form in forms}}
    for name, (upload, repeats) in uploads.items():
        samples[name] = {form: cost_ms(upload, form, repeats) for form in forms}
    rows = [[name, *(f"{each:.3f}" for each in costs.values())] for name, costs in samples.items()]
    columns = ("upload", "digit, ms", "garment, ms")
    records.record("canonical", "cost", records.Table("cost of one upload", columns, rows), samples)


def canonical_cost_ms(drawing: NDArray[np.uint8], form: CanonicalForm) -> float:
    """What a drawing costs that the form's data set could hold as it is."""
    canonical = read_image(save(drawing / 255), form, "auto", MAX_PIXELS)
    return cost_ms(save(canonical / 255), form, 500)


def cost_ms(upload: bytes, form: CanonicalForm, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        read_image(upload, form, "auto", MAX_PIXELS)
        times.append(1000 * (time.thread_time() - start))
    return statistics.median(times)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--digits", type=Path, default=Path("models/mnist-cnn.onnx"))
    parser.add_argument("--garments", type=Path, default=Path("models/fashion-mnist-cnn.onnx"))
    data = Path(os.environ.get("DIGITSERVE_DATA", "data"))
    parser.add_argument("--data", type=Path, default=data, help="folder in torchvision's layout")
    parser.add_argument("--split", choices=("train", "test"), default="train", help="test: all steps alone")
    parser.add_argument("--wild", type=Path, help="folder of digits: labels.csv and images/")
    parser.add_argument("--wild-garments", type=Path, help="folder of garments: labels.csv and images/")
    parser.add_argument("--images", type=int, default=200, help="of each rendering")
    parser.add_argument("--only", choices=("digits", "garments", "costs"), help="one table alone")
    return parser.parse_args()


def open_session(model: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def main() -> None:
    asked = arguments()
    cv2.setNumThreads(1)
    console = Console(width=200)
    with_steps = asked.split == "train"  # nothing is chosen on test images, so nothing is compared on them
    if asked.only in (None, "digits"):
        sets = folder(asked.wild) if asked.wild else {}
        sets |= enlarged_digits(asked.images) | rendered(asked.data, "digit", asked.split, asked.images)
        print_accuracies(console, asked.digits, "digit", sets, with_steps=with_steps)
        if asked.wild:
            print_mistakes(console, asked.digits, "digit", asked.wild)
        print_several_digits(console, asked.digits, asked.data, asked.images)
    if asked.only in (None, "garments"):
        sets = folder(asked.wild_garments) if asked.wild_garments else {}
        sets |= rendered(asked.data, "garment", asked.split, asked.images)
        print_accuracies(console, asked.garments, "garment", sets, with_steps=with_steps)
        if asked.wild_garments:
            print_mistakes(console, asked.garments, "garment", asked.wild_garments)
    if asked.only in (None, "costs"):
        print_costs()


if __name__ == "__main__":
    main()
