"""The datasets arrive checked, and the validation split never moves."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from torchvision import datasets

from training.data import SOURCES, load_test, load_training
from training.errors import DataUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from training.data import Split


def digest(split: Split) -> str:
    return hashlib.sha256(split.images.numpy().tobytes() + split.labels.numpy().tobytes()).hexdigest()[:16]


@pytest.mark.data  # the split is of the real images
def test_the_validation_split_is_the_same_for_ever(data_folder: Path) -> None:
    assert digest(load_training("mnist", 5_000, data_folder).validation) == "6487ac976f3bf65d"
    assert digest(load_training("fashion-mnist", 10_000, data_folder).validation) == "7e3dac1f3f5d1282"


@pytest.mark.data  # counts real images
def test_training_and_validation_share_no_image_and_lose_none(data_folder: Path) -> None:
    whole = load_training("mnist", 0, data_folder)
    splits = load_training("mnist", 5_000, data_folder)
    assert len(whole.validation) == 0
    assert [len(split) for split in splits] == [55_000, 5_000]
    assert torch.equal(
        torch.cat([splits.training.labels, splits.validation.labels]).bincount(),
        whole.training.labels.bincount(),
    )
    sums = [split.images.sum(dtype=torch.int64) for split in (*splits, whole.training)]
    assert sums[0] + sums[1] == sums[2]


@pytest.mark.data  # the smaller split is taken from the same real images
def test_the_smaller_validation_split_is_part_of_the_larger(data_folder: Path) -> None:
    small, large = (load_training("mnist", count, data_folder).validation for count in (5_000, 10_000))
    rows = {image.tobytes() for image in large.images.numpy()}
    assert all(image.tobytes() in rows for image in small.images.numpy())


@pytest.mark.data  # reads the real test files
@pytest.mark.parametrize("dataset", SOURCES)
def test_images_are_uint8_and_labels_are_whole_numbers(dataset: str, data_folder: Path) -> None:
    test = load_test(dataset, data_folder)
    assert test.images.shape == (10_000, 28, 28)
    assert test.images.dtype == torch.uint8
    assert test.labels.dtype == torch.int64
    assert test.labels.unique().tolist() == list(range(10))


@pytest.mark.data  # damages a copy of the real files
def test_a_damaged_file_is_named_with_its_checksum(data_folder: Path, tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in SOURCES["mnist"].md5:
        shutil.copyfile(data_folder / "MNIST" / "raw" / name, raw / name)
    damaged = raw / "t10k-images-idx3-ubyte"
    content = bytearray(damaged.read_bytes())
    content[1_000] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(DataUnavailable, match="t10k-images-idx3-ubyte is damaged: its MD5 is") as caught:
        load_test("mnist", tmp_path)
    assert SOURCES["mnist"].md5["t10k-images-idx3-ubyte"] in str(caught.value)


@pytest.mark.parametrize("dataset", SOURCES)
def test_without_data_and_network_the_error_says_what_to_put_where(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = SOURCES[dataset]
    # Nobody listens on port 9, so every mirror refuses at once.
    monkeypatch.setattr(getattr(datasets, source.folder), "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(DataUnavailable) as caught:
        load_training(dataset, 5_000, tmp_path)
    for name in source.md5:
        assert str(tmp_path / source.folder / "raw" / name) in str(caught.value)


@pytest.mark.data  # finds the real files by the variable
def test_the_folder_is_taken_from_the_environment(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITSERVE_DATA", str(data_folder))
    assert len(load_test("mnist")) == 10_000


def test_importing_training_loads_no_dataset_library() -> None:
    code = "import sys, training.ship; sys.exit('torchvision' in sys.modules)"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
