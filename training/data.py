"""MNIST and Fashion-MNIST as uint8 tensors: found or fetched, checked, and split once and for all."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch

from training.errors import DataUnavailable

if TYPE_CHECKING:
    from torch import Tensor

ROOT: Final = Path(__file__).resolve().parent.parent
# Not the training seed: runs with different seeds must be judged on the same images.
VALIDATION_SEED: Final = 20_240_229


@dataclass(frozen=True)
class Source:
    """What one dataset is called, how its pixels are spread, and what its four files must contain."""

    folder: str  # torchvision's name: the class and the folder
    canonical_form: str
    labels: tuple[str, ...]
    mean: float  # of the training pixels divided by 255
    standard_deviation: float
    md5: dict[str, str]  # of the uncompressed files in <folder>/raw


SOURCES: Final = {
    "mnist": Source(
        folder="MNIST",
        canonical_form="digit",
        labels=("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
        mean=0.1307,
        standard_deviation=0.3081,
        md5={
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
    ),
    "fashion-mnist": Source(
        folder="FashionMNIST",
        canonical_form="garment",
        labels=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        mean=0.2860,
        standard_deviation=0.3530,
        md5={
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
    ),
}


@dataclass(frozen=True)
class Split:
    """Images and their labels, side by side on one device."""

    images: Tensor  # uint8 [n, 28, 28], 0 is background
    labels: Tensor  # int64 [n]

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        return Split(self.images.to(device), self.labels.to(device))


class Splits(NamedTuple):
    """The images that weights are trained on, and those that choose between trainings."""

    training: Split
    validation: Split  # may be empty

    def to(self, device: torch.device) -> Splits:
        return Splits(self.training.to(device), self.validation.to(device))


def load_training(dataset: str, validation_images: int, folder: Path | None = None) -> Splits:
    """Return the training and the validation split of the 60,000 training images.

    The validation split is the first `validation_images` of one fixed shuffle, not stratified: the smaller
    split is part of the larger, and no training seed moves it.

    Raises:
        DataUnavailable: a sentence that says what to put where.
    """
    everything = _load(dataset, folder, train=True)
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(VALIDATION_SEED))
    held_out, kept = order[:validation_images].sort().values, order[validation_images:].sort().values
    return Splits(
        training=Split(everything.images[kept], everything.labels[kept]),
        validation=Split(everything.images[held_out], everything.labels[held_out]),
    )


def load_test(dataset: str, folder: Path | None = None) -> Split:
    """Return the 10,000 test images; whoever asks a model about them writes it into the ledger."""
    return _load(dataset, folder, train=False)


def _load(dataset: str, folder: Path | None, *, train: bool) -> Split:
    source = SOURCES[dataset]
    root = folder or _default_folder()
    raw = root / source.folder / "raw"
    names = [name for name in source.md5 if name.startswith("train" if train else "t10k")]
    if not all((raw / name).exists() for name in names):
        _download(source, root)
    for name in names:
        _check(raw / name, source.md5[name])
    content = _torchvision_class(source)(root, train=train, download=False)
    return Split(content.data, content.targets.long())


def _default_folder() -> Path:
    return Path(os.environ.get("DIGITSERVE_DATA") or ROOT / "data")


def _download(source: Source, root: Path) -> None:
    try:
        _torchvision_class(source)(root, download=True)
    except (RuntimeError, OSError) as exc:
        wanted = "\n".join(f"  {root / source.folder / 'raw' / name}" for name in source.md5)
        raise DataUnavailable(
            f"{source.folder} is not in {root} and could not be downloaded ({exc}).\n"
            f"Put these uncompressed files there:\n{wanted}\n"
            f"or point --data or DIGITSERVE_DATA at the folder that holds {source.folder}/raw."
        ) from exc


def _torchvision_class(source: Source) -> Any:
    from torchvision import datasets  # noqa: PLC0415  takes seconds, and only reading images needs it

    return getattr(datasets, source.folder)


def _check(path: Path, expected: str) -> None:
    actual = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if actual != expected:
        raise DataUnavailable(
            f"{path} is damaged: its MD5 is {actual} and should be {expected}. Delete it and start again."
        )
