"""Garments in the poses of photographs: which images change, how, and that the rest stay as they were."""

from __future__ import annotations

import pytest
import torch
from tiny_training import TINY, changed

from training import poses
from training.augment import augment
from training.errors import UsageError
from training.poses import SHOES, SLEEVED, pose
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
    assert torch.all(left.amax((1, 2)) > 0.4)
    assert torch.all(right.amax((1, 2)) > 0.4)


def test_a_shoe_from_above_is_open_at_the_heel_round_at_the_ends_and_broader_at_the_toe() -> None:
    torch.manual_seed(0)
    bricks = torch.ones(400, 28, 28)
    toe = torch.where(torch.rand(400, 1, 1) < 0.5, 1.0, -1.0)
    seen = poses._opened(bricks, toe)
    dark = seen < 0.99
    assert 20 < float(dark.sum((1, 2)).float().mean()) < 400
    halves = torch.stack((dark[:, :14].sum((1, 2)), dark[:, 14:].sum((1, 2))), 1)
    at_heel, at_toe = torch.where(toe[:, 0] > 0, halves, halves.flip(1)).T
    assert torch.all(at_heel >= at_toe)
    sole = poses._sole(bricks, toe)
    assert not sole[:, [0, 0, 27, 27], [0, 27, 0, 27]].any(), "corners are round"
    assert sole[:, 14, 5:23].all()
    ends = sole[:, [3, 24]].sum(2)  # [n, 2], how wide near both ends
    heels, toes = torch.where(toe[:, 0] > 0, ends, ends.flip(1)).T
    assert torch.all(toes >= heels)


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


def test_a_blank_image_stays_one() -> None:
    assert not posed(torch.zeros(28, 28), changed(GARMENTS, pairs=1.0, sleeves=1.0)).any()


def test_augmentation_poses_by_the_labels() -> None:
    torch.manual_seed(0)
    after = augment(shoe().repeat(len(LABELS), 1, 1), LABELS, changed(GARMENTS, pairs=1.0))
    assert torch.equal((after != shoe()).flatten(1).any(1), has(SHOES))


@pytest.mark.parametrize("field", ["pairs", "sleeves"])
def test_digits_have_no_poses(field: str) -> None:
    with pytest.raises(UsageError, match=r"^tiny: pairs and sleeves are for garments, not mnist\.$"):
        changed(TINY, **{field: 0.5})
