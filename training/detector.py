"""How much an image looks like the training data: a small head on the network's features, and one score."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch
from torch import nn
from torch.nn import functional

from training.architectures import CLASSES
from training.augment import augment
from training.counterexamples import break_images
from training.randomness import choose

if TYPE_CHECKING:
    from torch import Tensor

    from training.data import Split
    from training.recipes import Recipe

UNITS: Final = 64
# Of the network's multiply-adds, at most; with its nodes the time stays below a tenth. For the MLPs at batch
# size 1 (one thread, ONNX Runtime 1.31, median of 120 runs) 64 units add 13 % to 56 us, 32 add 9 %.
COST_SHARE: Final = 0.025
IMAGES: Final = 30_000
EPOCHS: Final = 10
BATCH: Final = 256
LEARNING_RATE: Final = 4e-3
WEIGHT_DECAY: Final = 0.01
AUGMENTED, BROKEN = -1, -2  # where an image as it is has its label
RIDGE: Final = 1e-3  # of the features' mean variance, added to each: some never vary


class Energy(nn.Module):
    """log sum exp of the logits (Liu et al. 2020): how sure the network is of any of its classes."""

    def forward(self, _features: Tensor, logits: Tensor) -> Tensor:
        """Return [n, 1] from logits [n, 10]."""
        return torch.logsumexp(logits, dim=1, keepdim=True)


class Distance(nn.Module):
    """Minus the squared Mahalanobis distance of the features from the nearest class (Lee et al. 2018).

    The classes differ in their means and share one covariance, which `whiten` [features, features] turns into
    unit variances; `centres` [classes, features] are the means in that measure.
    """

    whiten: Tensor
    centres: Tensor

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        """Fit to the features [n, features] of whole images with these labels [n]."""
        super().__init__()
        values = features.double()
        present, places = torch.unique(labels, return_inverse=True)
        means = torch.stack([values[places == place].mean(0) for place in range(len(present))])
        within = values - means[places]
        covariance = within.T @ within / len(values)
        variances = covariance.diagonal()  # a view
        variances += RIDGE * variances.mean().clamp(min=1e-12)
        whiten = torch.linalg.cholesky(torch.linalg.inv(covariance))
        self.register_buffer("whiten", whiten.float())
        self.register_buffer("centres", (means @ whiten).float())

    def forward(self, features: Tensor, _logits: Tensor) -> Tensor:
        """Return [n, 1] from features [n, features]."""
        ways = (features @ self.whiten)[:, None] - self.centres  # [n, classes, features]
        return -ways.square().sum(2).amin(1, keepdim=True)


class Detector(nn.Module):
    """Two opinions on whether an image is a training image or a broken one; both must say yes.

    One is a hidden layer over the features that the network's last layer sees. The other is one score through
    a logistic function, which hardly depends on what the broken images were like.
    """

    def __init__(self, features: int, units: int, score: Energy | Distance) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, units)
        self.opinion = nn.Linear(units, 1)
        self.score = score
        self.trust = nn.Linear(1, 1)

    def forward(self, features: Tensor, score: Tensor) -> Tensor:
        """Return the log odds of both opinions, [n, 2], from features [n, features] and the score [n, 1]."""
        return functional.linear(self._evidence(features, score), *self._last_layers())

    def typicality(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return the least of both log odds and their sum, [n]: two mild doubts add up, trust never does.

        It follows the logarithm of the product of both probabilities, with half as many nodes.
        """
        terms = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], device=features.device)
        weight, bias = self._last_layers()
        evidence = self._evidence(features, self.score(features, logits))
        return functional.linear(evidence, terms @ weight, terms @ bias).amin(dim=1)

    def _evidence(self, features: Tensor, score: Tensor) -> Tensor:
        """Return the hidden values and the score side by side, [n, units + 1]."""
        return torch.cat((functional.relu(self.hidden(features)), score), dim=1)

    def _last_layers(self) -> tuple[Tensor, Tensor]:
        """Return weight [2, units + 1] and bias [2] of both as one: every node of the graph costs time."""
        weight: Tensor = torch.block_diag(self.opinion.weight, self.trust.weight)  # type: ignore[no-untyped-call]
        return weight, torch.cat((self.opinion.bias, self.trust.bias))


