"""Garments in the poses of photographs: which images change, how, and that the rest stay as they were."""

from __future__ import annotations

import pytest
import torch
from tiny_training import TINY, changed

from training import poses
from training.augment import augment
from training.errors import UsageError
from training.poses import BOOT, SANDAL, SHOES, SLEEVED, SNEAKER, pose
from training.recipes import Recipe

GARMENTS = changed(TINY, dataset="fashion-mnist")
LABELS = torch.arange(10).repeat(40)


def shoe() -> torch.Tensor:
    """A sole with a shaft at one end, in the lower half of the image."""
    image = torch.zeros(28, 28)
    image[18:24, 1:27] = 0.8
    image[10:18, 18:26] = 0.6
    return image


def shirt() -> torch.Tensor:
    """A body with a sleeve that hangs at each side."""
    image = torch.zeros(28, 28)
    image[4:26, 9:19] = 0.8
    image[4:24, 3:8] = image[4:24, 20:25] = 0.6
    return image


def posed(image: torch.Tensor, recipe: Recipe, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return pose(image.repeat(len(LABELS), 1, 1), LABELS, recipe)


def has(labels: tuple[int, ...]) -> torch.Tensor:
    return torch.isin(LABELS, torch.tensor(labels))


each_pose = pytest.mark.parametrize(
    ("field", "image", "concerned"), [("pairs", shoe(), SHOES), ("sleeves", shirt(), SLEEVED)]
)


@each_pose
def test_only_what_can_take_the_pose_takes_it(
    field: str, image: torch.Tensor, concerned: tuple[int, ...]
) -> None:
    after = posed(image, changed(GARMENTS, **{field: 1.0}))
    changes = (after != image).flatten(1).any(1)
    assert torch.equal(changes, has(concerned))
    assert after.min() >= 0
    assert after.max() <= 1
    assert len({one.numpy().tobytes() for one in after[changes]}) > 100


@each_pose
def test_about_the_share_that_is_asked_for_takes_it(
    field: str, image: torch.Tensor, concerned: tuple[int, ...]
) -> None:
    after = posed(image, changed(GARMENTS, **{field: 0.3}))
    share = (after != image).flatten(1).any(1)[has(concerned)].float().mean()
    assert float(share) == pytest.approx(0.3, abs=0.12)


def test_two_shoes_cover_more_than_one_and_some_lie_side_by_side_like_mirror_images() -> None:
    after = posed(shoe(), changed(GARMENTS, pairs=1.0))[has(SHOES)]
    covered = (after > 0.1).float().mean((1, 2))
    assert float(covered.mean()) > 1.3 * float((shoe() > 0.1).float().mean())
    mirrored = torch.isclose(after, after.flip(2), atol=1e-5).flatten(1).all(1)
    assert 0.08 < float(mirrored.float().mean()) < 0.3  # half are turned, and of half one is ahead
    left, right = after[mirrored, :, :14], after[mirrored, :, 14:]
    for half in (left, right):  # some shoes are of a tone little brighter than the ground
        assert torch.all(half.amax((1, 2)) > 0.1)
        assert (half.amax((1, 2)) > 0.4).float().mean() > 0.9


def from_above(label: int) -> torch.Tensor:
    torch.manual_seed(0)
    shoes = shoe().repeat(400, 1, 1)
    return poses._from_above(shoes, torch.full((400,), label))


@pytest.mark.parametrize("label", SHOES)
def test_a_pair_from_above_is_round_at_the_ends_and_each_its_own(label: int) -> None:
    pairs = from_above(label)
    assert torch.all(pairs.amax((1, 2)) > 0.1)
    upright = pairs[torch.isclose(pairs, pairs.flip(2), atol=1e-5).flatten(1).all(1)] > 0.1
    assert len(upright) > 30
    rows = upright.sum(2)  # how many columns both shoes cover
    ends, middle = rows[:, [1, 26]].float().mean(), rows[:, 10:18].float().mean()
    assert ends < 0.75 * middle
    assert len({one.numpy().tobytes() for one in pairs}) == 400


def test_the_parts_of_sandals_and_sneakers_differ_more_in_tone_than_those_of_boots() -> None:
    def contrast(label: int) -> float:
        return float(
            torch.stack([one[one > 0.1].std() / one[one > 0.1].mean() for one in from_above(label)]).mean()
        )

    assert contrast(SNEAKER) > 1.15 * contrast(BOOT)
    assert contrast(SANDAL) > 1.15 * contrast(BOOT)


def test_a_sandal_has_a_strap_across_the_front_half() -> None:
    torch.manual_seed(0)
    across, along = torch.linspace(-1, 1, 28)[None, None, :], torch.linspace(-1, 1, 28)[None, :, None]
    sandals = poses._straps(across, along.expand(200, 28, 1), torch.zeros(200, 28, 28))
    front = sandals[:, 14:, 14]
    steps = (front[:, 1:] - front[:, :-1]).abs().amax(1)
    assert torch.all(steps > 0.1)


def test_spread_sleeves_reach_further_out_and_end_higher_than_they_hung() -> None:
    after = posed(shirt(), changed(GARMENTS, sleeves=1.0))[has(SLEEVED)]
    outer = torch.cat((after[:, :, :7], after[:, :, 21:]), 2)  # [n, 28, 14], beyond the body
    assert torch.all(outer.amax((1, 2)) > 0.2)
    rows = torch.arange(28.0)

    def height(pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.sum(2) @ rows) / pixels.sum((1, 2))

    hung = torch.cat((shirt()[:, :7], shirt()[:, 21:]), 1)[None]
    lifted = height(hung) - height(outer)
    assert (lifted > 0).float().mean() > 0.8  # large garments hardly spread theirs
    assert lifted.mean() > 2
    assert torch.isclose(after, after.flip(2), atol=1e-5).all()


def test_a_blank_image_has_no_sleeves_to_spread() -> None:
    assert not posed(torch.zeros(28, 28), changed(GARMENTS, sleeves=1.0)).any()


def test_augmentation_poses_by_the_labels() -> None:
    torch.manual_seed(0)
    after = augment(shoe().repeat(len(LABELS), 1, 1), LABELS, changed(GARMENTS, pairs=1.0))
    assert torch.equal((after != shoe()).flatten(1).any(1), has(SHOES))


@pytest.mark.parametrize("field", ["pairs", "sleeves"])
def test_digits_have_no_poses(field: str) -> None:
    with pytest.raises(UsageError, match=r"^tiny: pairs and sleeves are for garments, not mnist\.$"):
        changed(TINY, **{field: 0.5})
