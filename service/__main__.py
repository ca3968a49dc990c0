"""The command line of the service: serve · predict · models · check."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from service import artifacts
from service.answers import describe
from service.artifacts import Classifier
from service.errors import ArtifactRejected, DigitServeError, ImageRejected
from service.images import read_image
from service.settings import Settings

OUT = Console(highlight=False)
ERR = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class CommandFailed(Exception):
    """A command that cannot do its job, with the sentence that says why."""

    reason: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status, 0 when it did its job."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.command(options, _read_settings())
    except CommandFailed as failed:
        ERR.print(f"[red]error:[/] {failed.reason}", soft_wrap=True)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service", description="Serve classifiers of handwritten digits and garments."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="answer HTTP requests until interrupted")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=3000, help="port to listen on (default: %(default)s)")
    serve.set_defaults(command=_serve)

    predict = commands.add_parser("predict", help="classify picture files here, without a server")
    predict.add_argument("files", nargs="+", type=Path, metavar="FILE")
    predict.add_argument("--model", help="which model answers (default: DIGITSERVE_DEFAULT_MODEL)")
    predict.add_argument("--top-k", type=int, choices=range(1, 11), default=1, metavar="K")
    predict.add_argument("--json", action="store_true", help="the service's own JSON, one document")
    predict.set_defaults(command=_predict)

    models = commands.add_parser("models", help="list the models and what they promise")
    models.add_argument("--json", action="store_true", help="one JSON document")
    models.set_defaults(command=_models)

    check = commands.add_parser("check", help="say what is installed and whether every model can be served")
    check.set_defaults(command=_check)
    return parser


def _read_settings() -> Settings:
    try:
        return Settings()
    except ValidationError as invalid:
        faults = [f"DIGITSERVE_{'_'.join(map(str, f['loc'])).upper()}: {f['msg']}" for f in invalid.errors()]
        raise CommandFailed("; ".join(faults)) from None


def _serve(options: argparse.Namespace, settings: Settings) -> int:
    """Become BentoML's server."""
    if settings.log_format == "text":
        _greet(f"http://localhost:{options.port}", settings)
    os.environ["BENTOML_DO_NOT_TRACK"] = "true"
    arguments = ["serve", "service.app:DigitServe", "--host", options.host, "--port", str(options.port)]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", *arguments])  # noqa: S606 - no shell is the point


def _greet(url: str, settings: Settings) -> None:
    print(f"Starting digitserve on {url} ({settings.workers} worker(s), device {settings.device}).")
    print(f"  a picture of a digit   curl -F image=@digit.png {url}/predict")
    print(f"  a garment              curl -F image=@shoe.jpg '{url}/predict?model=fashion-mnist-cnn'")
    print(f"  what is served         {url}/models")
    print(f"  the API                {url}/", flush=True)


def _predict(options: argparse.Namespace, settings: Settings) -> int:
    classifier = _load(options.model or settings.default_model, settings)
    predictions = []
    for file in options.files:
        try:
            image = read_image(file.read_bytes(), classifier.card.canonical_form, "auto", settings.max_pixels)
        except OSError as error:
            raise CommandFailed(f"{file}: {error.strerror}") from error
        except ImageRejected as rejected:
            predictions.append({"error": {"code": rejected.code, "message": rejected.message}})
        else:
            predictions += describe(classifier.card, classifier.predict(image[np.newaxis]), options.top_k)
    if options.json:
        document = {"model": classifier.name, "version": classifier.version, "predictions": predictions}
        print(json.dumps(document, ensure_ascii=False))
    else:
        OUT.print(_predictions_table(options.files, predictions))
    return 1 if any("error" in prediction for prediction in predictions) else 0


def _predictions_table(files: Sequence[Path], predictions: Sequence[dict[str, Any]]) -> Table:
    table = Table("file", "label", "probability", "could be", "looks familiar", box=None)
    for file, prediction in zip(files, predictions, strict=True):
        if "error" in prediction:
            table.add_row(str(file), "[red]none[/]", "", prediction["error"]["message"], "")
            continue
        familiar = {True: "yes", False: "[yellow]no[/]", None: ""}[prediction["in_distribution"]]
        could_be = ", ".join(prediction["prediction_set"] or ())
        table.add_row(str(file), prediction["label"], f"{prediction['probability']:.2%}", could_be, familiar)
    return table


def _models(options: argparse.Namespace, settings: Settings) -> int:
    classifiers = [_load(name, settings) for name in settings.model_names()]
    if options.json:
        cards = [
            {"name": c.name, "version": c.version, **c.card.model_dump(mode="json")} for c in classifiers
        ]
        print(json.dumps(cards, ensure_ascii=False))
    else:
        OUT.print(_models_table(classifiers))
    return 0


def _models_table(classifiers: Sequence[Classifier]) -> Table:
    table = Table("model", "version", "dataset", "weights", "test accuracy", "runs on", box=None)
    for classifier in classifiers:
        card = classifier.card
        provider = classifier.provider.removesuffix("ExecutionProvider")
        row = (classifier.name, classifier.version, card.dataset, f"{card.parameters:,}")
        table.add_row(*row, f"{card.test_accuracy:.2%}", provider)
    return table


def _check(_: argparse.Namespace, settings: Settings) -> int:
    """Print what is found here; the exit status is 1 when some model cannot be served."""
    facts = Table(box=None, show_header=False)
    facts.add_row("Python", platform.python_version())
    for what, found in artifacts.runtime_facts().items():
        facts.add_row(what, found)
    for field, value in settings:
        facts.add_row(
            f"DIGITSERVE_{field.upper()}", ",".join(value) if isinstance(value, tuple) else str(value)
        )
    OUT.print(facts)

    served, refused = [], []
    for name in settings.model_names():
        try:
            served.append(artifacts.load_named(name, settings))
        except ArtifactRejected as rejected:
            refused.append(rejected.message)
    OUT.print(_models_table(served))
    if not settings.model_names():
        refused.append(f"There is no artifact in {settings.models_dir}.")
    for reason in refused:
        ERR.print(f"[red]refused:[/] {reason}", soft_wrap=True)
    return 1 if refused else 0


def _load(name: str, settings: Settings) -> Classifier:
    try:
        return artifacts.load_named(name, settings)
    except DigitServeError as error:
        raise CommandFailed(error.message) from None


if __name__ == "__main__":
    sys.exit(main())
