"""Grey of more than 8 bits a pixel, from files of 16 or 32 bits or of floats, becomes grey of 8."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def averaged(levels: NDArray[Any], factor: int) -> NDArray[np.float64]:
    """Means of blocks of `factor` by `factor` pixels; those at the right and lower rim may be smaller."""
    means = _finite(levels)
    for axis, side in enumerate(levels.shape):
        starts = np.arange(0, side, factor)
        sizes = np.diff(np.append(starts, side))
        means = np.add.reduceat(means, starts, axis=axis) / (sizes if axis else sizes[:, np.newaxis])
    return means


def stretched(levels: NDArray[Any]) -> NDArray[np.uint8]:
    """Stretch to 0-255: 12 bits in a 16-bit file and floats from 0 to 1 have no common full scale."""
    deep = _finite(levels)
    low, high = deep.min(), deep.max()
    scale = 255 / (high - low) if high > low else 0.0
    return np.asarray(np.rint((deep - low) * scale), np.uint8)


def _finite(levels: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.nan_to_num(levels.astype(np.float64), posinf=0, neginf=0))
