"""How people see the documents of the commands: tables, with colours on a terminal alone."""

from __future__ import annotations

import json

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from service.commands import Document

# Columns are folded where a terminal is too narrow for them; what goes into a file or a pipe has no width.
UNFOLDED = 10_000


def show(renderable: RenderableType) -> None:
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(renderable)
        return
    console = Console(highlight=False, width=UNFOLDED)
    with console.capture() as captured:
        console.print(renderable)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def predictions(document: Document) -> Table:
    table = _table("file", "label", "probability", "could be", "note")
    for prediction in document["predictions"]:
        file = prediction["file"]
        if "error" in prediction:
            table.add_row(escape(file), "[red]none[/]", "", "", escape(prediction["error"]["message"]))
            continue
        ranked = [f"{each['label']} {each['probability']:.2%}" for each in prediction["top"][1:]]
        probability = ", ".join([f"{prediction['probability']:.2%}", *ranked])
        could_be = ", ".join(prediction["prediction_set"] or ())
        note = "[yellow]unlike the training data[/]" if prediction["in_distribution"] is False else ""
        table.add_row(escape(file), f"[bold]{escape(prediction['label'])}[/]", probability, could_be, note)
    return table


def models(document: Document) -> Table:
    table = _table("model", "version", "dataset", "weights", "accuracy", "runs on")
    for model in document["models"]:
        name = f"[bold]{model['name']}[/]" if model["name"] == document["default"] else model["name"]
        weights, accuracy = f"{model['parameters']:,}", f"{model['test_accuracy']:.2%}"
        table.add_row(name, model["version"], model["dataset"], weights, accuracy, _provider(model))
    return table


def check(document: Document) -> Group:
    facts = _table("what", "found")
    for what, found in {"Python": document["python"], **document["runtime"]}.items():
        facts.add_row(what, escape(found))
    settings = _table("setting", "value")
    for variable, value in document["settings"].items():
        settings.add_row(variable, escape(value if isinstance(value, str) else json.dumps(value)))
    served = _table("model", "version", "runs on", "golden images")
    for model in document["models"]:
        golden = model["golden"]
        agreement = f"{golden['images']} agree within {golden['largest_difference']:.0e}"
        served.add_row(model["name"], model["version"], _provider(model), agreement)
    return Group(facts, "", settings, "", served)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _provider(model: Document) -> str:
    return str(model["provider"]).removesuffix("ExecutionProvider")
