"""Neural networks in NumPy, every gradient derived by hand: the oracle that PyTorch is checked against.

Read it in this order, simplest first:

    layers.py          a power, an activation, a linear map, a network of them, a recurrence
    losses.py          how wrong an answer is: squared error, cross-entropy
    image_layers.py    convolution, pooling, batch normalisation
    learning.py        gradient descent, and five small things that learn by it
    worked_numbers.py  results that fit on a blackboard, each with the code that gives it

Backpropagation is the chain rule, applied from the loss backwards. Write L for the loss and `d_y` for its
gradient with respect to y: an array of y's own shape, whose entries are the derivatives of L by each entry
of y. A layer y = f(x, w) receives `d_y`, hands on `d_x` = Σ d_y · ∂y/∂x, and keeps `d_w` = Σ d_y · ∂y/∂w for
its weights. No layer needs to know what stands before or after it.

Every array keeps the precision it comes in: float64 weights and inputs for checks, float32 for speed.
"""

from training.by_hand.image_layers import (
    AveragePool,
    ChannelAffine,
    Convolution,
    GlobalAveragePool,
    MaxPool,
    Standardise,
    batch_norm,
    frozen_batch_norm,
)
from training.by_hand.layers import (
    Array,
    Layer,
    LeakyReLU,
    Linear,
    Network,
    Polynomial,
    PReLU,
    Recurrent,
    ReLU,
    Reshape,
    Residual,
    Sigmoid,
    Tanh,
)
from training.by_hand.learning import (
    correlated_features,
    descend,
    draw_weight,
    least_squares,
    linear_mlp,
    linear_regression,
    minimise,
    tanh_mlp,
    train_and_neuron,
    train_linear_mlp,
    train_linear_regression,
    train_tanh_mlp,
    unit_length,
)
from training.by_hand.losses import (
    Loss,
    cross_entropy,
    half_squared_error,
    log_softmax,
    softmax,
    squared_error,
)
from training.by_hand.worked_numbers import WORKED_NUMBERS, WorkedNumber

__all__ = [
    "WORKED_NUMBERS",
    "Array",
    "AveragePool",
    "ChannelAffine",
    "Convolution",
    "GlobalAveragePool",
    "Layer",
    "LeakyReLU",
    "Linear",
    "Loss",
    "MaxPool",
    "Network",
    "PReLU",
    "Polynomial",
    "ReLU",
    "Recurrent",
    "Reshape",
    "Residual",
    "Sigmoid",
    "Standardise",
    "Tanh",
    "WorkedNumber",
    "batch_norm",
    "correlated_features",
    "cross_entropy",
    "descend",
    "draw_weight",
    "frozen_batch_norm",
    "half_squared_error",
    "least_squares",
    "linear_mlp",
    "linear_regression",
    "log_softmax",
    "minimise",
    "softmax",
    "squared_error",
    "tanh_mlp",
    "train_and_neuron",
    "train_linear_mlp",
    "train_linear_regression",
    "train_tanh_mlp",
    "unit_length",
]
