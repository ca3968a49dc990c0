"""Broken images are broken, every one in its way, and stay images."""

from __future__ import annotations

import pytest
import torch
from tiny_training import TINY, changed, draw_bars

from training import counterexamples
from training.counterexamples import break_images, place_digit

PIXELS = draw_bars(110, seed=3).images.float() / 255
GARMENTS = changed(TINY, dataset="fashion-mnist")


def broken_by(way: str, pixels: torch.Tensor = PIXELS) -> torch.Tensor:
    torch.manual_seed(0)
    result: torch.Tensor = getattr(counterexamples, way)(pixels)
    return result


@pytest.mark.parametrize("way", [way.__name__ for way in counterexamples._WAYS] + ["_mirror", "_scribble"])
def test_every_way_changes_nearly_every_image_and_keeps_pixels_between_0_and_1(way: str) -> None:
    broken = broken_by(way)
    assert broken.shape == PIXELS.shape
    assert broken.min() >= 0
    assert broken.max() <= 1
    changed_share = ((broken - PIXELS).abs().amax((1, 2)) > 0.1).float().mean()
    assert changed_share > 0.95


@pytest.mark.parametrize("recipe", [TINY, GARMENTS, changed(TINY, flip=True)])
def test_there_are_as_many_broken_images_as_whole_ones(recipe: object) -> None:
    torch.manual_seed(0)
    broken = break_images(PIXELS, recipe)  # type: ignore[arg-type]
    assert broken.shape == PIXELS.shape
    assert torch.isfinite(broken).all()


def test_a_mirrored_image_is_no_broken_one_where_the_recipe_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pixels: torch.Tensor) -> torch.Tensor:
        raise AssertionError

    monkeypatch.setattr(counterexamples, "_mirror", refuse)
    break_images(PIXELS, changed(TINY, flip=True))
    with pytest.raises(AssertionError):
        break_images(PIXELS, TINY)


def test_scribbles_are_broken_digits_and_never_garments(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pixels: torch.Tensor) -> torch.Tensor:
        raise AssertionError

    monkeypatch.setattr(counterexamples, "_scribble", refuse)
    break_images(PIXELS, GARMENTS)
    with pytest.raises(AssertionError):
        break_images(PIXELS, TINY)


def test_quarters_and_pixels_are_moved_not_changed() -> None:
    for way in ("_shuffle_quarters", "_shuffle_pixels", "_mirror"):
        before, after = PIXELS.flatten(1).sort(1).values, broken_by(way).flatten(1).sort(1).values
        assert torch.equal(before, after)


def test_a_cut_image_has_lost_one_side_and_kept_the_other() -> None:
    white = torch.ones(200, 28, 28)
    kept = broken_by("_cut", white).mean((1, 2))
    assert kept.min() > 9 / 28
    assert kept.max() < 19 / 28


def test_a_placed_digit_is_20_pixels_long_and_centred_by_mass() -> None:
    pixels = torch.zeros(2, 28, 28)
    pixels[0, 2:12, 3:7] = 0.5  # small, faint, at the top left
    pixels[1, 1:27, 12:25] = 1.0  # too large
    placed = place_digit(pixels)
    ink = placed > 0.5
    heights = ink.any(2).sum(1)
    assert ((heights >= 19) & (heights <= 21)).all()
    places = torch.arange(28.0)
    mass = placed.sum((1, 2))
    assert torch.allclose(placed.sum(1) @ places / mass, torch.tensor(13.5), atol=0.3)
    assert torch.allclose(placed.sum(2) @ places / mass, torch.tensor(13.5), atol=0.3)
    assert torch.allclose(placed.amax((1, 2)), torch.tensor(1.0))


def test_an_empty_image_is_placed_without_dividing_by_nothing() -> None:
    assert torch.equal(place_digit(torch.zeros(1, 28, 28)), torch.zeros(1, 28, 28))
