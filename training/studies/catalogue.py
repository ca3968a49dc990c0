"""The studies: what each asks, and how large it is by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Size:
    """How much a study trains; the defaults take minutes on two cores."""

    images: int  # to train on, at most
    epochs: int
    seeds: int  # how often each training is repeated with other first weights and another order

    def __str__(self) -> str:
        if not self.images:
            return "nothing is trained"
        parts = (self.images, "image"), (self.epochs, "epoch"), (self.seeds, "seed")
        return ", ".join(f"{count:,} {what}{'s' if count > 1 else ''}" for count, what in parts)


@dataclass(frozen=True)
class Study:
    """One experiment."""

    name: str
    question: str
    size: Size


STUDIES: Final = {
    study.name: study
    for study in (
        Study(
            "neuron",
            "What do the activation functions look like, and what do weight and bias do to a neuron?",
            Size(images=0, epochs=0, seeds=0),
        ),
        Study(
            "learning-rates",
            "Which learning rates are too low, good, too high, and which diverge?",
            Size(images=12_800, epochs=3, seeds=1),
        ),
        Study(
            "batch-sizes",
            "What does the batch size change when every training sees the same number of samples?",
            Size(images=20_000, epochs=6, seeds=1),
        ),
        Study(
            "overfitting",
            "From which epoch on does training longer make a network worse, and what do more images change?",
            Size(images=16_000, epochs=30, seeds=1),
        ),
        Study(
            "permuted-pixels",
            "Does a network use that pixels have neighbours? Every image is shuffled alike to see.",
            Size(images=10_000, epochs=6, seeds=2),
        ),
        Study(
            "regularisers",
            "Which regulariser buys what, where images are few?",
            Size(images=4_000, epochs=20, seeds=3),
        ),
        Study(
            "activations",
            "Which activation function trains best in a shallow and in a deep network?",
            Size(images=10_000, epochs=5, seeds=3),
        ),
        Study(
            "initialisations",
            "Which first weights let a deep network learn?",
            Size(images=10_000, epochs=5, seeds=3),
        ),
        Study(
            "dropout-doubt",
            "Does dropout that is left on know when the network is wrong, or sees no digit at all?",
            Size(images=20_000, epochs=10, seeds=1),
        ),
    )
}
