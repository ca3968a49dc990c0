"""The command line: in this process, as a process in a pipe, and on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image
from real_server import ROOT, Server
from tiny import golden_images, write_artifact

from service import __version__, commands
from service.__main__ import _tls_arguments, main
from service.settings import Settings

Run = Callable[..., tuple[int, str, str]]
NEVER = ["--canonical", "never"]


def draw(path: Path, label: int) -> str:
    """A picture that the tiny network reads as `label`."""
    pixels = np.full((28, 28), 200, np.uint8)
    pixels[0, 0] = label
    Image.fromarray(pixels).save(path)
    return str(path)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_models: Path) -> Run:
    """Runs one command in this process; gives its exit status, output and complaints."""
    monkeypatch.setenv("DIGITSERVE_MODELS_DIR", str(tiny_models))

    def call(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def server(tiny_server: Server) -> Server:
    return tiny_server


def process(*arguments: str, models: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        env={**os.environ, "DIGITSERVE_MODELS_DIR": str(models)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


# predict


def test_pictures_are_classified_here_in_order(run: Run, tmp_path: Path) -> None:
    files = [draw(tmp_path / f"{n}.png", n) for n in (3, 1, 4)]
    status, out, err = run("predict", *files, *NEVER, "--top-k", "2", "--json")
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert document["model"] == "mnist-cnn"
    assert [(each["file"], each["label"]) for each in document["predictions"]] == list(
        zip(files, "314", strict=True)
    )
    assert [len(each["top"]) for each in document["predictions"]] == [2, 2, 2]


def test_the_default_model_answers_here_too_where_others_alone_are_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_artifact(tmp_path, "mnist-cnn")
    write_artifact(tmp_path, "second")
    write_artifact(tmp_path, "third")
    monkeypatch.setenv("DIGITSERVE_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("DIGITSERVE_MODELS", "second")
    status, out, _ = run("predict", draw(tmp_path / "7.png", 7), *NEVER, "--json")
    assert (status, json.loads(out)["model"]) == (0, "mnist-cnn")
    names = [model["name"] for model in json.loads(run("models", "--json")[1])["models"]]
    assert names == ["second", "mnist-cnn"]


def test_a_service_elsewhere_gives_the_same_answers(run: Run, server: Server, tmp_path: Path) -> None:
    files = [draw(tmp_path / f"{n}.png", n % 10) for n in range(20)]
    (tmp_path / "notes.txt").write_text("no picture")
    files += [str(tmp_path / "notes.txt"), str(tmp_path / "absent.png")]
    arguments = ["predict", *files, *NEVER, "--model", "mnist-cnn", "--top-k", "3", "--json"]
    here, there = run(*arguments), run(*arguments, "--url", server.url)
    assert json.loads(here[1]) == json.loads(there[1])
    assert here[0] == there[0] == 1
    codes = [each["error"]["code"] for each in json.loads(there[1])["predictions"][-2:]]
    assert codes == ["unsupported_format", "unreadable_file"]


def test_the_table_has_a_line_for_each_picture(run: Run, tmp_path: Path) -> None:
    good, bad = draw(tmp_path / "[7] seven.png", 7), tmp_path / "bad.png"
    bad.write_bytes(b"text")
    status, out, _ = run("predict", good, str(bad), *NEVER)
    assert status == 1, "one picture has no prediction"
    head, first, second = out.splitlines()
    assert head.split() == ["file", "label", "probability", "could", "be", "note"]
    assert first.startswith(good)
    assert first.split()[-3:] == ["7", "99.70%", "7"]
    assert second.startswith(str(bad))
    assert "PNG, JPEG, WebP" in second


def test_a_picture_unlike_the_training_data_is_noted(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_artifact(tmp_path, "strict", in_distribution_threshold="100")
    monkeypatch.setenv("DIGITSERVE_MODELS_DIR", str(tmp_path))
    file = draw(tmp_path / "7.png", 7)
    assert "unlike the training data" in run("predict", file, *NEVER, "--model", "strict")[1]


def test_standard_input_is_a_picture(tiny_models: Path, tmp_path: Path) -> None:
    content = Path(draw(tmp_path / "5.png", 5)).read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "service", "predict", "-", *NEVER, "--json"],
        cwd=ROOT,
        env={**os.environ, "DIGITSERVE_MODELS_DIR": str(tiny_models)},
        input=content,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout)["predictions"][0]["label"] == "5"


def test_an_unknown_model_is_refused_with_the_nearest_names(run: Run, server: Server, tmp_path: Path) -> None:
    file = draw(tmp_path / "1.png", 1)
    for place in ([], ["--url", server.url]):
        status, out, err = run("predict", file, "--model", "mnist-cmm", *place)
        assert (status, out) == (1, "")
        assert "mnist-cnn" in err


def test_where_no_service_is_the_command_says_so(run: Run, tmp_path: Path, free_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{free_tcp_port}"
    for arguments in (["predict", draw(tmp_path / "1.png", 1)], ["models"]):
        status, out, err = run(*arguments, "--url", url)
        assert (status, out) == (1, "")
        assert f"No answer from {url}" in err


# models


def test_models_are_listed_alike_here_and_by_a_service(run: Run, server: Server) -> None:
    here, there = (json.loads(run("models", "--json", *place)[1]) for place in ([], ["--url", server.url]))
    assert there == httpx2.get(f"{server.url}/models").json()
    for model in there["models"]:
        del model["max_images"], model["max_explained_images"]  # limits of a service
    assert here == there
    for place in ([], ["--url", server.url]):
        _, row = run("models", *place)[1].splitlines()
        assert row.split() == ["mnist-cnn", here["models"][0]["version"], "mnist", "10", "50.00%", "CPU"]


def test_a_broken_artifact_among_the_models_is_an_error(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_artifact(tmp_path, "mnist-cnn", labels=None)
    monkeypatch.setenv("DIGITSERVE_MODELS_DIR", str(tmp_path))
    status, _, err = run("models")
    assert status == 1
    assert "Metadata labels" in err


# check


def test_check_tells_what_is_found_set_and_served(run: Run) -> None:
    status, out, err = run("check", "--json")
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert document["ok"] is True
    assert document["problems"] == []
    assert document["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert {"ONNX Runtime", "execution providers"} <= document["runtime"].keys()
    assert document["settings"].keys() == {f"DIGITSERVE_{name.upper()}" for name in Settings.model_fields}
    [model] = document["models"]
    assert model["golden"]["images"] == len(golden_images())
    assert 0 <= model["golden"]["largest_difference"] < 1e-4


def test_check_finds_cuda_and_cudnn_or_says_that_they_are_missing(run: Run) -> None:
    runtime = json.loads(run("check", "--json")[1])["runtime"]
    if "CUDAExecutionProvider" not in runtime["execution providers"]:
        pytest.skip("this ONNX Runtime is the CPU package")
    assert re.fullmatch(r"for CUDA up to \d+\.\d+|not found", runtime["NVIDIA driver"])
    assert re.fullmatch(r"\d+\.\d+|\S+ not found", runtime["CUDA"])
    assert re.fullmatch(r"\d+\.\d+\.\d+|\S+ not found", runtime["cuDNN"])


def test_check_has_tables_for_people(run: Run) -> None:
    status, out, _ = run("check")
    assert status == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "DIGITSERVE_MAX_BATCH 64" in lines
    assert any(line.startswith("ONNX Runtime ") for line in lines)
    assert any(re.match(r"mnist-cnn \w{12} CPU 16 agree within", line) for line in lines)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        (("DIGITSERVE_DEFAULT_MODEL", "absent"), "absent: The file cannot be read"),
        (("DIGITSERVE_MODELS", "mnist-cnn,broken"), "broken: Metadata labels"),
        (("DIGITSERVE_MODELS_DIR", "/nowhere"), "mnist-cnn: The file cannot be read"),
        (("DIGITSERVE_WORKERS", "many"), "DIGITSERVE_WORKERS"),
        (("DIGITSERVE_MAX_QUEUE", "1"), "max_queue (1)"),
    ],
)
def test_check_fails_with_the_reason_why_the_service_would_not_start(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: tuple[str, str], says: str
) -> None:
    write_artifact(tmp_path, "mnist-cnn")
    write_artifact(tmp_path, "broken", labels=None)
    monkeypatch.setenv("DIGITSERVE_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("DIGITSERVE_MODELS", "mnist-cnn")
    monkeypatch.setenv(*setting)
    status, _, err = run("check")
    assert status == 1
    assert says in err


def test_ctrl_c_ends_a_command_with_the_status_that_shells_expect(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "models_here", interrupted)
    assert run("models") == (130, "", "")


# serve


def test_serve_refuses_a_taken_port_with_a_sentence(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, out, err = run("serve", "--port", str(port))
    assert (status, out) == (1, "")
    assert f"Port {port} is taken" in err


@pytest.mark.parametrize("port", ["99999", "-1"])
def test_serve_refuses_a_number_that_is_no_port_with_a_sentence(run: Run, port: str) -> None:
    status, out, err = run("serve", "--port", port)
    assert (status, out) == (1, "")
    assert f"There is no port {port}" in err


def test_an_address_that_is_none_is_told_in_a_sentence(run: Run) -> None:
    status, out, err = run("models", "--url", "http://localhost:abc")
    assert (status, out) == (1, "")
    assert "'http://localhost:abc' is no address" in err


def test_serve_refuses_an_address_of_another_machine_with_a_sentence(run: Run) -> None:
    for host in ("192.0.2.1", "2001:db8::1"):  # kept free for documentation, so nobody has them
        status, out, err = run("serve", "--host", host)
        assert (status, out) == (1, "")
        assert f"Nothing can listen on {host}, port 3000: " in err


def test_https_takes_a_certificate_with_its_key_and_nothing_less(
    run: Run, tmp_path: Path, require_program: Callable[[str], Path]
) -> None:
    certificate, key, other = (str(tmp_path / name) for name in ("cert.pem", "key.pem", "other.pem"))
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
    for made in (key, other):
        command = [str(require_program("openssl")), *make.split(), "-keyout", made, "-out", certificate]
        subprocess.run(command, check=True, capture_output=True)
    assert _tls_arguments(None, None) == []
    assert _tls_arguments(certificate, other) == ["--ssl-certfile", certificate, "--ssl-keyfile", other]
    for options, says in (
        (["--tls-cert", certificate], "needs both"),
        (["--tls-key", key], "needs both"),
        (["--tls-cert", certificate, "--tls-key", str(tmp_path / "absent")], "No such file"),
        (["--tls-cert", certificate, "--tls-key", key], "cannot be used for HTTPS"),
    ):
        status, out, err = run("serve", *options)
        assert (status, out) == (1, "")
        assert says in err


# pipes and terminals


def test_in_a_pipe_a_row_is_a_line_without_colours(tiny_models: Path, tmp_path: Path) -> None:
    files = [draw(tmp_path / (f"{n}" * 150 + ".png"), n) for n in range(3)]
    done = process("predict", *files, *NEVER, models=tiny_models)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [
        [file, str(n)] for n, file in enumerate(files)
    ]
    assert "\033" not in done.stdout
    assert not any(line.endswith(" ") for line in done.stdout.splitlines())


def on_a_terminal(*arguments: str, models: Path, **variables: str) -> str:
    """What one command shows on a terminal of 80 columns."""
    about_terminals = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
    plain = {name: value for name, value in os.environ.items() if name not in about_terminals}
    shown, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        env={**plain, "DIGITSERVE_MODELS_DIR": str(models), "TERM": "xterm", **variables},
        stdout=terminal,
        stderr=terminal,
    ):
        os.close(terminal)
        chunks = []
        with contextlib.suppress(OSError):  # how Linux says that nobody holds the other end any more
            while chunk := os.read(shown, 65_536):
                chunks.append(chunk)
    os.close(shown)
    return b"".join(chunks).decode()


def test_colours_and_progress_are_for_terminals_that_want_them(tiny_models: Path, tmp_path: Path) -> None:
    files = [draw(tmp_path / f"{n}.png", n % 10) for n in range(12)] + ["absent.png"]
    shown = on_a_terminal("predict", *files, *NEVER, models=tiny_models)
    assert "\033[31mnone" in shown
    assert "pictures" in shown
    assert "100%" in shown
    plain = on_a_terminal("predict", files[0], "absent.png", *NEVER, models=tiny_models, NO_COLOR="1")
    assert "none" in plain
    assert "\033[31m" not in plain
    complaint = on_a_terminal("predict", files[0], "--model", "absent", models=tiny_models)
    assert complaint.startswith("\033[31merror:\033[0m ")


def test_on_a_narrow_terminal_a_long_name_is_folded_and_not_cut(tiny_models: Path, tmp_path: Path) -> None:
    file = draw(tmp_path / ("x" * 150 + ".png"), 7)
    shown = on_a_terminal("predict", file, *NEVER, models=tiny_models, COLUMNS="80")
    lines = re.sub(r"\033\[[\d;]*m", "", shown).splitlines()
    assert max(map(len, lines)) <= 80
    assert "".join(line.split("  ")[0].strip() for line in lines[1:]).startswith(file)


def test_a_reader_that_closes_the_pipe_is_no_error(tiny_models: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "service", "models", "--json"],
            cwd=ROOT,
            env={**os.environ, "DIGITSERVE_MODELS_DIR": str(tiny_models)},
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_mistake_in_the_command_shows_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["predit"], ["predict"], ["predict", "a.png", "--top-k", "11"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert "usage: python -m service" in capsys.readouterr().err


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"digitserve {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "never"),
    [
        (["--help"], "numpy pydantic rich httpx onnxruntime PIL bentoml torch"),
        (["models", "--url", "127.0.0.1:1"], "numpy pydantic onnxruntime PIL cv2 bentoml starlette torch"),
        (["check", "--json"], "rich httpx bentoml starlette torch"),
    ],
)
def test_a_command_loads_only_what_it_needs(arguments: list[str], never: str, tiny_models: Path) -> None:
    code = (
        "import contextlib, sys\nfrom service.__main__ import main\n"
        f"with contextlib.suppress(SystemExit), contextlib.redirect_stdout(sys.stderr): main({arguments})\n"
        f"print(*set({never.split()}) & sys.modules.keys())"
    )
    environment = {**os.environ, "DIGITSERVE_MODELS_DIR": str(tiny_models)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
