"""Who gets in, what a stranger learns, and what is never done for a caller: asked of a real server."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from real_server import ROOT, Server, StartServer
from tiny import picture

PAGE = "https://pages.example"
OPEN = ["/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/ui", "/ui/page.js", "/docs.json", "/"]
CLOSED = [
    ("POST", "/predict"),
    ("GET", "/models"),
    ("GET", "/models/mnist-cnn"),
    ("GET", "/metrics"),
    ("GET", "/anything-else"),
]
CLOSED_V2 = [
    ("GET", "/v2"),
    ("GET", "/v2/models/mnist-cnn"),
    ("GET", "/v2/models/mnist-cnn/config"),
    ("GET", "/v2/models/mnist-cnn/stats"),
    ("GET", "/v2/models/stats"),
    ("POST", "/v2/models/mnist-cnn/infer"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/mnist-cnn/load"),
    ("GET", "/v2/anything-else"),
]


def make_key(name: str) -> tuple[str, str]:
    """A key and the line of its hash, from the command that makes them."""
    command = [sys.executable, "-m", "service", "key", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[0], done.stdout


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "api-keys"


@pytest.fixture(scope="module")
def keys(keys_file: Path) -> list[str]:
    """Two keys whose hashes are in the file."""
    made = [make_key("alice"), make_key("bob's laptop")]
    keys_file.write_text("# who may ask\n\n" + "".join(line for _, line in made))
    return [key for key, _ in made]


@pytest.fixture(scope="module")
def server(start_server: StartServer, tiny_models: Path, keys_file: Path, keys: list[str]) -> Server:
    return start_server(
        models_dir=tiny_models,
        api_keys_file=keys_file,
        open_metrics="false",
        cors_origins=f"{PAGE}, https://other.example",
        model_control="true",
        log_level="debug",
    )


def ask(server: Server, method: str, path: str, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
    content = picture(7) if method == "POST" else None
    return httpx2.request(method, server.url + path, headers=named, content=content)


# API keys


def test_without_a_key_everything_but_health_and_the_page_is_closed(server: Server) -> None:
    for method, path in CLOSED:
        refused = ask(server, method, path)
        assert refused.status_code == 401, path
        assert refused.json()["error"]["code"] == "unauthorized"
        assert refused.json()["error"]["request_id"] == refused.headers["x-request-id"]
        assert refused.headers["www-authenticate"].startswith("Bearer")
    for method, path in CLOSED_V2:
        refused = ask(server, method, path)
        assert (refused.status_code, list(refused.json())) == (401, ["error"]), path
        assert isinstance(refused.json()["error"], str)
    assert {path: ask(server, "GET", path).status_code for path in OPEN} == dict.fromkeys(OPEN, 200)


def test_each_key_opens_what_is_closed_in_either_header(server: Server, keys: list[str]) -> None:
    for key in keys:
        answer = ask(server, "POST", "/predict?canonical=never", authorization=f"Bearer {key}")
        assert answer.json()["predictions"][0]["label"] == "7"
        assert ask(server, "GET", "/models", x_api_key=key).status_code == 200
        assert ask(server, "GET", "/v2", authorization=f"bearer  {key}").status_code == 200
        assert ask(server, "GET", "/metrics", x_api_key=key).status_code == 200


def test_what_only_resembles_a_key_opens_nothing(server: Server, keys: list[str], keys_file: Path) -> None:
    key = keys[0]
    digest = re.findall(r"sha256:(\w+)", keys_file.read_text())[0]
    wrong = [
        key[:-1],
        key + "a",
        key.upper(),
        f"{keys[0]} {keys[1]}",
        digest,
        f"sha256:{digest}",
        "é" * 8,
        "*",
    ]
    for offered in wrong:
        assert ask(server, "GET", "/models", x_api_key=offered).status_code == 401, offered
    for authorization in (key, f"Basic {key}", "Bearer", f"Bearer{key}"):
        assert ask(server, "GET", "/models", authorization=authorization).status_code == 401
    assert ask(server, "GET", f"/models?api_key={key}").status_code == 401, "addresses end up in logs"


def test_keys_are_nowhere_but_with_their_owners(server: Server, keys: list[str], keys_file: Path) -> None:
    ask(server, "GET", "/models", authorization=f"Bearer {keys[0]}")
    ask(server, "GET", "/models", authorization=f"Bearer {keys[0]}x")
    for key in keys:
        assert key not in keys_file.read_text()
        assert key not in server.log.read_text()


def test_a_key_that_is_added_or_removed_counts_from_the_next_request(server: Server, keys_file: Path) -> None:
    before = keys_file.read_text()
    key, line = make_key("carol")
    assert ask(server, "GET", "/models", x_api_key=key).status_code == 401
    keys_file.write_text(before + line)
    assert ask(server, "GET", "/models", x_api_key=key).status_code == 200
    keys_file.write_text("carol's key is " + key)
    assert ask(server, "GET", "/models", x_api_key=key).status_code == 200, "a broken file changes nothing"
    assert key not in server.log.read_text()
    assert "the API keys stay as they were: Line 1" in server.log.read_text()
    keys_file.write_text(before)
    assert ask(server, "GET", "/models", x_api_key=key).status_code == 401


@pytest.mark.reliability
@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read"), ("", "holds no key"), ("sha256:abc alice", "Line 1"), (b"\xff", "not UTF-8")],
)
def test_a_file_of_keys_that_cannot_be_used_stops_the_start(
    tmp_path: Path, tiny_models: Path, content: str | bytes | None, reason: str
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    server = Server(tmp_path / "log", models_dir=tiny_models, api_keys_file=file)
    assert server.process.wait(timeout=60) != 0
    assert reason in server.log.read_text()


def test_the_command_line_and_the_client_bring_the_key(
    server: Server, keys: list[str], tmp_path: Path
) -> None:
    (tmp_path / "seven.png").write_bytes(picture(7))
    command = [
        sys.executable,
        "-m",
        "service",
        "predict",
        "--url",
        server.url,
        "--canonical",
        "never",
        "--json",
    ]
    command.append(str(tmp_path / "seven.png"))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "API key" in done.stderr
    environment = {"DIGITSERVE_API_KEY": keys[0], "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["predictions"][0]["label"] == "7"


@pytest.mark.reliability
def test_the_page_asks_for_a_key_and_works_with_it(
    server: Server, keys: list[str], require_program: Callable[[str], Path]
) -> None:
    browser = pytest.importorskip("browser")
    with browser.launch(require_program("chromium")) as chromium:
        page = chromium.new_context().new_page()
        page.goto(server.url + "/ui")
        page.get_by_label("This service asks for an API key.").fill("wrong")
        page.get_by_role("button", name="Use this key").click()
        page.get_by_label("This API key is not known here.").fill("schlüssel")  # no header can carry it
        page.keyboard.press("Enter")
        browser.expect(page.locator("#key-field:invalid")).to_be_visible()
        page.get_by_label("This API key is not known here.").fill(f" {keys[1]} ")
        page.keyboard.press("Enter")
        browser.expect(page.locator("#bars li")).to_have_count(10)
        browser.expect(page.locator("#key")).to_be_hidden()


# Other origins


def test_pages_of_listed_origins_may_ask_and_read(server: Server, keys: list[str]) -> None:
    preflight = httpx2.options(
        f"{server.url}/predict",
        headers={
            "origin": PAGE,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    answer = ask(server, "GET", "/models", origin=PAGE, authorization=f"Bearer {keys[0]}")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers


def test_pages_of_no_other_origin_may(server: Server, open_server: Server) -> None:
    for asked, origin in (
        (server, "https://evil.example"),
        (server, f"{PAGE}.evil.example"),
        (open_server, PAGE),
    ):
        headers = {"origin": origin, "access-control-request-method": "POST"}
        preflight = httpx2.options(f"{asked.url}/predict", headers=headers)
        assert "access-control-allow-origin" not in preflight.headers
        answer = ask(asked, "GET", "/livez", origin=origin)
        assert "access-control-allow-origin" not in answer.headers


# What a stranger learns


@pytest.fixture(scope="module")
def open_server(start_server: StartServer, tiny_models: Path) -> Server:
    return start_server(models_dir=tiny_models)


def test_an_answer_names_no_program_no_version_and_no_path(open_server: Server) -> None:
    answers = [
        ask(open_server, method, path)
        for method, path in [*CLOSED, *CLOSED_V2, *(("GET", path) for path in OPEN[:-1])]
        if path not in ("/docs.json", "/metrics")
    ]
    answers.append(httpx2.post(f"{open_server.url}/predict", content=b"\x89PNG\r\n\x1a\n broken"))
    answers.append(httpx2.post(f"{open_server.url}/v2/models/mnist-cnn/infer", content=b"{"))
    for answer in answers:
        told = answer.headers.keys()
        assert not {"server", "x-powered-by", "via"} & set(told), answer.url
        assert not [name for name in told if "bento" in name], answer.url
        for leak in ("Traceback", "site-packages", str(ROOT), "uvicorn", "starlette", "bentoml", 'File "'):
            assert leak not in answer.text, answer.url


def test_what_is_no_http_is_refused_without_a_word_about_us(open_server: Server) -> None:
    with socket.create_connection(("127.0.0.1", open_server.port)) as caller:
        caller.sendall(b"\x16\x03\x01 this is no request\r\n\r\n")
        answer = caller.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"python" not in answer.lower()


@pytest.mark.parametrize(
    "offered", ["a" * 65, "a b", "<script>", "x\tset-cookie: a=b", "../../etc/passwd", "%0d%0ax: y", "ü"]
)
def test_a_request_id_that_could_do_harm_is_replaced(open_server: Server, offered: str) -> None:
    headers = {"x-request-id": offered.encode()}
    answer = httpx2.get(f"{open_server.url}/models/absent", headers=headers)
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
    assert offered not in answer.text
    assert offered not in open_server.log.read_text()


def test_a_harmless_request_id_comes_back(open_server: Server) -> None:
    answer = ask(open_server, "GET", "/models/absent", x_request_id="order-17.b_2")
    assert answer.headers["x-request-id"] == "order-17.b_2"
    assert answer.json()["error"]["request_id"] == "order-17.b_2"


def test_the_page_allows_itself_and_nothing_else(open_server: Server) -> None:
    for path in ("/ui", "/ui/page.js"):
        headers = ask(open_server, "GET", path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
    page = ask(open_server, "GET", "/ui").text
    assert not re.search(r"<script(?![^>]* src=)|<style| on\w+=| style=", page), (
        "nothing stands in the page itself"
    )


def test_browsers_guess_no_other_type_for_any_answer(open_server: Server) -> None:
    for path in ("/livez", "/models", "/models/absent", "/v2", "/metrics"):
        assert ask(open_server, "GET", path).headers["x-content-type-options"] == "nosniff", path


# What is never done for a caller


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        yield listening


def test_no_address_that_a_caller_sends_is_ever_visited(open_server: Server, listener: socket.socket) -> None:
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/7.png"
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{address}"/></svg>'.encode()
    predict, infer = f"{open_server.url}/predict", f"{open_server.url}/v2/models/mnist-cnn/infer"
    encoded = b64encode(address.encode()).decode()
    tensor = {"name": "images", "datatype": "BYTES", "shape": [1], "data": [encoded]}
    answers = [
        httpx2.post(predict, content=address.encode()),
        httpx2.post(predict, content=svg, headers={"content-type": "image/svg+xml"}),
        httpx2.post(predict, files={"image": ("a.png", address.encode(), "image/png")}),
        httpx2.post(predict, data={"image": address, "url": address}),
        httpx2.post(predict, files={"image": (address, svg)}),
        httpx2.post(predict, json={"images": [address, encoded]}),
        httpx2.post(predict, json={"images": [f"data:image/svg+xml;base64,{b64encode(svg).decode()}"]}),
        httpx2.post(infer, json={"inputs": [tensor]}),
        httpx2.post(f"{predict}?model={address}", content=picture(1)),
        httpx2.get(f"{open_server.url}/models", headers={"referer": address, "x-forwarded-for": "127.0.0.1"}),
    ]
    assert {answer.status_code // 100 for answer in answers[:-1]} == {4}
    with pytest.raises(BlockingIOError):
        listener.accept()


# TLS


def test_https_is_spoken_with_a_certificate_and_nothing_else_then(
    tmp_path: Path, tiny_models: Path, require_program: Callable[[str], Path]
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    command = [str(require_program("openssl")), *make.split(), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    tls = ["--tls-cert", str(certificate), "--tls-key", str(key)]
    server = Server(tmp_path / "log", *tls, models_dir=tiny_models)
    server.url = server.url.replace("http", "https")
    server.verify = ssl.create_default_context(cafile=str(certificate))
    try:
        server.wait_until_ready()
        with httpx2.Client(base_url=server.url, verify=server.verify) as client:
            answer = client.post("/predict?canonical=never", files={"image": picture(7)})
            assert answer.json()["predictions"][0]["label"] == "7"
            with pytest.raises(httpx2.TransportError):
                httpx2.get(server.url.replace("https", "http") + "/livez")
            server.terminate()  # while a connection is open whose peer says no goodbye
            assert server.process.wait(timeout=10) == 0
    finally:
        server.stop()


@pytest.mark.reliability
def test_a_certificate_that_cannot_be_used_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    for options in (["--tls-cert", "absent.pem"], ["--tls-cert", "absent.pem", "--tls-key", "absent.pem"]):
        command = [sys.executable, "-m", "service", "serve", *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert "HTTPS" in done.stderr
