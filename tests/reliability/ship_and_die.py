"""Ships an untrained network into a folder, and may be told to die before its n-th renaming of a file."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

from training.architectures import build
from training.data import Split
from training.export import Candidate, export
from training.recipes import RECIPES


def main(folder: Path, seed: int, dies_before: int) -> None:
    rename, renamed = Path.replace, 0

    def counted(self: Path, target: Path) -> Path:
        nonlocal renamed
        renamed += 1
        if renamed == dies_before:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)

    Path.replace = counted  # type: ignore[method-assign]
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (1000, 28, 28), generator=generator, dtype=torch.uint8)
    recipe = replace(RECIPES["mnist-mlp"], name="mnist-cnn", widths=(16,))
    candidate = Candidate(build(recipe), recipe, None, None, "abc")
    export(candidate, Split(images, torch.zeros(1000, dtype=torch.int64)), folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
