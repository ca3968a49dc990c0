"""Every augmentation acts as its field says, and on every image by itself."""

from __future__ import annotations

import pytest
import torch
from tiny_training import changed

from training.augment import augment
from training.recipes import RECIPES, Recipe

FIELDS = {
    "flip": True,
    "shift_pixels": 2.0,
    "rotation_degrees": 20.0,
    "shear_degrees": 20.0,
    "scaling": 0.3,
    "elastic_pixels": 1.0,
    "stroke": 1.0,
    "blur": 1.0,
    "tone": 0.5,
    "grain": 0.2,
    "gaps": 1.0,
    "residue": 1.0,
    "erasing": 1.0,
}


@pytest.fixture
def strokes() -> torch.Tensor:
    """64 images of an L, off the middle, in soft strokes four pixels wide."""
    image = torch.zeros(28, 28)
    image[5:23, 9:13] = 0.8
    image[19:23, 9:20] = 0.8
    return image.repeat(64, 1, 1)


def draw(pixels: torch.Tensor, recipe: Recipe, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return augment(pixels, torch.zeros(len(pixels), dtype=torch.int64), recipe)


def test_without_augmentation_pixels_pass_unchanged(tiny: Recipe, strokes: torch.Tensor) -> None:
    assert torch.equal(draw(strokes, tiny), strokes)


@pytest.mark.parametrize("field", FIELDS)
def test_each_field_changes_images_each_in_its_own_way(
    tiny: Recipe, strokes: torch.Tensor, field: str
) -> None:
    before = strokes.clone()
    after = draw(strokes, changed(tiny, **{field: FIELDS[field]}))
    assert after.shape == strokes.shape
    assert torch.equal(strokes, before)
    assert len({image.numpy().tobytes() for image in after}) > (1 if field == "flip" else 32)
    assert after.min() >= 0
    assert after.max() <= 1


@pytest.mark.parametrize("field", FIELDS)
def test_the_same_draw_gives_the_same_images(tiny: Recipe, strokes: torch.Tensor, field: str) -> None:
    recipe = changed(tiny, **{field: FIELDS[field]})
    assert torch.equal(draw(strokes, recipe), draw(strokes, recipe))
    assert not torch.equal(draw(strokes, recipe), draw(strokes, recipe, seed=1))


def test_a_flip_mirrors_about_half_of_the_images(tiny: Recipe, strokes: torch.Tensor) -> None:
    after = draw(strokes.repeat(8, 1, 1), changed(tiny, flip=True))
    mirrored = (after == strokes[0].flip(1)).all(dim=(1, 2))
    kept = (after == strokes[0]).all(dim=(1, 2))
    assert torch.all(mirrored ^ kept)
    assert 200 < int(mirrored.sum()) < 312


def test_a_shift_moves_the_centre_no_further_than_asked(tiny: Recipe, strokes: torch.Tensor) -> None:
    moved = centre(draw(strokes, changed(tiny, shift_pixels=2.0))) - centre(strokes)
    assert moved.abs().max() < 2.01
    assert moved.abs().max() > 1.5


def test_a_rotation_keeps_the_size_and_turns_by_no_more_than_asked(tiny: Recipe) -> None:
    bar = torch.zeros(64, 28, 28)
    bar[:, 4:24, 13:15] = 1.0
    after = draw(bar, changed(tiny, rotation_degrees=20.0))
    angles = principal_angle(after)
    assert angles.abs().max() < 21
    assert angles.abs().max() > 15
    assert after.sum((1, 2)) == pytest.approx(bar.sum((1, 2)).numpy(), rel=0.03)


def test_scaling_changes_the_area_by_no_more_than_asked(tiny: Recipe, strokes: torch.Tensor) -> None:
    ratio = draw(strokes, changed(tiny, scaling=0.2)).sum((1, 2)) / strokes.sum((1, 2))
    assert ratio.max() < 1.2**2 * 1.03
    assert ratio.min() > 1 / 1.2**2 * 0.97
    assert ratio.max() - ratio.min() > 0.3


def test_strokes_grow_thicker_and_thinner_but_never_vanish(tiny: Recipe) -> None:
    bar = torch.zeros(256, 28, 28)
    bar[:, 4:24, 13:15] = 1.0  # two pixels wide: full erosion would leave nothing
    ratio = draw(bar, changed(tiny, stroke=1.0)).sum((1, 2)) / bar.sum((1, 2))
    assert ratio.max() > 1.7
    assert 0.45 < ratio.min() < 0.6


def test_a_blur_keeps_the_ink_and_softens_every_edge(tiny: Recipe, strokes: torch.Tensor) -> None:
    after = draw(strokes, changed(tiny, blur=1.0))
    assert torch.allclose(after.sum((1, 2)), strokes.sum((1, 2)), rtol=1e-4)
    assert torch.all(steepness(after) <= steepness(strokes))
    assert steepness(after).min() < 0.5 * steepness(strokes).min()


def test_a_tone_changes_grey_alone_and_keeps_the_order_of_brightness(tiny: Recipe) -> None:
    ramp = torch.linspace(0, 1, 784).reshape(1, 28, 28).repeat(64, 1, 1)
    after = draw(ramp, changed(tiny, tone=0.5))
    assert torch.equal(after[:, [0, -1], [0, -1]], ramp[:, [0, -1], [0, -1]])
    assert torch.all(after.flatten(1).diff() >= 0)
    middles = after.flatten(1)[:, 392]
    assert 0.5**1.65 - 0.01 < middles.min() < 0.35
    assert 0.65 < middles.max() < 0.5**0.6 + 0.01


def test_grain_lies_on_the_ink_alone(tiny: Recipe, strokes: torch.Tensor) -> None:
    after = draw(strokes, changed(tiny, grain=0.2))
    assert not after[strokes == 0].any()
    spread = after[:, strokes[0] > 0].std(dim=1) / 0.8
    assert 0.1 < spread.max() < 0.2
    assert spread.min() < 0.05


def test_gaps_are_straight_narrow_and_one_or_two(tiny: Recipe) -> None:
    ones = torch.ones(256, 28, 28)
    kept = draw(ones, changed(tiny, gaps=1.0))
    lost = (1 - kept).sum((1, 2))  # length times width: lines so near the middle are 25 to 40 pixels long
    assert 0.6 * 25 < lost.min() < 0.8 * 28
    assert 1.6 * 40 < lost.max() < 2 * 1.6 * 40
    single = kept[lost < 0.9 * 28]  # too little for two
    rows, columns = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    for image in 1 - single:
        points = torch.stack((rows[image > 0], columns[image > 0]), 1)
        _, spread, _ = torch.pca_lowrank(points, q=2)
        assert spread[1] / len(points) ** 0.5 < 0.8  # pixels, across the line
    assert len(single) > 20


def test_residue_lies_beside_the_ink_and_never_darkens_it(tiny: Recipe, strokes: torch.Tensor) -> None:
    after = draw(strokes, changed(tiny, residue=1.0))
    assert torch.all(after >= strokes)
    covered = (after > strokes).float().mean()
    assert 0.05 < float(covered) < 0.25


def test_residue_spares_the_share_that_it_should(tiny: Recipe) -> None:
    after = draw(torch.zeros(2_000, 28, 28), changed(tiny, residue=0.25))
    touched = after.flatten(1).any(dim=1).float().mean()
    assert float(touched) == pytest.approx(0.25, abs=0.05)


def test_erasing_blanks_one_rectangle(tiny: Recipe) -> None:
    after = draw(torch.ones(64, 28, 28), changed(tiny, erasing=1.0))
    for image in after:
        blank = image == 0
        rows, columns = blank.any(1), blank.any(0)
        assert torch.equal(blank, rows[:, None] & columns[None, :])
        assert 0 < int(blank.sum()) <= 0.45 * 28 * 28


def test_erasing_spares_the_share_that_it_should(tiny: Recipe) -> None:
    after = draw(torch.ones(2_000, 28, 28), changed(tiny, erasing=0.25))
    touched = (after == 0).any(dim=2).any(dim=1).float().mean()
    assert float(touched) == pytest.approx(0.25, abs=0.04)


def test_the_plain_share_is_mirrored_and_nothing_else(tiny: Recipe, strokes: torch.Tensor) -> None:
    recipe = changed(tiny, flip=True, shift_pixels=2.0, scaling=0.3, grain=0.2, plain=0.25)
    after = draw(strokes.repeat(32, 1, 1), recipe)
    kept, mirrored = ((after == plain).all(dim=(1, 2)) for plain in (strokes[0], strokes[0].flip(1)))
    assert float((kept | mirrored).float().mean()) == pytest.approx(0.25, abs=0.04)
    assert float(mirrored.sum() / (kept | mirrored).sum()) == pytest.approx(0.5, abs=0.1)


def test_plain_images_are_erased_as_often_as_others(tiny: Recipe, strokes: torch.Tensor) -> None:
    after = draw(strokes.repeat(32, 1, 1), changed(tiny, grain=0.2, plain=1.0, erasing=0.4))
    kept = (after == strokes[0]).all(dim=(1, 2))
    blanked = ((after == strokes[0]) | (after == 0)).all(dim=(1, 2))
    assert blanked.all()
    assert 0.5 < float(kept.float().mean()) < 0.75  # of those erased some lose nothing but background


@pytest.mark.parametrize(
    "name",
    [
        "mnist-mlp",
        "mnist-cnn",
        "mnist-resnet",
        "fashion-mnist-mlp",
        "fashion-mnist-cnn",
        "fashion-mnist-resnet",
    ],
)
def test_the_served_recipes_augment(name: str, strokes: torch.Tensor) -> None:
    assert not torch.equal(draw(strokes, RECIPES[name]), strokes)


def steepness(images: torch.Tensor) -> torch.Tensor:
    """Return the largest step between neighbouring pixels of each image, [batch]."""
    return images.diff(dim=2).abs().amax((1, 2))


def centre(images: torch.Tensor) -> torch.Tensor:
    """Return the centre of mass of each image, [batch, 2], in pixels."""
    places = torch.arange(28.0)
    mass = images.sum((1, 2))
    return torch.stack(((images.sum(2) @ places) / mass, (images.sum(1) @ places) / mass), 1)


def principal_angle(images: torch.Tensor) -> torch.Tensor:
    """Return how far each upright bar leans, [batch], in degrees."""
    middle = centre(images)
    rows = torch.arange(28.0)[None, :, None] - middle[:, 0, None, None]
    columns = torch.arange(28.0)[None, None, :] - middle[:, 1, None, None]
    covariance = (images * rows * columns).sum((1, 2))
    spread = (images * rows**2).sum((1, 2)) - (images * columns**2).sum((1, 2))
    return torch.rad2deg(torch.atan2(2 * covariance, spread) / 2)
