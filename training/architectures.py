"""The networks, simplest first, from pixels between 0 and 1 [batch, 28, 28] to logits [batch, 10]."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import TYPE_CHECKING, Final

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from training.data import SOURCES

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from training.recipes import Recipe

CLASSES: Final = 10
SIDE: Final = 28
# What oneDNN takes at once with AVX2. In PyTorch 2.15 a 1x1 convolution of fewer channels, in steps
# of two and in float32, corrupts memory there where channels come last.
BLOCK: Final = 8

ACTIVATIONS: Final[dict[str, Callable[[], nn.Module]]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "leaky-relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def build(recipe: Recipe) -> nn.Sequential:
    """Return the recipe's network with its first weights, drawn from the recipe's seed alone."""
    architectures = {"softmax": _softmax, "mlp": _mlp, "cnn": _cnn, "resnet": _resnet, "rnn": _rnn}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        layers = architectures[recipe.architecture](recipe)
    if recipe.standardise:
        source = SOURCES[recipe.dataset]
        layers.insert(0, Standardise(source.mean, source.standard_deviation))
    network = nn.Sequential(*layers)
    initialise(network, recipe.initialisation, torch.Generator().manual_seed(recipe.seed))
    if min(recipe.widths, default=0) >= BLOCK:
        network.to(memory_format=torch.channels_last)  # a quarter less time in the convolutions of a CPU
    return network


class Standardise(nn.Module):
    """Give the pixels of a dataset mean 0 and variance 1."""

    def __init__(self, mean: float, standard_deviation: float) -> None:
        super().__init__()
        self.mean = mean
        self.standard_deviation = standard_deviation

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean) / self.standard_deviation


class Dropout(nn.Dropout):
    """PyTorch's, but on a CPU 16 random bits decide on a value: a third of the time of 53 bits for each."""

    def forward(self, values: Tensor) -> Tensor:
        if not (self.training and self.p) or values.device.type != "cpu":
            return super().forward(values)
        draws = torch.empty(math.ceil(values.numel() / 4), dtype=torch.int64).random_(-(2**63), None)
        bits = draws.view(torch.int16)[: values.numel()].view_as(values)
        kept = bits >= round(self.p * 2**16) - 2**15
        scaled = kept.view(torch.uint8).to(values.dtype).mul_(1 / (1 - self.p))  # from bool it takes longer
        return values * scaled


def _softmax(_recipe: Recipe) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES)]


def _mlp(recipe: Recipe) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Flatten()]  # [batch, 784]
    for inputs, outputs in itertools.pairwise((SIDE * SIDE, *recipe.widths)):
        layers.append(nn.Linear(inputs, outputs, bias=not recipe.batch_norm))
        if recipe.batch_norm:
            layers.append(nn.BatchNorm1d(outputs))
        layers.append(ACTIVATIONS[recipe.activation]())
        if recipe.dropout:
            layers.append(Dropout(recipe.dropout))
    return [*layers, nn.Linear((SIDE * SIDE, *recipe.widths)[-1], CLASSES)]