def units_for(features: int, macs: int) -> int:
    """Return how many hidden units a fortieth of the network's multiply-adds pays for: from 1 to 64."""
    return max(1, min(UNITS, int(COST_SHARE * macs) // features))


def fit_detector(network: nn.Sequential, training: Split, recipe: Recipe, macs: int) -> Detector:
    """Learn to tell training images, as they are and augmented, from broken ones.

    The score is the distance where that needs no more than a fortieth of the network's multiply-adds, which
    grow with the square of the number of features, and the energy elsewhere.

    Args:
        network: trained, ending in the linear layer that gives the logits; it is not changed.
        training: images with their labels, on the network's device.
        recipe: says how the images are augmented, and seeds what is random here.
        macs: multiply-adds of the network's forward pass of one image.
    """
    device = training.images.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        features, labels = _examples(network.eval(), training, recipe)
        count = features.shape[1]
        as_they_are = labels >= 0
        affordable = count * (count + CLASSES) <= COST_SHARE * macs
        score = Distance(features[as_they_are], labels[as_they_are]) if affordable else Energy()
        detector = Detector(count, units_for(count, macs), score).to(device)
        _train(detector, features, score(features, network[-1](features)).detach(), labels != BROKEN)
    return detector.eval()


@torch.no_grad()
def predict_typicality(network: nn.Sequential, detector: Detector, images: Tensor) -> Tensor:
    """Return the typicality [n] of uint8 images [n, 28, 28]."""
    parts = []
    for batch in torch.split(images, 1_000):
        features = network[:-1](batch.float() / 255)
        parts.append(detector.typicality(features, network[-1](features)))
    return torch.cat(parts)


@torch.no_grad()
def _examples(network: nn.Sequential, training: Split, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Return the features of as many real images as broken ones, [2n, features], and what they are, [2n].

    That is the label of an image as it is, AUGMENTED or BROKEN.
    """
    features, kinds = [], []
    drawn = torch.randperm(len(training), device=training.images.device)[:IMAGES]
    for places in torch.split(drawn, 1_000):
        pixels, labels = training.images[places].float() / 255, training.labels[places]
        augmented = augment(pixels, labels, recipe)
        plain = choose(pixels, 0.5)
        both = torch.cat((torch.where(plain, pixels, augmented), break_images(augmented, recipe)))
        features.append(network[:-1](both))
        kinds += [labels.where(plain[:, 0, 0], AUGMENTED), torch.full_like(labels, BROKEN)]
    return torch.cat(features), torch.cat(kinds)


def _train(detector: Detector, features: Tensor, scores: Tensor, real: Tensor) -> None:
    """Minimise the cross-entropy of both opinions; the scale of the inputs ends up in the weights."""
    inputs = [(values, *_scale(values)) for values in (features, scores)]
    targets = real[:, None].float().expand(-1, 2)
    steps = math.ceil(len(real) / BATCH) * EPOCHS
    optimiser = torch.optim.AdamW(detector.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for places in torch.split(torch.randperm(len(real), device=real.device), BATCH):
            odds = detector(*((values[places] - mean) / deviation for values, mean, deviation in inputs))
            optimiser.zero_grad()
            torch.autograd.backward(functional.binary_cross_entropy_with_logits(odds, targets[places]))
            optimiser.step()
            schedule.step()
    for layer, (_, mean, deviation) in zip((detector.hidden, detector.trust), inputs, strict=True):
        _absorb(layer, mean, deviation)


def _scale(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each column; one that hardly varies is not blown up."""
    deviation = inputs.std(0)
    return inputs.mean(0), deviation + 1e-3 * deviation.max()


@torch.no_grad()
def _absorb(layer: nn.Linear, mean: Tensor, deviation: Tensor) -> None:
    """Change the layer so that it gives for x what it gave for (x - mean) / deviation."""
    layer.weight.div_(deviation)
    layer.bias.sub_(layer.weight @ mean)
