"""Every hyperparameter of every network, in one table."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from training.errors import UsageError

SHARES: Final = (
    "dropout blur pairs sleeves upstrokes bars stubs tails gaps residue plain erasing "
    "momentum label_smoothing teacher_share weight_averaging"
)
AMOUNTS: Final = (
    "shift_pixels rotation_degrees shear_degrees elastic_pixels stroke tone grain weight_decay l1 "
    "patience_epochs"
)
RANGES: Final = {  # the least and the most of each field; what is infinite or no number is in none
    "epochs": (1, math.inf),
    "batch_size": (1, math.inf),
    "seed": (0, 2**63 - 1),
    "learning_rate": (sys.float_info.min, math.inf),
    "scaling": (0, 0.99),
    **dict.fromkeys(SHARES.split(), (0, 1)),
    **dict.fromkeys(AMOUNTS.split(), (0, math.inf)),
}
WIDTHS: Final = {"cnn": (1, math.inf), "resnet": (1, math.inf), "rnn": (1, 1)}  # the fewest and the most


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one network is built and trained: with seed and teachers, all that the weights depend on."""

    name: str
    """The artifact will be <name>.onnx."""
    dataset: Literal["mnist", "fashion-mnist"]
    seed: int = 1
    """Of the first weights, the order of the images, augmentation and dropout."""

    # network
    architecture: Literal["softmax", "mlp", "cnn", "resnet", "rnn"]
    widths: tuple[int, ...] = ()
    """Units of each hidden layer, or channels of each convolution."""
    activation: Literal["relu", "leaky-relu", "prelu", "tanh", "sigmoid"] = "relu"
    initialisation: Literal[
        "default", "normal-1", "normal-0.01", "xavier-normal", "xavier-uniform", "he-normal"
    ] = "default"
    """Of the weights; "default" is PyTorch's for the layer, any other one sets the biases to 0."""
    batch_norm: bool = False
    dropout: float = 0.0
    """Share of hidden values dropped: after each hidden layer of an MLP, before the last layer elsewhere."""
    standardise: bool = False
    """Subtract the mean of the dataset's pixels and divide by their standard deviation."""

    # data
    validation_images: Literal[0, 5_000, 10_000] = 5_000
    """Held out of the 60,000; with 0 the artifact cannot be calibrated."""
    shuffle: bool = True
    flip: bool = False
    """Mirror half of the images left to right."""
    shift_pixels: float = 0.0
    """Move by up to this many pixels in each direction."""
    rotation_degrees: float = 0.0
    shear_degrees: float = 0.0
    scaling: float = 0.0
    """Stretch each axis by a factor of up to 1 + this, or shrink it by as much."""
    elastic_pixels: float = 0.0
    """Standard deviation of a smooth random displacement."""
    stroke: float = 0.0
    """Thicken strokes by up to this share of one pixel on each side, or thin them by up to half as much."""
    blur: float = 0.0
    """Blend with a blur of one pixel's standard deviation by up to this share."""
    tone: float = 0.0
    """Raise the pixels to a power between exp(-this) and exp(this): other light, other cloth."""
    grain: float = 0.0
    """Largest standard deviation of noise on ink or cloth, as a share of its brightness."""
    pairs: float = 0.0
    """Probability that a shoe stands beside its mirror image, as a photograph of a pair shows it."""
    sleeves: float = 0.0
    """Probability that a garment's sleeves are spread wide, as of one laid flat."""
    upstrokes: float = 0.0
    """Probability that a 1 gets an upstroke and maybe a foot, as much of the world writes it."""
    bars: float = 0.0
    """Probability that a 7 gets a bar."""
    stubs: float = 0.0
    """Probability that a 4 is drawn anew, its right stroke a stub across the bar."""
    tails: float = 0.0
    """Probability that a 9 is drawn anew, its tail turning to the left."""
    gaps: float = 0.0
    """Probability that one or two straight gaps cross the strokes, as where a pen runs dry."""
    residue: float = 0.0
    """Probability that blobs of ground are left beside the digit or garment."""
    plain: float = 0.0
    """Share of the images mirrored and erased at most: what moves gets blurred a little, uploads are not."""
    erasing: float = 0.0
    """Probability that a random rectangle is blanked."""

    # training
    epochs: int
    batch_size: int
    optimiser: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float
    """The highest that the schedule reaches."""
    momentum: float = 0.0
    """SGD's; PyTorch's defaults stand for Adam's two."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    weight_decay: float = 0.0
    """L2: adds weight_decay * w to the gradient of every weight w; "adamw" shrinks the weights directly."""
    l1: float = 0.0
    """Adds l1 * sign(w) to the gradient of every weight w."""
    label_smoothing: float = 0.0
    teachers: tuple[str, ...] = ()
    """Artifacts whose answers to every augmented batch are learnt beside the labels."""
    teacher_share: float = 0.5
    """Of the loss: how much of it is the cross-entropy to the mean of the teachers' probabilities."""
    weight_averaging: float = 0.0
    """Decay per step of the moving average of the weights that is validated and exported; 0 for none."""
    patience_epochs: int = 0
    """Stop when validation loss has not improved for this long, and keep the best weights; 0 for never."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products in training, where the processor gains by it; the artifact is in float32."""

    def __post_init__(self) -> None:
        """Refuse what means nothing.

        Raises:
            UsageError: a number is out of its range, there are too few or too many widths, poses are asked of
                digits, hands of garments, or patience without validation images.
        """
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                allowed = f"from {low:g} upwards" if high == math.inf else f"from {low:g} to {high:g}"
                raise UsageError(f"{self.name}: {name} is {value}, and may be {allowed}.")
        fewest, most = WIDTHS.get(self.architecture, (0, math.inf))
        if min(self.widths, default=1) < 1 or not fewest <= len(self.widths) <= most:
            wanted = "one" if most == 1 else "at least one" if fewest else "none or more"
            raise UsageError(
                f"{self.name}: widths are {self.widths}; {self.architecture} takes {wanted}, from 1."
            )
        if self.batch_norm and self.batch_size == 1:
            raise UsageError(f"{self.name}: batch_norm needs batches of at least two images.")
        if self.patience_epochs and not self.validation_images:
            raise UsageError(f"{self.name}: patience needs validation images to tell by.")
        if (self.pairs or self.sleeves) and self.dataset != "fashion-mnist":
            raise UsageError(f"{self.name}: pairs and sleeves are for garments, not {self.dataset}.")
        if (self.upstrokes or self.bars or self.stubs or self.tails) and self.dataset != "mnist":
            raise UsageError(
                f"{self.name}: upstrokes, bars, stubs and tails are for digits, not {self.dataset}."
            )


