"""The figures of the course material come out, and a figure that does not is said to differ."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest
import torch
from rich.console import Console
from tiny_training import changed
from torch.nn import functional

from training.__main__ import main
from training.architectures import build
from training.data import Split, Splits
from training.errors import PageIncomplete
from training.options import ROOT, ReproduceOptions, parse
from training.page_tables import read_table
from training.reproduce import networks
from training.reproduce.blackboard import by_hand_rows
from training.reproduce.material import (
    MLP_16_WEIGHTS,
    QUICKSTART,
    QUICKSTART_TOLERANCE,
    ROWS,
    TANH_LOSSES,
    Quickstart,
)
from training.reproduce.networks import ask_test_images, quickstart, tanh_mlp
from training.reproduce.outcome import AGREES, DIFFERS, Bench
from training.reproduce.run import REPRODUCTIONS, run_reproduce
from training.series import Series

if TYPE_CHECKING:
    from pathlib import Path

    from training.recipes import Recipe

PAGE = ROOT / "training" / "reproduced.md"


def make_bench(data: Path | None = None) -> Bench:
    return Bench(data, torch.device("cpu"), Series(Console(file=io.StringIO()), "test"))


def lines_of(name: str) -> list[list[str]]:
    """The cells of a table of the page, below its head."""
    rows = [line for line in read_table(PAGE, name).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]]


@pytest.mark.data
def test_the_tanh_mlp_gives_the_printed_losses_by_both_roads(data_folder: Path) -> None:
    """Before steps 0 and 10 of the printed hundred, on the real images: the figures belong to them alone."""
    outcome = tanh_mlp(make_bench(data_folder), steps=11)
    assert outcome.lines == [
        ("0", "15.9699", "15.9699", "15.9699", AGREES),
        ("10", "10.9262", "10.9262", "10.9262", AGREES),
    ]
    assert outcome.agrees


def test_one_decimal_off_on_one_road_is_no_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Split(torch.zeros(0, 28, 28, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    exact = [float(TANH_LOSSES.get(step, "0")) for step in range(100)]
    monkeypatch.setattr(networks, "load_training", lambda *_: Splits(empty, empty))
    monkeypatch.setattr(networks, "_losses_by_hand", lambda *_: exact)
    monkeypatch.setattr(networks, "_losses_by_autograd", lambda *_: exact)
    assert tanh_mlp(make_bench()).agrees
    monkeypatch.setattr(networks, "_losses_by_autograd", lambda *_: [*exact[:99], exact[99] + 1e-4])
    outcome = tanh_mlp(make_bench())
    assert [line[-1] for line in outcome.lines] == [AGREES] * 10 + [DIFFERS]
    assert not outcome.agrees


@pytest.mark.parametrize(("off", "word"), [(0.0299, AGREES), (-0.0299, AGREES), (0.0301, DIFFERS)])
def test_the_mean_of_the_seeds_decides_about_the_quickstart(
    monkeypatch: pytest.MonkeyPatch, off: float, word: str
) -> None:
    empty = Split(torch.zeros(0, 28, 28, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    shifts = {1: off - 0.1, 2: off, 3: off + 0.1}  # by seed

    def run(recipe: Recipe, *_: object) -> list[Quickstart]:
        assert recipe.epochs == 3
        return [Quickstart(loss + shifts[recipe.seed], 50.0 + recipe.seed) for loss, _ in QUICKSTART.values()]

    monkeypatch.setattr(networks, "load_training", lambda *_: Splits(empty, empty))
    monkeypatch.setattr(networks, "load_test", lambda *_: empty)
    monkeypatch.setattr(networks, "_quickstart_run", run)
    outcome = quickstart(make_bench(), seeds=3)
    assert [line[-1] for line in outcome.lines] == [word] * 3
    assert outcome.lines[0][2] == f"{2.161597 + off:.4f} ± 0.1000"
    assert outcome.lines[0][5] == "52.0 ± 1.0 %"


def test_the_quickstart_takes_the_mean_over_batches_where_the_last_one_is_small(tiny: Recipe) -> None:
    network = build(changed(tiny, initialisation="he-normal")).eval()
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (130, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.randint(10, (130,), generator=generator)
    with torch.no_grad():
        batches = [
            functional.cross_entropy(network(images[s] / 255), labels[s])
            for s in (slice(64), slice(64, 128), slice(128, 130))
        ]
    loss, accuracy = ask_test_images(network, Split(images, labels))
    assert loss == pytest.approx(float(sum(batches)) / 3, rel=1e-5)
    assert accuracy == pytest.approx(100 * float((network(images / 255).argmax(1) == labels).float().mean()))


def test_the_page_holds_every_row_reproduced_from_committed_code() -> None:
    assert set(REPRODUCTIONS) == set(ROWS)
    for name in ROWS:
        table = read_table(PAGE, name)
        assert table
        assert re.search(r"commit [0-9a-f]{40}\.$", table)
        assert {line[-1] for line in lines_of(name)} == {AGREES}


def test_the_page_says_of_the_networks_what_its_own_figures_say() -> None:
    assert lines_of("mnist-mlp-tanh") == [
        [str(step), *[loss] * 3, AGREES] for step, loss in TANH_LOSSES.items()
    ]
    assert lines_of("mnist-mlp-16") == [["weights and biases", *[f"{MLP_16_WEIGHTS:,}"] * 2, AGREES]]
    lines = lines_of("fashion-mnist-mlp-quickstart")
    assert [line[0] for line in lines] == [str(epoch) for epoch in QUICKSTART]
    for line, printed in zip(lines, QUICKSTART.values(), strict=True):
        mean, difference = float(line[2].split()[0]), float(line[3])
        assert float(line[1]) == printed.test_loss
        assert difference == pytest.approx(mean - printed.test_loss, abs=1e-4)
        assert abs(difference) <= QUICKSTART_TOLERANCE


@pytest.mark.data
def test_the_page_says_of_work_by_hand_what_comes_out_now(data_folder: Path) -> None:
    outcome = by_hand_rows(make_bench(data_folder))
    assert outcome.agrees
    said, found = lines_of("by-hand"), [list(line) for line in outcome.lines]
    for before, now in zip(said, found, strict=True):
        if "e-" in now[2]:  # what rounding leaves differs between machines
            before[2] = now[2]
        assert before == now


def test_a_row_is_written_into_its_place_and_leaves_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    assert main(["reproduce", "mnist-mlp-16", "--page", str(page), "--device", "cpu"]) == 0
    assert "| weights and biases | 13,002 | 13,002 | agrees |" in read_table(page, "mnist-mlp-16")
    assert all(not read_table(page, name) for name in ROWS if name != "mnist-mlp-16")
    printed = capsys.readouterr().out
    assert "13,002" in printed
    assert re.search(r"1 of 4 rows in \d+ s", printed)


def test_a_figure_that_differs_fails_the_command_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(networks, "MLP_16_WEIGHTS", 13_003)
    page = tmp_path / "page.md"
    assert main(["reproduce", "mnist-mlp-16", "--page", str(page), "--device", "cpu"]) == 1
    assert capsys.readouterr().err == "Other figures than the material's: mnist-mlp-16.\n"
    assert "| 13,003 | 13,002 | differs |" in read_table(page, "mnist-mlp-16")


def test_nothing_is_trained_for_a_page_that_cannot_take_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Reproduced\n")
    with pytest.raises(PageIncomplete, match=r"page\.md needs one line <!-- mnist-mlp-tanh"):
        run_reproduce(ReproduceOptions(page=page), Console(file=io.StringIO()))


def test_rows_are_named_or_all_are_meant() -> None:
    both = parse(["reproduce", "by-hand", "mnist-mlp-16", "--threads", "1"])
    assert isinstance(both, ReproduceOptions)
    assert (both.names, both.threads) == (("by-hand", "mnist-mlp-16"), 1)
    assert parse(["reproduce"]) == ReproduceOptions()
