"""The rows that NumPy alone answers: numbers worked by hand, and small things that learn by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from training import by_hand
from training.data import load_training
from training.reproduce.outcome import Bench, Outcome, verdict

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from training.by_hand import Array
    from training.data import Split

SEED: Final = 0
DECAYING_EPOCHS: Final = 3_000
LEARNT_FROM: Final = 3_000
JUDGED_ON: Final = 5_000


def by_hand_rows(bench: Bench) -> Outcome:
    """Work every number, and let everything learn that the material lets learn by hand."""
    bench.series.begin("worked by hand")
    lines = [_work(number) for number in by_hand.WORKED_NUMBERS]
    bench.series.say(f"{len(lines)} numbers worked")
    training, _ = load_training("mnist", 0, bench.data)
    lines += [_learn_and(), *_learn_regression(), _learn_digits(training)]
    return Outcome(("by hand", "the material", "ours", "allowed", "verdict"), lines)


def _work(number: by_hand.WorkedNumber) -> tuple[str, ...]:
    published, ours = (_show(values, number.tolerance) for values in (number.published, number.compute()))
    allowed = f"± {number.tolerance:g}" if number.tolerance else "exact"
    return number.statement, published, ours, allowed, verdict(agrees=number.holds())


def _show(values: ArrayLike, tolerance: float) -> str:
    """Write numbers side by side, as precisely as the tolerance makes sense of."""
    digits = ",.0f" if tolerance == 0 else ".2g" if tolerance < 1e-9 else ".4f"
    flat: list[float] = np.asarray(values).ravel().tolist()
    return "; ".join(f"{value:{digits}}" for value in flat)


def _learn_and() -> tuple[str, ...]:
    neuron = by_hand.train_and_neuron(np.random.default_rng(SEED))
    answers = neuron.forward(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    error = float(np.abs(answers[:, 0] - [0, 0, 0, 1]).max())
    statement = "one sigmoid neuron after 5,000 epochs on AND: largest error of its four answers"
    return statement, "learns", f"{error:.2f}", "below 0.5", verdict(agrees=error < 0.5)


def _learn_regression() -> list[tuple[str, ...]]:
    generator = np.random.default_rng(SEED)
    features, targets = by_hand.correlated_features(generator)
    best = by_hand.least_squares(features, targets)
    with_ones = np.hstack([features, np.ones((len(features), 1))])
    minimum = by_hand.half_squared_error(with_ones @ best, targets)[0] / len(features)

    model = by_hand.linear_regression(generator, inputs=2)
    *_, loss = by_hand.train_linear_regression(model, features, targets, [0.1] * 20)
    above = loss / minimum - 1

    model = by_hand.linear_regression(generator, inputs=2)
    rates = 0.1 / (1 + np.arange(DECAYING_EPOCHS) / 10)
    list(by_hand.train_linear_regression(model, features, targets, rates))
    away = float(np.abs(np.vstack(model.parameters) - best).max())
    return [
        (
            "linear regression after 20 epochs at rate 0.1: loss",
            "the least-squares minimum",
            f"{above:.2%} above it",
            "1% above it",
            verdict(agrees=above <= 0.01),
        ),
        (
            f"linear regression after {DECAYING_EPOCHS:,} epochs at a decaying rate: weights",
            "the closed form",
            f"{away:.1g} from it",
            "0.0001 from it",
            verdict(agrees=away <= 1e-4),
        ),
    ]


def _learn_digits(training: Split) -> tuple[str, ...]:
    generator = np.random.default_rng(SEED)
    shapes = ((784, 512), (512, 512), (512, 10))
    weights = [by_hand.draw_weight(generator, *shape, gain=1).astype(np.float32) for shape in shapes]
    network = by_hand.linear_mlp(weights)
    pixels: Array = training.images[: LEARNT_FROM + JUDGED_ON].flatten(1).float().div(255).numpy()
    labels = training.labels[: LEARNT_FROM + JUDGED_ON].numpy()
    list(by_hand.train_linear_mlp(network, pixels[:LEARNT_FROM], labels[:LEARNT_FROM]))
    answers = network.forward(by_hand.unit_length(pixels[LEARNT_FROM:])).argmax(axis=1)
    share = float((answers == labels[LEARNT_FROM:]).mean())
    statement = (
        f"the linear 784-512-512-10 network after {LEARNT_FROM:,} digits, one by one, at rate 0.05: "
        f"right of the next {JUDGED_ON:,} training images"
    )
    return statement, "learns", f"{share:.1%}", "above 80%", verdict(agrees=share > 0.8)