def lost_fields(saved: dict[str, Any]) -> list[str]:
    """Name what a recipe that was written down made use of, and recipes no longer have."""
    known = {entry.name for entry in fields(Recipe)}
    return [name for name, value in saved.items() if name not in known and value]


RECIPES: Final = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="fashion-mnist-softmax",
            dataset="fashion-mnist",
            architecture="softmax",
            epochs=10,
            batch_size=256,
            learning_rate=0.1,
        ),
        Recipe(
            name="mnist-mlp-16",
            dataset="mnist",
            architecture="mlp",
            widths=(16, 16),
            initialisation="xavier-uniform",
            standardise=True,
            epochs=5,
            batch_size=64,
            learning_rate=0.01,
            momentum=0.5,
        ),
        Recipe(
            name="mnist-mlp-sgd",
            dataset="mnist",
            architecture="mlp",
            widths=(512, 512),
            initialisation="xavier-uniform",
            standardise=True,
            epochs=5,
            batch_size=64,
            learning_rate=0.01,
            momentum=0.5,
        ),
        Recipe(
            name="mnist-mlp-adam",
            dataset="mnist",
            architecture="mlp",
            widths=(1_024, 256),
            validation_images=10_000,
            epochs=8,
            batch_size=256,
            optimiser="adam",
            learning_rate=1e-3,
        ),
        Recipe(
            name="mnist-mlp-tanh",
            dataset="mnist",
            architecture="mlp",
            widths=(100, 100),
            activation="tanh",
            initialisation="normal-1",
            validation_images=0,
            shuffle=False,
            epochs=100,
            batch_size=60_000,
            learning_rate=0.1,
        ),
        Recipe(
            name="fashion-mnist-mlp-quickstart",
            dataset="fashion-mnist",
            architecture="mlp",
            widths=(512, 512),
            validation_images=0,
            shuffle=False,
            epochs=6,
            batch_size=64,
            learning_rate=1e-3,
        ),
        Recipe(
            name="mnist-rnn",
            dataset="mnist",
            architecture="rnn",
            widths=(256,),
            initialisation="xavier-normal",
            shift_pixels=1.0,
            epochs=12,
            batch_size=128,
            optimiser="adamw",
            learning_rate=2e-3,
            schedule="one-cycle",
            weight_decay=0.01,
        ),
        Recipe(
            name="mnist-mlp",
            dataset="mnist",
            architecture="mlp",
            widths=(512, 512),
            batch_norm=True,
            dropout=0.1,
            standardise=True,
            rotation_degrees=12.0,
            shear_degrees=12.0,
            scaling=0.15,
            shift_pixels=1.5,
            elastic_pixels=0.6,
            epochs=60,
            batch_size=256,
            optimiser="adamw",
            learning_rate=4e-3,
            schedule="one-cycle",
            weight_decay=0.01,
            label_smoothing=0.05,
            weight_averaging=0.999,
            precision="bfloat16",
        ),
        Recipe(
            name="mnist-cnn",
            dataset="mnist",
            architecture="cnn",
            widths=(32, 64, 64, 128, 128),
            batch_norm=True,
            dropout=0.3,
            standardise=True,
            rotation_degrees=12.0,
            shear_degrees=12.0,
            scaling=0.2,
            shift_pixels=2.0,
            elastic_pixels=0.6,
            stroke=1.0,
            upstrokes=0.3,
            bars=0.3,
            stubs=0.3,
            tails=0.3,
            gaps=0.3,
            plain=0.3,
            epochs=40,
            batch_size=128,
            optimiser="adamw",
            learning_rate=4e-3,
            schedule="one-cycle",
            weight_decay=0.02,
            label_smoothing=0.05,
            teachers=("mnist-resnet",),
            teacher_share=0.7,
            weight_averaging=0.998,
            precision="bfloat16",
        ),
        Recipe(
            name="fashion-mnist-mlp",
            dataset="fashion-mnist",
            architecture="mlp",
            widths=(512, 512),
            batch_norm=True,
            dropout=0.2,
            standardise=True,
            flip=True,
            shift_pixels=1.0,
            scaling=0.05,
            epochs=80,
            batch_size=256,
            optimiser="adamw",
            learning_rate=4e-3,
            schedule="one-cycle",
            weight_decay=0.05,
            label_smoothing=0.05,
            weight_averaging=0.999,
        ),
        Recipe(
            name="fashion-mnist-cnn",
            dataset="fashion-mnist",
            architecture="cnn",
            widths=(32, 64, 64, 128, 128),
            batch_norm=True,
            dropout=0.1,
            standardise=True,
            flip=True,
            shift_pixels=2.0,
            scaling=0.08,
            pairs=0.45,
            sleeves=0.2,
            erasing=0.4,
            plain=0.5,
            epochs=90,
            batch_size=128,
            optimiser="adamw",
            learning_rate=4e-3,
            schedule="one-cycle",
            weight_decay=0.05,
            label_smoothing=0.05,
            teachers=("fashion-mnist-resnet", "fashion-mnist-cnn"),
            teacher_share=1.0,
            weight_averaging=0.998,
            precision="bfloat16",
        ),
        Recipe(
            name="mnist-resnet",
            dataset="mnist",
            architecture="resnet",
            widths=(32, 64, 64, 128, 128),
            initialisation="he-normal",
            batch_norm=True,
            dropout=0.2,
            standardise=True,
            rotation_degrees=12.0,
            shear_degrees=12.0,
            scaling=0.2,
            shift_pixels=2.0,
            elastic_pixels=0.6,
            stroke=1.0,
            upstrokes=0.3,
            bars=0.3,
            stubs=0.3,
            tails=0.3,
            gaps=0.3,
            plain=0.3,
            epochs=30,
            batch_size=128,
            optimiser="sgd",
            learning_rate=0.1,
            momentum=0.9,
            schedule="one-cycle",
            weight_decay=5e-4,
            label_smoothing=0.05,
            weight_averaging=0.998,
            precision="bfloat16",
        ),
        Recipe(
            name="fashion-mnist-resnet",
            dataset="fashion-mnist",
            architecture="resnet",
            widths=(32, 64, 64, 128, 128),
            initialisation="he-normal",
            batch_norm=True,
            dropout=0.2,
            standardise=True,
            flip=True,
            shift_pixels=2.0,
            scaling=0.08,
            pairs=0.45,
            sleeves=0.2,
            erasing=0.4,
            plain=0.5,
            epochs=80,
            batch_size=128,
            optimiser="sgd",
            learning_rate=0.1,
            momentum=0.9,
            schedule="one-cycle",
            weight_decay=5e-4,
            label_smoothing=0.05,
            teachers=("fashion-mnist-cnn",),
            weight_averaging=0.998,
            precision="bfloat16",
        ),
    )
}
