"""Drawings that the usual picture does not lead to: lines beside a digit, specks, enlargements, no ink."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from service.canonical import canonicalise, separate
from service.digits import box
from service.errors import EmptyImage
from service.garments import without_joints
from service.ink import full_contrast
from service.sheet import find_sheet
from service.strokes import find_rules

Pixels = NDArray[np.uint8]


def seven() -> Pixels:
    """A black seven on white, 120x120."""
    paper = np.full((120, 120), 255, np.uint8)
    corners = np.array([[40, 35], [80, 35], [55, 85]], np.int32)
    cv2.polylines(paper, [corners], isClosed=False, color=0, thickness=6)
    return paper


def test_a_rule_from_edge_to_edge_below_or_beside_a_digit_is_no_part_of_it() -> None:
    plain = canonicalise(seven(), "digit")
    below, beside = seven(), seven()
    below[104:107] = 0
    beside[:, 108:111] = 0
    for ruled in (below, beside):
        assert np.abs(canonicalise(ruled, "digit").astype(int) - plain).mean() < 4


def circled(picture: Pixels) -> None:
    cv2.circle(picture, (60, 58), 50, 0, 3)


def circled_with_a_gap(picture: Pixels) -> None:
    cv2.ellipse(picture, (60, 58), (50, 45), 0, 20, 350, 0, 3)


def boxed_by_hand(picture: Pixels) -> None:
    for start, end in (
        ((10, 14), (105, 12)),
        ((110, 18), (108, 106)),
        ((104, 112), (12, 110)),
        ((6, 104), (8, 18)),
    ):
        cv2.line(picture, start, end, 0, 3)


def underlined(picture: Pixels) -> None:
    cv2.line(picture, (25, 96), (95, 98), 0, 3)


def a_finger(picture: Pixels) -> None:
    cv2.line(picture, (119, 110), (104, 96), 70, 22)


def a_pen_across_a_corner(picture: Pixels) -> None:
    cv2.line(picture, (119, 75), (92, 119), 0, 4)


def the_desk(picture: Pixels) -> None:
    picture[:, :14] = 60


def a_pen_that_lies_there(picture: Pixels) -> None:
    cv2.line(picture, (119, 0), (92, 119), 0, 5)


def printed_words_beside_it(picture: Pixels) -> None:
    cv2.putText(picture, "No.", (2, 112), cv2.FONT_HERSHEY_SIMPLEX, 0.35, 0, 1, cv2.LINE_AA)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    "add",
    [
        circled,
        circled_with_a_gap,
        boxed_by_hand,
        underlined,
        a_finger,
        a_pen_across_a_corner,
        the_desk,
        a_pen_that_lies_there,
        printed_words_beside_it,
    ],
)
def test_what_people_have_around_a_digit_is_no_part_of_it(
    add: Callable[[Pixels], None], *, turned: bool
) -> None:
    with_it, plain = seven(), seven()
    add(with_it)
    if turned:
        with_it, plain = 255 - with_it, 255 - plain
    drawn = canonicalise(with_it, "digit").astype(int)
    assert np.abs(drawn - canonicalise(plain, "digit")).mean() < 10


def test_a_wide_frame_around_a_small_digit_is_no_part_of_it() -> None:
    framed, plain = (np.pad(seven(), 90, constant_values=255) for _ in range(2))
    cv2.rectangle(framed, (8, 8), (291, 291), 0, 4)
    drawn = canonicalise(framed, "digit").astype(int)
    assert np.abs(drawn - canonicalise(plain, "digit")).mean() < 10


def test_a_speck_in_a_zero_makes_it_no_frame() -> None:
    zero = np.full((120, 120), 255, np.uint8)
    cv2.ellipse(zero, (60, 60), (28, 42), 0, 0, 360, 0, 7)
    plain = canonicalise(zero, "digit").astype(int)
    cv2.circle(zero, (60, 60), 6, 0, -1)
    assert np.abs(canonicalise(zero, "digit") - plain).mean() < 10


def test_a_digit_in_pieces_that_is_cut_out_tightly_keeps_those_at_the_edge() -> None:
    two = np.full((100, 64), 255, np.uint8)
    cv2.ellipse(two, (30, 28), (24, 24), 0, 180, 400, 0, 8)
    cv2.line(two, (46, 48), (16, 80), 0, 8)
    cv2.rectangle(two, (0, 90), (63, 99), 0, -1)
    rows = np.flatnonzero(canonicalise(two, "digit").any(axis=1))
    assert canonicalise(two, "digit")[rows[-1] - 1].astype(bool).sum() > 10, "its foot"


def test_of_several_digits_those_that_are_cut_off_are_kept() -> None:
    row = np.full((100, 260), 255, np.uint8)
    for left, size, pen in ((-12, 3.2, 14), (70, 2, 5), (130, 2, 5), (190, 2, 5)):
        cv2.putText(row, "8", (left, 88), cv2.FONT_HERSHEY_SIMPLEX, size, 0, pen, cv2.LINE_AA)
    assert len(separate(row)) == 4


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("slope", [0, 0.03])
@pytest.mark.parametrize("is_squared", [False, True])
def test_rules_that_run_through_a_digit_are_no_part_of_it(
    turn: int, slope: float, *, is_squared: bool
) -> None:
    ruled, drift = np.rot90(seven(), turn).copy(), round(120 * slope)
    for place in (-1, 18, 43, 68, 93, 117):  # some along the picture's edge, some that leave over it
        cv2.line(ruled, (-1, place), (121, place + drift), 60, 2)
        if is_squared:
            cv2.line(ruled, (place + drift, -1), (place, 121), 60, 2)
    plain = canonicalise(np.rot90(seven(), turn), "digit").astype(int)
    assert np.abs(canonicalise(ruled, "digit") - plain).mean() < 10


def test_a_bar_from_edge_to_edge_of_a_digit_cut_out_tightly_is_no_rule() -> None:
    four = np.full((120, 80), 255, np.uint8)
    cv2.polylines(four, [np.array([[30, 5], [3, 70], [80, 70]])], isClosed=False, color=0, thickness=6)
    cv2.line(four, (55, 30), (55, 115), 0, 6)
    _, _, width, height = cv2.boundingRect(canonicalise(four, "digit"))
    assert (height, width) == (20, 14)


@pytest.mark.parametrize("pen", [16, 22])
@pytest.mark.parametrize("is_negative", [False, True])
def test_the_paper_around_a_bold_digit_cut_out_tightly_is_not_taken_for_ink(
    pen: int, *, is_negative: bool
) -> None:
    zero = np.full((120, 90), 235, np.uint8)
    cv2.ellipse(zero, (45, 60), (44 - pen // 2, 59 - pen // 2), 0, 0, 360, 20, pen, cv2.LINE_AA)
    drawn = canonicalise(255 - zero if is_negative else zero, "digit")
    assert drawn[14, 14] < 20, "its hole"
    assert drawn[13:15].max() > 200


def test_what_lies_in_shadow_around_a_lit_corner_is_paper() -> None:
    lit = np.add.outer(np.arange(120), np.arange(120)) < 100
    picture = np.where(lit, seven(), seven() // 2).astype(np.uint8)
    plain = canonicalise(seven(), "digit").astype(int)
    assert np.abs(canonicalise(picture, "digit") - plain).mean() < 4


@pytest.mark.parametrize("corner", range(4))
@pytest.mark.parametrize("reach", [(25, 25), (30, 200), (105, 45)])
def test_a_shadow_across_a_corner_of_the_paper_is_no_ink(corner: int, reach: tuple[int, int]) -> None:
    written = np.rot90(seven(), corner)
    down, right = (np.arange(120) / side for side in reach)
    shade = np.rot90(np.where(np.add.outer(down, right) < 1, 0.5, 1.0), -corner)
    plain = canonicalise(written, "digit").astype(int)
    assert np.abs(canonicalise((written * shade).astype(np.uint8), "digit") - plain).mean() < 4


def test_a_stroke_along_the_edge_of_the_paper_is_ink() -> None:
    cut = seven()[32:89, 36:86]
    assert (cut[0, 4:40] == 0).all()
    plain = canonicalise(seven(), "digit").astype(int)
    assert np.abs(canonicalise(cut, "digit") - plain).mean() < 10  # an outermost row of pixels may be grey


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("is_negative", [False, True])
def test_a_lit_strip_beside_a_shadow_that_holds_the_digit_is_paper(turn: int, *, is_negative: bool) -> None:
    written = np.where(np.arange(120) < 102, seven() // 2, seven()).astype(np.uint8)
    picture, plain = (np.rot90(drawn, turn) for drawn in (written, seven()))
    if is_negative:
        picture, plain = 255 - picture, 255 - plain
    difference = canonicalise(picture, "digit").astype(int) - canonicalise(plain, "digit")
    assert np.abs(difference).mean() < 4


def test_smears_that_are_half_as_strong_as_the_digit_are_no_strokes() -> None:
    smeared = seven()
    smeared[20:60, 100:108] = smeared[75:105, 15:22] = 128
    plain = canonicalise(seven(), "digit").astype(int)
    assert np.abs(canonicalise(smeared, "digit") - plain).mean() < 4


def test_the_edge_of_a_shadow_alone_is_no_ink() -> None:
    paper = np.full((120, 120), 255, np.uint8)
    paper[:, :60] = 100
    with pytest.raises(EmptyImage):
        canonicalise(paper, "digit")
    with pytest.raises(EmptyImage):
        full_contrast(np.zeros((120, 120), np.float32))  # what is left of it without noise


def test_a_rule_is_thin_and_runs_from_edge_to_edge() -> None:
    mask = np.zeros((100, 80), bool)
    mask[50:62] = True
    mask[20:22, 10:] = True
    assert find_rules(mask) == []
    mask[80:83] = mask[:, 30:33] = True
    assert [rule.is_upright for rule in find_rules(mask)] == [False, True]


@pytest.mark.parametrize("shape", [(40, 1), (1, 40), (40, 2), (2, 40), (3, 3)])
def test_a_picture_of_next_to_no_width_has_rules_or_none_but_never_breaks(shape: tuple[int, int]) -> None:
    mask = np.zeros(shape, bool)
    mask[shape[0] // 2] = True
    assert all(np.isfinite(rule.start + rule.slope) for rule in find_rules(mask))
    mask[:, shape[1] // 2] = True
    assert all(np.isfinite(rule.start + rule.slope) for rule in find_rules(mask))


def test_a_one_from_edge_to_edge_is_a_digit() -> None:
    paper = np.full((120, 120), 255, np.uint8)
    paper[:, 57:63] = 0
    _, _, width, height = cv2.boundingRect(canonicalise(paper, "digit"))
    assert height == 20
    assert width < 6


def test_an_image_of_the_data_set_is_found_in_its_enlargement() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 12:16] = 255
    image[12:16, 8:20] = 200
    image[5, 13] = 199  # or it would be one itself
    assert np.array_equal(canonicalise(image, "digit"), image), "it is one of the data set"
    for factor in (2, 3, 10):
        large = image.repeat(factor, axis=0).repeat(factor, axis=1)
        assert np.array_equal(canonicalise(large, "digit"), image)


def test_an_image_of_the_data_set_is_one_segment() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 12:16] = 255
    image[5, 13] = 199
    [segment] = separate(image.repeat(3, axis=0).repeat(3, axis=1))
    assert np.array_equal(segment.pixels, image)
    assert segment.box == (36, 12, 12, 60)


def test_a_line_from_the_edge_that_stands_alone_is_the_digit() -> None:
    paper = np.full((120, 120), 255, np.uint8)
    paper[:100, 57:63] = 0
    _, _, width, height = cv2.boundingRect(canonicalise(paper, "digit"))
    assert height == 20
    assert width < 6


def test_a_garment_of_the_data_set_is_left_as_it_is_and_a_small_one_is_not() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[1:28, 6:22] = 120
    image[9:15, 10:18] = 255
    assert np.array_equal(canonicalise(image, "garment"), image)
    image[20:] = 0
    _, _, width, height = cv2.boundingRect(canonicalise(image, "garment"))
    assert max(width, height) == 28


def test_a_speck_on_28x28_pixels_is_drawn_at_the_size_of_a_digit() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[12:16, 13:15] = 255
    drawn = canonicalise(image, "digit")
    _, _, width, height = cv2.boundingRect(drawn)
    assert max(width, height) == 20


def test_a_white_garment_without_a_shade_is_drawn_as_its_shape() -> None:
    cut_out = np.full((100, 100, 4), 255, np.uint8)
    cut_out[:, :, 3] = 0
    cut_out[20:80, 30:70, 3] = 255
    on_grey = np.random.default_rng(0).normal(120, 2, (100, 100)).astype(np.uint8)
    on_grey[20:80, 30:70] = np.random.default_rng(1).integers(250, 256, (60, 40))
    for picture in (cut_out, on_grey):
        drawn = canonicalise(picture, "garment")
        assert drawn[:, 5:23].min() > 200, "60x40 pixels, 28x19 of these"
        assert not drawn[:, :4].any()
    cut_out[20:40, 30:70, :3] = 230
    drawn = canonicalise(cut_out, "garment")
    assert drawn[4, 14] == 255
    assert 100 < drawn[20, 14] < 160, "a tenth of full scale darker in the picture: five times that here"


@pytest.mark.parametrize(("ground", "is_negated"), [(0, False), (20, False), (40, True), (200, True)])
def test_a_garment_is_negated_unless_its_ground_is_black(ground: int, *, is_negated: bool) -> None:
    picture = np.full((100, 100), ground, np.uint8)
    picture[20:60, 30:70], picture[60:80, 30:70] = 240, 120
    drawn = canonicalise(picture, "garment")
    assert bool(drawn[8, 14] < drawn[24, 14]) == is_negated


def test_a_garment_is_told_from_a_floor_of_many_colours() -> None:
    random = np.random.default_rng(0)
    picture = random.integers(60, 256, (160, 120, 3), dtype=np.uint8)
    picture[40:120, 40:80] = (20, 30, 90)
    _, _, width, height = cv2.boundingRect(canonicalise(picture, "garment"))
    assert (height, abs(width - 14) <= 1) == (28, True), "80x40 pixels of it are the garment"


def test_the_joints_of_a_plain_floor_are_no_cloth_and_straps_are() -> None:
    floor = np.full((160, 160, 3), 200, np.uint8)
    floor[50:130, 60:100] = (20, 30, 90)
    plain = canonicalise(floor, "garment")
    tiled = floor.copy()
    for line in (30, 140):
        cv2.line(tiled, (0, line), (159, line + 12), (170, 170, 170), 2)
        cv2.line(tiled, (line, 0), (line - 12, 159), (170, 170, 170), 2)
    tiled[50:130, 60:100] = floor[50:130, 60:100]
    assert np.abs(canonicalise(tiled, "garment").astype(int) - plain).mean() < 2
    cv2.line(floor, (62, 50), (62, 20), (20, 30, 90), 3)
    cv2.line(floor, (98, 50), (98, 20), (20, 30, 90), 3)
    strapped = canonicalise(floor, "garment")
    assert (strapped[:7] > 100).any(axis=0).sum() == 2, "two straps of a top, each a pixel wide"


def test_a_few_transparent_pixels_make_no_cut_out() -> None:
    """A screenshot with round corners is all cloth if its opacity is taken for the garment's outline."""
    random = np.random.default_rng(0)
    picture = random.integers(60, 256, (160, 120, 4), dtype=np.uint8)
    picture[40:120, 40:80, :3] = (20, 30, 90)
    picture[:, :, 3] = 255
    opaque = canonicalise(picture[:, :, :3], "garment")
    picture[:8, :8, 3] = picture[:8, -8:, 3] = picture[-8:, :8, 3] = picture[-8:, -8:, 3] = 0
    _, _, width, height = cv2.boundingRect(canonicalise(picture, "garment"))
    assert (height, abs(width - 14) <= 1) == (28, True), "80x40 pixels of it are the garment"
    picture[:, :, 3] = 255
    picture[0, 0, 3] = 254
    assert np.abs(canonicalise(picture, "garment").astype(int) - opaque).mean() < 2


