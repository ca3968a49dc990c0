"""The pictures that judge doubt are what their names say, in the form that the dataset has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from training.data import load_test
from training.families import FONTS, LETTERS, draw_checkerboards, draw_families, draw_letters

if TYPE_CHECKING:
    from pathlib import Path


def extents(images: np.ndarray) -> np.ndarray:
    """The longer side of what is on each picture."""
    sides = []
    for axis in (1, 2):
        filled = images.max(axis=axis) > 0
        sides.append(images.shape[1] - filled.argmax(1) - filled[:, ::-1].argmax(1))
    return np.maximum(*sides)


@pytest.mark.parametrize(("form", "longer_side"), [("digit", 20), ("garment", 28)])
def test_letters_are_as_large_as_what_the_dataset_shows(form: str, longer_side: int) -> None:
    letters = draw_letters(form)
    assert letters.shape == ((len(FONTS) + 1) * len(LETTERS), 28, 28)
    assert (extents(letters) == longer_side).mean() > 0.99
    assert (letters.max(axis=(1, 2)) == 255).all()
    assert len({letter.tobytes() for letter in letters}) > 0.9 * len(letters)


def test_letters_for_digit_models_are_centred_by_their_mass() -> None:
    letters = draw_letters("digit").astype(float)
    mass = letters.sum((1, 2))
    for axis in (1, 2):
        centre = letters.sum(axis) @ np.arange(28) / mass
        # Those whose mass is near an end cannot be centred and still lie inside.
        assert (np.abs(centre - 13.5) <= 0.51).mean() > 0.99


def test_checkerboards_alternate_between_two_values() -> None:
    boards = draw_checkerboards()
    assert all(len(np.unique(board)) == 2 for board in boards)
    assert (boards[0][:, 1:] != boards[0][:, :-1]).all()
    assert (boards[0][1:] != boards[0][:-1]).all()


@pytest.mark.data
@pytest.mark.parametrize(("dataset", "other"), [("mnist", "fashion-mnist"), ("fashion-mnist", "mnist")])
def test_every_family_is_of_canonical_pixels_and_one_is_the_other_dataset(
    dataset: str, other: str, data_folder: Path
) -> None:
    families = draw_families(dataset, data_folder)
    assert list(families) == [other, "uniform noise", "checkerboards", "letters"]
    for pictures in families.values():
        assert pictures.dtype == np.uint8
        assert pictures.shape[1:] == (28, 28)
    assert np.array_equal(families[other], load_test(other, data_folder).images[:1_000].numpy())