def _cnn(recipe: Recipe) -> list[nn.Module]:
    """One convolution with max-pooling, then pairs of convolutions of which the second halves the sides.

    Five widths give sides of 28, 14, 14, 7, 7, 4. Pooling right after the first convolution keeps the costly
    28x28 maps to that layer: a training step takes four fifths of the time of pooling after normalisation.
    """
    layers: list[nn.Module] = [nn.Unflatten(1, (1, SIDE))]  # [batch, 1, 28, 28]
    for depth, (inputs, outputs) in enumerate(itertools.pairwise((1, *recipe.widths))):
        halves = depth > 0 and depth % 2 == 0
        layers.append(
            nn.Conv2d(inputs, outputs, 3, stride=2 if halves else 1, padding=1, bias=not recipe.batch_norm)
        )
        if depth == 0:
            layers.append(nn.MaxPool2d(2))  # [batch, widths[0], 14, 14]
        if recipe.batch_norm:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(ACTIVATIONS[recipe.activation]())
    side = SIDE // 2
    for _ in range((len(recipe.widths) - 1) // 2):
        side = (side + 1) // 2
    head = nn.Linear(recipe.widths[-1] * side * side, CLASSES)
    return [*layers, nn.Flatten(), Dropout(recipe.dropout), head]


class Residual(nn.Module):
    """y = F(x) + x, with a 1x1 convolution on the skip where the channels or the sides change.

    F is batch normalisation, activation, convolution, twice over (He et al. 2016, "Identity Mappings in Deep
    Residual Networks").
    """

    def __init__(self, recipe: Recipe, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        activation = ACTIVATIONS[recipe.activation]
        self.before = nn.Sequential(nn.BatchNorm2d(inputs), activation())
        self.skip = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)
        )
        self.transform = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            activation(),
            nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False),
        )

    def forward(self, maps: Tensor) -> Tensor:
        activated = self.before(maps)
        shortcut = maps if isinstance(self.skip, nn.Identity) else self.skip(activated)
        result: Tensor = self.transform(activated) + shortcut
        return result


def _resnet(recipe: Recipe) -> list[nn.Module]:
    """One convolution, a residual block for each further width, global average pooling, one linear layer."""
    first, last = recipe.widths[0], recipe.widths[-1]
    layers: list[nn.Module] = [
        nn.Unflatten(1, (1, SIDE)),  # [batch, 1, 28, 28]
        nn.Conv2d(1, first, kernel_size=3, padding=1, bias=False),
    ]
    for inputs, outputs in itertools.pairwise(recipe.widths):
        layers.append(Residual(recipe, inputs, outputs, stride=1 if inputs == outputs else 2))
    layers += [nn.BatchNorm2d(last), ACTIVATIONS[recipe.activation]()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), Dropout(recipe.dropout)]  # [batch, last]
    return [*layers, nn.Linear(last, CLASSES)]


class RowRNN(nn.Module):
    """Reads an image as 28 rows of 28: H_t = tanh(X_t W_xh + H_{t-1} W_hh + b); returns the last state."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.input = nn.Linear(SIDE, hidden)
        self.state = nn.Linear(hidden, hidden, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        inputs = self.input(pixels)  # [batch, 28, hidden]: the part that waits for no earlier row
        state = torch.tanh(inputs[:, 0])  # [batch, hidden]
        for row in range(1, SIDE):
            state = torch.tanh(inputs[:, row] + self.state(state))
        return state


def _rnn(recipe: Recipe) -> list[nn.Module]:
    (hidden,) = recipe.widths
    return [RowRNN(hidden), Dropout(recipe.dropout), nn.Linear(hidden, CLASSES)]


def initialise(network: nn.Module, how: str, generator: torch.Generator) -> None:
    """Draw every weight of the linear and convolutional layers anew, in order, and set their biases to 0.

    The draws have the shape (inputs, outputs) that textbooks write, so that one generator gives the weights
    of a formula W1, W2, …; PyTorch keeps the transpose. "default" leaves PyTorch's own draws alone.
    """
    if how == "default":
        return
    draws: dict[str, Callable[[Tensor], Tensor]] = {
        "normal-1": lambda weight: weight.normal_(0, 1, generator=generator),
        "normal-0.01": lambda weight: weight.normal_(0, 0.01, generator=generator),
        "xavier-normal": lambda weight: nn.init.xavier_normal_(weight, generator=generator),
        "xavier-uniform": lambda weight: nn.init.xavier_uniform_(weight, generator=generator),
        "he-normal": lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out", generator=generator),
    }
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                drawn = draws[how](torch.empty_like(layer.weight.transpose(0, 1)).contiguous())
                layer.weight.copy_(drawn.transpose(0, 1))
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def count_weights(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def count_macs(network: nn.Module) -> int:
    """Return the multiply-adds of one forward pass of one image."""
    training = network.training
    network.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, SIDE, SIDE))
    network.train(training)
    return int(counter.get_total_flops()) // 2
