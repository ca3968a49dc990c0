"""What README says is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

from service.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    """What stands between the markers of this name."""
    return README.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].strip()


def settings_table() -> str:
    """The table of settings as it has to be: every field with its default and its meaning."""
    rows = ["| variable | default | what |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in ((), None) else str(field.default).lower()
        default = "the shipped models" if name == "models_dir" else f"`{default}`" if default else ""
        rows.append(f"| `DIGITSERVE_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def test_the_table_of_settings_is_the_settings() -> None:
    assert block("settings") == settings_table()


def test_every_setting_reaches_the_container() -> None:
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    missing = [name for name in Settings.model_fields if f"DIGITSERVE_{name.upper()}" not in compose]
    assert missing in ([], ["models_dir"])


def test_every_file_that_readme_links_to_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_that_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", README))
    assert named
    assert named <= targets


def test_the_accuracy_table_is_what_the_artifacts_say() -> None:
    page = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
    artifacts = page.split("<!-- artifacts")[1].split("<!-- end of artifacts")[0]
    shipped = {
        line.split("|")[1]: line.split("|")[3] for line in artifacts.splitlines() if line.startswith("| `")
    }
    stated = {line.split("|")[1]: line.split("|")[2] for line in block("accuracy").splitlines()[2:]}
    assert {"mnist-cnn", "fashion-mnist-cnn"} <= {name.strip(" `") for name in stated}
    assert stated.items() <= shipped.items()


def test_every_benchmark_that_is_named_can_be_run() -> None:
    page = (ROOT / "service" / "PERFORMANCE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"python -m tests\.benchmarks\.(\w+)", README + page))
    assert {"serving", "overload"} <= named
    assert {name for name in named if not (ROOT / "tests" / "benchmarks" / f"{name}.py").exists()} == set()


def test_the_figures_of_speed_are_those_of_the_performance_page() -> None:
    page = (ROOT / "service" / "PERFORMANCE.md").read_text(encoding="utf-8")
    shown = README.split("<!-- bench: serving")[1].split("<!-- /bench -->")[0]
    stated = [line for line in shown.splitlines() if line.startswith("|")]
    assert len(stated) > 2
    assert set(stated) <= set(page.splitlines())
