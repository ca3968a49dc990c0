"""Digits of other hands: which images get a stroke, where it runs, and that the rest stay as they were."""

from __future__ import annotations

import cv2
import pytest
import torch
from tiny_training import TINY, changed

from training.augment import augment
from training.errors import UsageError
from training.hands import write_elsewhere
from training.recipes import Recipe

LABELS = torch.arange(10).repeat(40)
UPRIGHT = torch.zeros(28, 28)  # a 1 of four rows less than the image, two pixels wide
UPRIGHT[4:24, 13:15] = 1.0
SEVEN = UPRIGHT.clone()
SEVEN[4:6, 5:15] = 1.0
FOUR = UPRIGHT.clone()  # closed at the top, and its right stroke is the longest
FOUR[[4, 5, 14, 15], 5:20] = 1.0
FOUR[4:16, 5:7] = 1.0
NINE = UPRIGHT.clone()
NINE[4:14, 6:8] = 1.0
NINE[[4, 5, 12, 13], 6:15] = 1.0


def leaning() -> torch.Tensor:
    """A 1 whose top lies eight pixels right of its bottom."""
    image = torch.zeros(28, 28)
    for row in range(4, 24):
        column = 18 - round((row - 4) * 0.4)
        image[row, column : column + 2] = 1.0
    return image


def written(image: torch.Tensor, recipe: Recipe, label: int) -> torch.Tensor:
    """What becomes of the images of a label."""
    torch.manual_seed(0)
    return write_elsewhere(image.repeat(len(LABELS), 1, 1), LABELS, recipe)[LABELS.eq(label)]


each_stroke = pytest.mark.parametrize(
    ("field", "image", "concerned"), [("upstrokes", UPRIGHT, 1), ("bars", SEVEN, 7)]
)
each_change = pytest.mark.parametrize(
    ("field", "image", "concerned"),
    [("upstrokes", UPRIGHT, 1), ("bars", SEVEN, 7), ("stubs", FOUR, 4), ("tails", NINE, 9)],
)


@each_change
def test_only_digits_that_are_written_so_change_each_in_its_own_way(
    field: str, image: torch.Tensor, concerned: int
) -> None:
    torch.manual_seed(0)
    after = augment(image.repeat(len(LABELS), 1, 1), LABELS, changed(TINY, **{field: 1.0}))
    changes = (after != image).flatten(1).any(1)
    assert torch.equal(changes, LABELS.eq(concerned))
    assert after.min() >= 0
    assert after.max() <= 1
    assert len({one.numpy().tobytes() for one in after[changes]}) == 40


@each_stroke
def test_a_digit_that_gets_a_stroke_loses_nothing(field: str, image: torch.Tensor, concerned: int) -> None:
    assert torch.all(written(image, changed(TINY, **{field: 1.0}), concerned) >= image)


@each_change
def test_about_the_share_that_is_asked_for_gets_it(field: str, image: torch.Tensor, concerned: int) -> None:
    after = written(image, changed(TINY, **{field: 0.3}), concerned)
    assert float((after != image).flatten(1).any(1).float().mean()) == pytest.approx(0.3, abs=0.2)


@pytest.mark.parametrize("image", [UPRIGHT, leaning()], ids=["upright", "leaning"])
def test_an_upstroke_runs_down_to_the_left_from_the_top_and_is_no_bar_of_a_7(image: torch.Tensor) -> None:
    added = written(image, changed(TINY, upstrokes=1.0), 1) - image
    top = int(image.argmax(1).nonzero()[0, 0])
    stem = int(image[top].argmax())
    assert not added[:, : top - 1].any(), "nothing rises above the digit"
    upper = added[:, : top + 14]
    assert torch.all(upper[:, :, :stem].amax((1, 2)) > 0.5)
    for one in upper[:, :, :stem]:
        columns = (one > 0.4).any(0).nonzero()[:, 0]
        lowest = (one[:, columns] > 0.4).nonzero()[:, 0].max()
        assert lowest - top >= 0.4 * (stem - columns.min()), "it falls by more than 20 degrees"


