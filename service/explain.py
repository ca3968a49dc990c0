"""Where a network looks: an image is classified again and again with another part of it wiped away.

M. D. Zeiler and R. Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014, section 4.2.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from service.batching import Batcher, Images

SIDE = 28
STEP = 4  # pixels between two windows
WINDOW = 8  # pixels along the side of what is wiped away at once
PLACES = SIDE // STEP
FORWARD_IMAGES = PLACES**2  # that one explanation computes
MOST_IMAGES = 16  # that one request has explained
WEAKEST = 0.05  # of log-odds: where no window changes more, the map is empty
SMALLEST_SHARE = 1e-7  # about what float32 resolves near 1

HeatMap = NDArray[np.uint8]  # (28, 28): 255 where wiping costs the answer most, 0 where nothing is lost


def most_images(max_queue: int) -> int:
    """How many images one request may have explained by a queue of this size."""
    return min(MOST_IMAGES, max_queue // FORWARD_IMAGES)


async def heat_maps(
    batcher: Batcher,
    images: Images,
    probabilities: NDArray[np.float32],
    *,
    timeout_s: float,
    caller_left: Callable[[], bool],
) -> tuple[list[HeatMap], float]:
    """Heat maps of images (n, 28, 28) that have these probabilities (n, 10), and how many seconds they took.

    All of it is one submission of n times `FORWARD_IMAGES` images, and raises what `Batcher.submit` raises.
    """
    started = time.monotonic()
    wiped = np.concatenate([wipe(image) for image in images])
    computed = await batcher.submit(wiped, timeout_s=timeout_s, caller_left=caller_left, probing=True)
    left = computed.outputs[0].reshape(len(images), FORWARD_IMAGES, -1)  # (n, places, 10)
    maps = [heat_map(whole, parts) for whole, parts in zip(probabilities, left, strict=True)]
    return maps, time.monotonic() - started


def wipe(image: Images) -> Images:
    """Copies (places, 28, 28) of an image, each with one window set to the ground, row by row."""
    copies = np.repeat(image[np.newaxis], FORWARD_IMAGES, axis=0)
    margin = (WINDOW - STEP) // 2
    for place, copy in enumerate(copies):
        top, left = (STEP * index - margin for index in divmod(place, PLACES))
        copy[max(top, 0) : top + WINDOW, max(left, 0) : left + WINDOW] = 0
    return copies


def heat_map(whole: NDArray[np.float32], wiped: NDArray[np.float32]) -> HeatMap:
    """How much of the answer's log-odds each place carries, of probabilities (10,) and (places, 10)."""
    label = int(whole.argmax())
    lost = _log_odds(whole, label) - _log_odds(wiped, label)  # (places,)
    most = float(lost.max())
    if most < WEAKEST:
        return np.zeros((SIDE, SIDE), np.uint8)
    coarse = (np.maximum(lost, 0) / most).reshape(PLACES, PLACES).astype(np.float32)
    fine = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.rint(255 * fine / fine.max()), np.uint8)


def _log_odds(probabilities: NDArray[np.float32], label: int) -> NDArray[np.float64]:
    """Of the label against all others; unlike the probability, it moves where a network is sure."""
    shares = probabilities.astype(np.float64)
    others = np.delete(shares, label, axis=-1).sum(axis=-1)
    return np.asarray(
        np.log(np.maximum(shares[..., label], SMALLEST_SHARE)) - np.log(np.maximum(others, SMALLEST_SHARE))
    )