def test_what_is_narrow_is_no_cloth() -> None:
    cut = np.zeros((160, 120), bool)
    cut[40:120, 40:80] = True
    joints = cut.copy()
    joints[79:82] = joints[:, 59:62] = True
    found = without_joints(joints)
    assert not (found & ~cut)[:, :36].any()
    assert not (found & ~cut)[:36].any()
    assert found[42:118, 42:78].all()
    assert np.array_equal(without_joints(cut)[42:118], cut[42:118])


def test_a_sheet_is_a_large_quadrangle_with_something_written_on_it() -> None:
    mask = np.zeros((100, 80), bool)
    assert find_sheet(mask) is None, "nothing"
    mask[10:90, 10:70] = True
    assert find_sheet(mask) is None, "a solid shape"
    mask[40:60, 30:45] = False
    sheet = find_sheet(mask)
    assert sheet is not None
    assert sheet[50, 40], "what is written belongs to it"
    assert not sheet[10].any(), "and its rim does not"
    striped = mask.copy()
    striped[::8] = True
    assert np.array_equal(sheet, find_sheet(striped)), "nor the stripes of the desk"
    mask[15:85, 15:65] = False
    assert find_sheet(mask) is None, "a frame"


def test_what_is_round_or_small_or_reaches_two_edges_of_the_picture_is_no_sheet() -> None:
    disc = cv2.circle(np.zeros((100, 80), np.uint8), (40, 50), 30, 1, cv2.FILLED) > 0
    small, reaching = np.zeros((2, 100, 80), bool)
    small[10:40, 10:40] = True
    reaching[20:, 10:70] = True
    for mask in (disc, small, reaching):
        mask[25:30, 20:28] = False
    assert find_sheet(disc) is None
    assert find_sheet(small) is None
    assert find_sheet(reaching) is not None
    reaching[25:, :10] = True
    assert find_sheet(reaching) is None


@pytest.mark.parametrize("table", [(90, 60, 40), (200, 180, 60), (20, 90, 160)])
def test_the_digit_on_a_sheet_is_read_whatever_it_lies_on(table: tuple[int, int, int]) -> None:
    picture = np.full((240, 300, 3), table, np.uint8)
    picture[:, ::6] //= 2
    picture[60:180, 100:220] = seven()[:, :, np.newaxis]
    plain = canonicalise(seven(), "digit").astype(int)
    assert np.abs(canonicalise(picture, "digit") - plain).mean() < 4
    [segment] = separate(picture)
    assert np.abs(np.subtract(segment.box, (137, 92, 46, 56))).max() <= 4


def test_where_there_is_no_ink_there_is_no_box() -> None:
    ink = np.zeros((9, 9), bool)
    with pytest.raises(EmptyImage):
        box(ink)
    ink[2:5, 3] = True
    assert box(ink) == (slice(2, 5), slice(3, 4))
