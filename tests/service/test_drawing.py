"""Drawings that the usual picture does not lead to: lines beside a digit, specks, enlargements, no ink."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from service.canonical import canonicalise
from service.digits import box
from service.errors import EmptyImage

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


def test_an_image_of_the_data_set_is_found_in_its_enlargement() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 12:16] = 255
    image[12:16, 8:20] = 200
    image[5, 13] = 199  # or it would be one itself
    assert np.array_equal(canonicalise(image, "digit"), image), "it is one of the data set"
    for factor in (2, 3, 10):
        large = image.repeat(factor, axis=0).repeat(factor, axis=1)
        assert np.array_equal(canonicalise(large, "digit"), image)


def test_a_speck_on_28x28_pixels_is_drawn_at_the_size_of_a_digit() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[12:16, 13:15] = 255
    drawn = canonicalise(image, "digit")
    _, _, width, height = cv2.boundingRect(drawn)
    assert max(width, height) == 20


def test_a_white_garment_cut_out_of_its_ground_is_refused() -> None:
    picture = np.full((100, 100, 4), 255, np.uint8)
    picture[:, :, 3] = 0
    picture[20:80, 30:70, 3] = 255
    with pytest.raises(EmptyImage, match="colour of its ground"):
        canonicalise(picture, "garment")


def test_where_there_is_no_ink_there_is_no_box() -> None:
    ink = np.zeros((9, 9), bool)
    with pytest.raises(EmptyImage):
        box(ink)
    ink[2:5, 3] = True
    assert box(ink) == (slice(2, 5), slice(3, 4))
