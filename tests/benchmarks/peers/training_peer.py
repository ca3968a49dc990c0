"""Training as the usual script does it: torchvision, ToTensor and Normalize, DataLoader, a plain loop.

    python -m tests.benchmarks.peers.training_peer --data data --workers 0

is PyTorch's well-known MNIST example, stopped where the validation images say 99.0 %.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

NORMALISED = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
VALIDATION_SEED = 20_240_229  # as training/data.py: the same images are held out
VALIDATION_IMAGES = 5_000


def split(folder: Path) -> tuple[Subset, Subset]:
    """The training and the validation images."""
    everything = datasets.MNIST(folder, train=True, transform=NORMALISED)
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(VALIDATION_SEED)).tolist()
    return Subset(everything, order[VALIDATION_IMAGES:]), Subset(everything, order[:VALIDATION_IMAGES])


def train_epoch(network: nn.Module, loader: DataLoader, optimiser: torch.optim.Optimizer) -> Iterator[int]:
    """Take an epoch's steps; after each, say how many images it saw."""
    network.train()
    for images, labels in loader:
        optimiser.zero_grad()
        loss = functional.cross_entropy(network(images), labels)
        loss.backward()
        optimiser.step()
        yield len(images)


@torch.no_grad()
def accuracy(network: nn.Module, loader: DataLoader) -> float:
    network.eval()
    right = sum(int((network(images).argmax(1) == labels).sum()) for images, labels in loader)
    network.train()
    return right / len(loader.dataset)


def usual_mlp(dropout: float) -> nn.Sequential:
    """784-512-512-10 as `mnist-mlp` has it, of PyTorch's own layers."""
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(784, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(), nn.Dropout(dropout)),
        *(nn.Linear(512, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(), nn.Dropout(dropout)),
        nn.Linear(512, 10),
    )


def usual_cnn() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(
            nn.Dropout(0.25),
            nn.Flatten(),
            nn.Linear(9216, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, 10),
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("DIGITSERVE_DATA", "data")))
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", type=float, default=0.99)
    parser.add_argument("--images-between-checks", type=int, default=12_800)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    training, validation = split(options.data)
    loader = DataLoader(training, batch_size=64, shuffle=True, num_workers=options.workers)
    checks = DataLoader(validation, batch_size=1_000, num_workers=options.workers)
    network = usual_cnn()
    optimiser = torch.optim.Adadelta(network.parameters(), lr=1.0)
    schedule = StepLR(optimiser, step_size=1, gamma=0.7)
    seen = checked = 0
    for _epoch in count():
        for images in train_epoch(network, loader, optimiser):
            seen += images
            if seen - checked >= options.images_between_checks:
                checked = seen
                reached = accuracy(network, checks)
                print(f"validation {seen} {reached}", flush=True)
                if reached >= options.target:
                    test = datasets.MNIST(options.data, train=False, transform=NORMALISED)
                    print(f"test {seen} {accuracy(network, DataLoader(test, batch_size=1_000))}", flush=True)
                    return
        schedule.step()


if __name__ == "__main__":
    main()
