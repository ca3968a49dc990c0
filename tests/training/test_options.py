"""What the command line understands, and what it says about the rest."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from training.__main__ import main
from training.errors import UsageError
from training.options import EvaluateOptions, FitOptions, ListOptions, ReportOptions, parse
from training.recipes import RECIPES, Recipe


@pytest.mark.parametrize("field", [field.name for field in fields(Recipe)])
def test_every_field_of_a_recipe_is_a_flag(field: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["fit", "mnist-mlp", "--help"])
    assert caught.value.code == 0
    assert f"--{field.replace('_', '-')}" in re.split(r"[\s,]+", capsys.readouterr().out)


def test_flags_override_the_fields_of_the_named_recipe() -> None:
    options = parse(
        ["fit", "mnist-mlp", "--epochs", "3", "--widths", "8", "9", "--no-batch-norm", "--no-ship"]
    )
    assert isinstance(options, FitOptions)
    assert not options.ship
    recipe = options.recipe
    assert (recipe.epochs, recipe.widths, recipe.batch_norm) == (3, (8, 9), False)
    assert recipe.learning_rate == RECIPES["mnist-mlp"].learning_rate


def test_other_commands_take_their_own_flags(tmp_path: Path) -> None:
    evaluate = parse(["evaluate", "mnist-mlp", "--predictions", "p.txt"])
    assert isinstance(evaluate, EvaluateOptions)
    assert (evaluate.name, evaluate.predictions) == ("mnist-mlp", Path("p.txt"))
    assert parse(["list", "--models", str(tmp_path)]) == ListOptions(tmp_path)
    assert parse(["report"]) == ReportOptions()


@pytest.mark.parametrize(
    ("words", "wrong", "nearest"),
    [
        (["fti", "mnist-mlp"], "command fti", "fit"),
        (["fit", "mnist-mpl"], "recipe mnist-mpl", "mnist-mlp"),
        (["fit", "fashion-cnn"], "recipe fashion-cnn", "fashion-mnist-cnn"),
        (["fit", "mnist-mlp", "--epocs", "3"], "option --epocs", "--epochs"),
        (["fit", "mnist-mlp", "--learning-rat=3"], "option --learning-rat", "--learning-rate"),
        (["fit", "mnist-mlp", "--xyzzy", "3"], "option --xyzzy", "--"),
        (["evaluate", "mnist-mlp", "--prediction", "x"], "option --prediction", "--predictions"),
        (["list", "--epochs", "3"], "option --epochs", "--models"),
        (["reproduce", "mnist-mlp-tan"], "row mnist-mlp-tan", "mnist-mlp-tanh"),
        (["reproduce", "by-hand", "--pag", "x"], "option --pag", "--page"),
    ],
)
def test_an_unknown_word_is_answered_with_the_nearest_that_exist(
    words: list[str], wrong: str, nearest: str
) -> None:
    with pytest.raises(UsageError, match=f"There is no {wrong}\\. The nearest: .*{nearest}"):
        parse(words)


def test_a_wrong_value_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["fit", "mnist-mlp", "--batch-size", "many"])
    assert caught.value.code != 0
    assert "--batch-size" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--epochs 0", "epochs is 0, and may be from 1 upwards"),
        ("--batch-size -4", "batch_size is -4, and may be from 1 upwards"),
        ("--learning-rate 0", "learning_rate is 0.0"),
        ("--learning-rate nan", "learning_rate is nan"),
        ("--weight-decay inf", "weight_decay is inf, and may be from 0 upwards"),
        ("--dropout 1.5", "dropout is 1.5, and may be from 0 to 1"),
        ("--seed -1", "seed is -1"),
        ("--widths 8 0", r"widths are \(8, 0\)"),
        ("--architecture cnn --widths", r"widths are \(\); cnn takes at least one, from 1"),
        ("--architecture rnn", r"widths are \(512, 512\); rnn takes one, from 1"),
        ("--batch-size 1", "batch_norm needs batches of at least two images"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused_before_it_has_a_run(flags: str, says: str) -> None:
    with pytest.raises(UsageError, match=f"mnist-mlp: {says}"):
        parse(["fit", "mnist-mlp", *flags.split()])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("search mnist-mlp --random dropout=0..1 --trials 0", "--trials is 0, and must be at least 1"),
        ("search mnist-mlp --grid dropout=0,0.1 --images -5", "--images is -5, and must be at least 0"),
        ("study overfitting --epochs -1", "--epochs is -1"),
        ("fit mnist-mlp --threads -1", "--threads is -1"),
    ],
)
def test_counts_below_what_makes_sense_are_refused(words: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(words.split())


def test_a_command_that_needs_a_name_asks_for_it() -> None:
    with pytest.raises(UsageError, match="python -m training fit NAME; the recipes: fashion-mnist-softmax, "):
        parse(["fit", "--epochs", "3"])


def test_refusals_go_to_standard_error_and_into_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "mnist-mpl"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert (
        captured.err == "There is no recipe mnist-mpl. The nearest: mnist-mlp, mnist-mlp-16, mnist-mlp-sgd.\n"
    )


@pytest.mark.parametrize(
    ("trouble", "status", "says"),
    [
        (
            OSError(28, "No space left on device", "runs/x"),
            1,
            "[Errno 28] No space left on device: 'runs/x'\n",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_full_disk_and_ctrl_c_end_in_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trouble: BaseException,
    status: int,
    says: str,
) -> None:
    def run(*_: object) -> None:
        raise trouble

    monkeypatch.setattr("training.commands.run", run)
    assert main(["list"]) == status
    assert capsys.readouterr().err == says


def test_without_words_the_usage_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "python -m training fit NAME" in capsys.readouterr().out
