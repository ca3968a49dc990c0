"""MNIST and Fashion-MNIST as uint8 tensors: found or fetched, checked, and split once and for all."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from torch import Tensor

ROOT: Final = Path(__file__).resolve().parent.parent
TRAINING_IMAGES: Final = 60_000
# Which images are held out for validation must not follow the training seed, or two runs could not be compared.
VALIDATION_SEED: Final = 20_240_229


class DataUnavailable(Exception):
    """The images are not here, cannot be fetched, or are not what they should be."""


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

    def first(self, count: int) -> Split:
        return Split(self.images[:count], self.labels[:count])


def load_training(
    dataset: str, validation_images: int, folder: Path | None = None
) -> tuple[Split, Split]:
    """Return the training and the validation split of the 60,000 training images.

    The validation split is the first `validation_images` of one fixed shuffle, so the smaller split is part of
    the larger, and no training seed moves it.

    Raises:
        DataUnavailable: a sentence that says what to put where.
    """
    everything = _load(dataset, folder, train=True)
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(VALIDATION_SEED))
    held_out, kept = order[:validation_images].sort().values, order[validation_images:].sort().values
    return (
        Split(everything.images[kept], everything.labels[kept]),
        Split(everything.images[held_out], everything.labels[held_out]),
    )


def load_test(dataset: str, folder: Path | None = None) -> Split:
    """Return the 10,000 test images; whoever asks a model about them writes it into the ledger."""
    return _load(dataset, folder, train=False)


def _load(dataset: str, folder: Path | None, *, train: bool) -> Split:
    from torchvision import datasets  # takes seconds to import, and only this function needs it

    source = SOURCES[dataset]
    root = folder or _default_folder()
    raw = root / source.folder / "raw"
    names = [name for name in source.md5 if name.startswith("train" if train else "t10k")]
    if not all((raw / name).exists() for name in names):
        _download(source, root)
    for name in names:
        _check(raw / name, source.md5[name])
    content = getattr(datasets, source.folder)(root, train=train, download=False)
    return Split(content.data, content.targets.long())


def _default_folder() -> Path:
    return Path(os.environ.get("DIGITSERVE_DATA") or ROOT / "data")


def _download(source: Source, root: Path) -> None:
    from torchvision import datasets

    try:
        getattr(datasets, source.folder)(root, download=True)
    except (RuntimeError, OSError) as exc:
        wanted = "\n".join(f"  {root / source.folder / 'raw' / name}" for name in source.md5)
        raise DataUnavailable(
            f"{source.folder} is not in {root} and could not be downloaded ({exc}). Put the uncompressed files\n"
            f"{wanted}\nthere, or point --data or DIGITSERVE_DATA at the folder that holds {source.folder}/raw."
        ) from exc


def _check(path: Path, expected: str) -> None:
    actual = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if actual != expected:
        raise DataUnavailable(
            f"{path} is damaged: its MD5 is {actual} and should be {expected}. Delete it and start again."
        )
