"""What the network said about an image, as the answer that a caller reads."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.artifacts import Card
from service.batching import Outputs

Answer = dict[str, Any]


def describe(card: Card, outputs: Outputs, top_k: int) -> list[Answer]:
    """One answer for each row of the outputs, probabilities (n, 10) and typicality (n,), in order."""
    probabilities, typicality = outputs
    rows = zip(probabilities.tolist(), typicality.tolist(), strict=True)
    return [_describe_one(card, row, score, top_k) for row, score in rows]


def in_base64(pixels: NDArray[np.uint8]) -> str:
    """Pixels row by row, as JSON carries them."""
    return b64encode(pixels.tobytes()).decode("ascii")


def _describe_one(card: Card, row: list[float], score: float, top_k: int) -> Answer:
    # Likeliest first; of one row at a time in half of NumPy's time.
    ranks = sorted(range(len(row)), key=row.__getitem__, reverse=True)
    best = ranks[0]
    quantile, threshold = card.conformal_quantile, card.in_distribution_threshold
    return {
        "label": card.labels[best],
        "index": best,
        "probability": round(row[best], 6),
        "top": [{"label": card.labels[k], "probability": round(row[k], 6)} for k in ranks[:top_k]],
        "prediction_set": None if quantile is None else [card.labels[k] for k in _set(row, ranks, quantile)],
        "in_distribution": None if threshold is None else score >= threshold,
    }


def _set(row: list[float], ranks: list[int], quantile: float) -> list[int]:
    """The likeliest class, and all that cannot be ruled out: they come first among the ranks."""
    size = 1
    while size < len(ranks) and 1 - row[ranks[size]] <= quantile:
        size += 1
    return ranks[:size]
