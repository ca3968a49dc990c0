"""What the container files promise; test_containers_running.py builds the serving image and runs it."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
SERVING = {name: service for name, service in OURS.items() if service["build"]["target"] == "serving"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

ours = pytest.mark.parametrize("service", OURS.values(), ids=OURS)
serving = pytest.mark.parametrize("service", SERVING.values(), ids=SERVING)


def default(value: object) -> str:
    """`value` as Compose reads it when no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))


@dataclass
class Stage:
    base: str
    instructions: list[tuple[str, list[str]]]  # such as ("COPY", ["service/", "service/"])


def read_dockerfile() -> tuple[dict[str, str], dict[str, Stage]]:
    """The arguments before the first stage, with their defaults, and the stages by name."""
    text = (ROOT / "service/deploy/Dockerfile").read_text()
    lines = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^#.*\n", "", text)).splitlines()
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    for word, _, rest in (line.partition(" ") for line in lines if line):
        if word == "FROM":
            base, name = rest.split(" AS ")
            stage = stages[name] = Stage(base, [])
        elif not stages:
            arguments.update([rest.split("=", 1)])
        else:
            stage.instructions.append((word, shlex.split(rest)))
    return arguments, stages


ARGUMENTS, STAGES = read_dockerfile()


def built(service: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Every instruction that shapes the image of `service`, in order, from its base image on."""
    arguments = ARGUMENTS | service["build"].get("args", {})
    instructions: list[tuple[str, list[str]]] = []
    name = service["build"]["target"]
    while name in STAGES:
        instructions = STAGES[name].instructions + instructions
        name = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], STAGES[name].base)
    assert name == ARGUMENTS["BASE"]
    return instructions


def copied(service: dict[str, Any]) -> list[str]:
    """What the image takes from the project, other than lists of packages."""
    copies = [words for word, words in built(service) if word in {"COPY", "ADD"}]
    return [source for words in copies if not words[0].startswith("--from=") for source in words[:-1]]


def installed(service: dict[str, Any]) -> set[str]:
    """What pip is told to install, in words of the Dockerfile."""
    installs = [words[words.index("install") + 1 :] for word, words in built(service) if "install" in words]
    return {Path(word).name for words in installs for word in words if word != "--requirement"}


@ours
def test_a_container_has_no_rights_and_cannot_gain_any(service: dict[str, Any]) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {
        "privileged",
        "cap_add",
        "devices",
        "network_mode",
        "pid",
        "ipc",
        "userns_mode",
    }


@ours
def test_a_container_does_not_run_as_root(service: dict[str, Any]) -> None:
    users = [words[0] for word, words in built(service) if word == "USER"]
    users.append(default(service.get("user", users[-1])))
    assert all(re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) for user in users[-2:]), users


@ours
def test_a_container_writes_into_its_tmpfs_and_mounts_alone(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    (tmpfs,) = service["tmpfs"]
    assert re.match(r"/tmp:size=\d+m,", tmpfs)
    assert {"noexec", "nosuid", "nodev"} <= set(tmpfs.split(","))
    assert ("HOME", "/tmp") in {
        tuple(pair.split("=")) for word, words in built(service) if word == "ENV" for pair in words
    }


@ours
def test_a_container_has_limits(service: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+[mg]", default(service["mem_limit"]))
    assert float(default(service["cpus"])) > 0 or service not in SERVING.values()
    assert 0 < service["pids_limit"] <= 1024


@serving
def test_a_serving_container_is_restarted_and_asked_whether_it_is_ready(service: dict[str, Any]) -> None:
    assert service["restart"] == "unless-stopped"
    kind, program, *arguments = service["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python"), "the image has no curl"
    assert "/readyz" in arguments[-1]


@serving
def test_a_serving_container_may_finish_its_longest_request(service: dict[str, Any]) -> None:
    bounded = [Settings.model_fields[name].metadata for name in ("transfer_ms", "timeout_ms")]
    longest_ms = sum(rule.le for rules in bounded for rule in rules if hasattr(rule, "le"))
    assert float(service["stop_grace_period"].removesuffix("s")) > longest_ms / 1000


@serving
def test_every_setting_reaches_a_serving_container(service: dict[str, Any]) -> None:
    settings = {f"DIGITSERVE_{field.upper()}" for field in Settings.model_fields}
    passed = {name for name in service["environment"] if not name.startswith("OTEL_")}
    assert passed == settings - {"DIGITSERVE_MODELS_DIR"}


@serving
def test_the_serving_image_holds_the_service_and_its_models_alone(service: dict[str, Any]) -> None:
    assert copied(service) == ["models/*.onnx", "models/*.npz", "service/"]
    device = {"cpu": "onnxruntime", "cuda": "cuda.txt"}[service["build"]["args"]["DEVICE"]]
    assert installed(service) == {"serving.txt", device}
    lists = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cuda"]]
    assert not [
        line for line in lists if re.match(r"(torch|pytest|hypothesis|onnx\b|tensorboard|optuna)", line)
    ]


@ours
def test_an_image_installs_exact_versions_alone(service: dict[str, Any]) -> None:
    instructions = built(service)
    pinned = next(
        i for i, (_, words) in enumerate(instructions) if any("PIP_CONSTRAINT=" in w for w in words)
    )
    assert all(i > pinned for i, (_, words) in enumerate(instructions) if "install" in words)
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!]+", pin) for pin in pins)


def test_every_image_starts_from_one_pinned_python() -> None:
    version = PROJECT["requires-python"].removeprefix(">=")
    assert re.fullmatch(
        rf"docker\.io/library/python:{re.escape(version)}[\w.-]*(@sha256:\w+)?", ARGUMENTS["BASE"]
    )
    assert {stage.base for stage in STAGES.values()} <= {"${BASE}", "${DEVICE}", *STAGES}


def test_nothing_but_what_the_images_copy_is_sent_to_the_engine() -> None:
    first, *rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] != "#"]
    assert first == "*"
    sent = {rule[1:].rstrip("/") for rule in rules if rule.startswith("!")}
    assert sent == {"pyproject.toml", "constraints.txt", "models", "service", "training"}


def test_the_cpu_service_is_all_that_starts_unasked() -> None:
    assert [name for name, service in SERVICES.items() if "profiles" not in service] == ["serving"]
    assert default(SERVICES["serving"]["ports"][0]) == "3000:3000"


def test_no_two_services_publish_the_same_port() -> None:
    published = [
        default(port).split(":")[-2] for service in SERVICES.values() for port in service.get("ports", [])
    ]
    assert len(published) == len(set(published)), published


def test_serving_follows_the_folder_that_training_writes_to() -> None:
    written = {each["target"]: each["source"] for each in SERVICES["training"]["volumes"]}["/app/models"]
    for service in SERVING.values():
        [mounted] = service["volumes"]
        assert (mounted["source"], mounted["target"], mounted["read_only"]) == (written, "/app/models", True)


def test_the_gpu_service_reserves_an_nvidia_gpu_and_accepts_no_other_device() -> None:
    (service,) = (service for service in SERVING.values() if "gpu" in service.get("profiles", []))
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert service["environment"]["DIGITSERVE_DEVICE"] == "cuda"


def test_training_leaves_files_of_its_caller_and_no_folder_of_the_engine() -> None:
    service = SERVICES["training"]
    assert service["user"] == "${HOST_UID:-1000}:${HOST_GID:-1000}"
    assert "/app/models" in {volume["target"] for volume in service["volumes"]}
    for volume in service["volumes"]:
        assert (volume["type"], volume["bind"]["create_host_path"]) == ("bind", False)