def test_some_ones_stand_on_a_foot_to_both_sides_of_the_stem() -> None:
    added = written(UPRIGHT, changed(TINY, upstrokes=1.0), 1) - UPRIGHT
    feet = added[:, 21:25]
    stands = feet[:, :, 15:].amax((1, 2)) > 0.5
    assert 0.1 < float(stands.float().mean()) < 0.5
    assert torch.all(feet[stands][:, :, :13].amax((1, 2)) > 0.5)


def test_a_bar_crosses_the_stem_of_a_7_half_way_down() -> None:
    added = written(SEVEN, changed(TINY, bars=1.0), 7) - SEVEN
    assert not added[:, :8].any()
    assert not added[:, 22:].any()
    assert torch.all(added[:, :, :13].amax((1, 2)) > 0.5)
    assert torch.all(added[:, :, 15:].amax((1, 2)) > 0.5)


def test_a_4_with_a_stub_is_open_at_the_top_as_tall_as_before_and_stands_on_the_stub() -> None:
    drawn = written(FOUR, changed(TINY, stubs=1.0), 4) > 0.25
    assert torch.all(drawn.any(2)[:, 4:24].all(1))
    assert not drawn[:, :4].any()
    assert not drawn[:, 24:].any()
    for one in drawn:
        above, below = one[4:6].nonzero()[:, 1], one[21:24].nonzero()[:, 1]
        assert above.max() - above.min() < 6, "the left stroke alone reaches the top"
        assert below.min() > one.any(0).nonzero()[:, 0].min(), "the stub alone reaches the bottom"


@pytest.mark.parametrize(("field", "image", "concerned"), [("stubs", FOUR, 4), ("tails", NINE, 9)])
def test_digits_drawn_anew_lie_in_the_middle_as_canonical_ones_do(
    field: str, image: torch.Tensor, concerned: int
) -> None:
    drawn = written(image, changed(TINY, **{field: 1.0}), concerned)
    columns = (drawn.sum(1) @ torch.arange(28.0)) / drawn.sum((1, 2))
    assert torch.all((columns - 13.5).abs() < 1)


def test_a_9_with_a_tail_has_a_loop_above_and_ends_at_the_left_below() -> None:
    drawn = written(NINE, changed(TINY, tails=1.0), 9)
    ink = drawn > 0.25
    assert torch.all(ink.any(2)[:, 4:24].all(1))
    assert not ink[:, :4].any()
    assert not ink[:, 24:].any()
    for one in ink:
        loop, stem, tail = (one[rows].nonzero()[:, 1] for rows in (slice(4, 8), slice(15, 18), slice(21, 24)))
        assert stem.max() - stem.min() < 6, "one stroke joins the loop to the tail"
        assert tail.min() < stem.min() - 2
        assert tail.max() <= stem.max() + 3
        assert loop.max() - loop.min() >= 3
        assert cv2.connectedComponents((~one).numpy().astype("uint8"), connectivity=4)[0] == 3, "one hole"


def test_the_stroke_is_about_as_broad_as_the_pen() -> None:
    bold = torch.nn.functional.max_pool2d(SEVEN[None], 3, 1, 1)[0]  # four pixels wide
    thin, broad = (
        (written(image, changed(TINY, bars=1.0), 7) - image).amax(2).sum(1).mean() for image in (SEVEN, bold)
    )
    assert thin == pytest.approx(2, rel=0.5)
    assert broad > 1.4 * thin


@pytest.mark.parametrize("field", ["upstrokes", "bars", "stubs", "tails"])
def test_garments_are_not_written(field: str) -> None:
    complaint = r"^tiny: upstrokes, bars, stubs and tails are for digits, not fashion-mnist\.$"
    with pytest.raises(UsageError, match=complaint):
        changed(TINY, dataset="fashion-mnist", **{field: 0.5})
