"""What a caller is told of the network's outputs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny import METADATA

from service.answers import describe
from service.artifacts import Card


def card(**entries: str) -> Card:
    return Card.model_validate({**METADATA, "recipe": "tiny", **entries})


@given(
    arrays(np.float32, (3, 10), elements=st.floats(0, 1, width=32)),
    st.floats(0, 1),
    st.integers(1, 10),
)
def test_a_prediction_set_holds_the_likeliest_and_all_that_cannot_be_ruled_out(
    rows: np.ndarray, quantile: float, top_k: int
) -> None:
    told = describe(card(conformal_quantile=str(quantile)), (rows, np.zeros(3, np.float32)), top_k)
    for row, answer in zip(rows.astype(float), told, strict=True):
        ranking = sorted(range(10), key=lambda k, row=row: (-row[k], k))
        kept = [k for k in ranking if k == ranking[0] or 1 - row[k] <= quantile]
        assert answer["prediction_set"] == [str(k) for k in kept]
        assert [each["label"] for each in answer["top"]] == [str(k) for k in ranking[:top_k]]
        assert (answer["label"], answer["index"]) == (str(ranking[0]), ranking[0])
