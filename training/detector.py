"""How much an image looks like the training data: a small head on the network's features, and its energy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch
from torch import nn
from torch.nn import functional

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


class Detector(nn.Module):
    """Two opinions on whether an image is a training image or a broken one; both must say yes.

    One is a hidden layer over the features that the network's last layer sees. The other is the energy of
    Liu et al. 2020, log sum exp of the logits, through a logistic function: it hardly depends on what the
    broken images were like.
    """

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, units)
        self.opinion = nn.Linear(units, 1)
        self.energy = nn.Linear(1, 1)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return the log odds of both opinions, [n, 2], from features [n, features] and logits [n, 10]."""
        return functional.linear(self._evidence(features, logits), *self._last_layers())

    def typicality(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return the least of both log odds and their sum, [n]: two mild doubts add up, trust never does.

        It follows the logarithm of the product of both probabilities, with half as many nodes.
        """
        terms = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], device=features.device)
        weight, bias = self._last_layers()
        return functional.linear(self._evidence(features, logits), terms @ weight, terms @ bias).amin(dim=1)

    def _evidence(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return the hidden values and the energy side by side, [n, units + 1]."""
        hidden = functional.relu(self.hidden(features))
        return torch.cat((hidden, torch.logsumexp(logits, dim=1, keepdim=True)), dim=1)

    def _last_layers(self) -> tuple[Tensor, Tensor]:
        """Return weight [2, units + 1] and bias [2] of both as one: every node of the graph costs time."""
        weight: Tensor = torch.block_diag(self.opinion.weight, self.energy.weight)  # type: ignore[no-untyped-call]
        return weight, torch.cat((self.opinion.bias, self.energy.bias))


def units_for(features: int, macs: int) -> int:
    """Return how many hidden units a fortieth of the network's multiply-adds pays for: from 1 to 64."""
    return max(1, min(UNITS, int(COST_SHARE * macs) // features))


def fit_detector(network: nn.Sequential, training: Split, recipe: Recipe, macs: int) -> Detector:
    """Learn to tell training images, as they are and augmented, from broken ones.

    Args:
        network: trained, ending in the linear layer that gives the logits; it is not changed.
        training: images with their labels, on the network's device.
        recipe: says how the images are augmented, and seeds what is random here.
        macs: multiply-adds of the network's forward pass of one image.
    """
    device = training.images.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        features, real = _examples(network.eval(), training, recipe)
        logits = network[-1](features).detach()
        detector = Detector(features.shape[1], units_for(features.shape[1], macs)).to(device)
        _train(detector, features, logits, real)
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
    """Return the features of as many real images as broken ones, [2n, features], and which are real, [2n]."""
    features, real = [], []
    drawn = torch.randperm(len(training), device=training.images.device)[:IMAGES]
    for places in torch.split(drawn, 1_000):
        pixels = training.images[places].float() / 255
        augmented = augment(pixels, training.labels[places], recipe)
        plain = choose(pixels, 0.5)
        both = torch.cat((torch.where(plain, pixels, augmented), break_images(augmented, recipe)))
        features.append(network[:-1](both))
        real.append(torch.arange(len(both), device=both.device) < len(pixels))
    return torch.cat(features), torch.cat(real)


def _train(detector: Detector, features: Tensor, logits: Tensor, real: Tensor) -> None:
    """Minimise the cross-entropy of both opinions; the scale of the inputs ends up in the weights."""
    energy = torch.logsumexp(logits, dim=1, keepdim=True)
    feature_scale, energy_scale = _scale(features), _scale(energy)
    targets = real[:, None].float().expand(-1, 2)
    steps = math.ceil(len(real) / BATCH) * EPOCHS
    optimiser = torch.optim.AdamW(detector.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for places in torch.split(torch.randperm(len(real), device=real.device), BATCH):
            scaled = [
                (inputs[places] - mean) / deviation
                for inputs, (mean, deviation) in ((features, feature_scale), (energy, energy_scale))
            ]
            # logsumexp of one number is the number: the energy stands for the logits here
            odds = detector(scaled[0], scaled[1])
            optimiser.zero_grad()
            torch.autograd.backward(functional.binary_cross_entropy_with_logits(odds, targets[places]))
            optimiser.step()
            schedule.step()
    _absorb(detector.hidden, *feature_scale)
    _absorb(detector.energy, *energy_scale)


def _scale(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each column; one that hardly varies is not blown up."""
    deviation = inputs.std(0)
    return inputs.mean(0), deviation + 1e-3 * deviation.max()


@torch.no_grad()
def _absorb(layer: nn.Linear, mean: Tensor, deviation: Tensor) -> None:
    """Change the layer so that it gives for x what it gave for (x - mean) / deviation."""
    layer.weight.div_(deviation)
    layer.bias.sub_(layer.weight @ mean)
