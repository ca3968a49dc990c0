"""Bad input in every shape: an error of ours each time, in time, while good pictures are answered right."""

from __future__ import annotations

import gzip
import json
import re
import socket
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from bad_pictures import bombs, mutants, polyglots, seeds
from callers import RIGHT, Callers
from real_server import Server, StartServer
from tiny import picture

MUTANTS = 20_000
WARM_UP = 2_000
FILES_A_REQUEST = 16
# The deadline of a request is 5 s, it may take 8 s to arrive, and the machine is busy.
IN_TIME_S = 13.0
PREDICT = "/predict?canonical=never"
INFER = "/v2/models/mnist-cnn/infer"

pytestmark = pytest.mark.reliability


@pytest.fixture(scope="module")
def server(start_server: StartServer, tiny_models: Path) -> Server:
    return start_server(models_dir=tiny_models)


@pytest.fixture(autouse=True)
def stays_well(server: Server) -> Iterator[None]:
    """Whatever is sent: a good picture is answered right all the while, and by the same process as before."""
    workers = server.workers()
    with Callers(server.port, 1) as callers:
        callers.wait_for_more(1)
        yield
        callers.wait_for_more(1)
    assert set(callers.outcomes) == {RIGHT}
    assert server.workers() == workers
    assert "Traceback" not in server.log.read_text()


def post(client: httpx2.Client, path: str, **request: Any) -> httpx2.Response:
    started = time.monotonic()
    answer = client.post(path, **request)
    assert answer.status_code < 500, answer.text
    assert time.monotonic() - started < IN_TIME_S
    return answer


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        yield client


# Pictures


def test_20_000_mutated_pictures_do_no_harm(server: Server, client: httpx2.Client) -> None:
    found: Counter[str] = Counter()
    stream = mutants(seed=7)
    send(client, list(islice(stream, WARM_UP)), found)
    memory = resident_bytes(server)
    send(client, list(islice(stream, MUTANTS)), found)
    after = resident_bytes(server)
    print(f"{MUTANTS} mutants: {dict(found)}; memory {memory / 2**20:.0f} MiB, then {after / 2**20:.0f} MiB")
    assert found.total() == WARM_UP + MUTANTS
    assert found["answered"] > 100, "some survive their mutation"
    assert found["undecodable_image"] > 1_000
    assert after < 1.1 * memory
    noise = re.findall("(?i)tiff|zipdecode|jpeglib|warning", server.log.read_text())
    assert noise == [], "callers do not write into the log"


def send(client: httpx2.Client, uploads: list[bytes], found: Counter[str]) -> None:
    """A quarter alone, as raw bodies; the rest as files of forms. Counts what became of each."""
    alone = len(uploads) // 4
    for upload in uploads[:alone]:
        answer = post(client, "/predict", content=upload)
        found["answered" if answer.status_code == 200 else answer.json()["error"]["code"]] += 1
    for first in range(alone, len(uploads), FILES_A_REQUEST):
        files = [("image", ("a", upload)) for upload in uploads[first : first + FILES_A_REQUEST]]
        answer = post(client, "/predict", files=files)
        document = answer.json()
        results = document["predictions"] if answer.status_code == 200 else document["error"]["details"]
        found.update(result["error"]["code"] if "error" in result else "answered" for result in results)


def wait_for_memory(server: Server, most: float) -> None:
    """What large bodies took goes back within a second or two."""
    give_up = time.monotonic() + 10
    while resident_bytes(server) > most:
        assert time.monotonic() < give_up, f"{resident_bytes(server):,} bytes, not {most:,.0f}"


def resident_bytes(server: Server) -> int:
    return sum(int(worker.memory_info().rss) for worker in server.workers())


def test_bombs_are_refused_or_read_in_time_and_leave_no_memory_behind(
    server: Server, client: httpx2.Client
) -> None:
    send_bombs(client)  # after the first round the heap has the shape that it keeps
    memory = resident_bytes(server)
    send_bombs(client)
    wait_for_memory(server, 1.1 * memory)


def send_bombs(client: httpx2.Client) -> None:
    for name, bomb in bombs().items():
        answer = post(client, "/predict", content=bomb)
        print(f"{name}: {len(bomb):,} bytes, {answer.status_code}")
        assert answer.status_code in (200, 413, 415, 422), name
        post(client, "/predict", files=[("image", ("a", bomb))] * (3 if len(bomb) < 2**20 else 1))


def test_many_large_pictures_in_one_request_end_at_its_deadline(server: Server) -> None:
    """Twelve megabytes that would take a minute to decode; others are not kept waiting for it."""
    bomb = bombs()["pixels there"]
    started = time.monotonic()
    late = httpx2.post(f"{server.url}/predict", files=[("image", ("a", bomb))] * 250, timeout=60)
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert time.monotonic() - started < IN_TIME_S


def test_a_file_that_is_something_else_too_is_a_picture_or_refused(client: httpx2.Client) -> None:
    for name, polyglot in polyglots().items():
        answer = post(client, "/predict", content=polyglot)
        assert answer.status_code in (200, 415, 422), name
        assert answer.headers["content-type"].startswith("application/json"), name
        assert "alert" not in answer.text


def test_every_seed_can_be_decoded(client: httpx2.Client) -> None:
    """Else their mutants would prove little."""
    for name, seed in seeds().items():
        answer = post(client, "/predict", content=seed)
        assert answer.status_code == 200 or answer.json()["error"]["code"] == "several_digits", name


# Forms


def form(*parts: bytes, end: bytes = b"--x--\r\n") -> dict[str, Any]:
    body = b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + end
    return {"content": body, "headers": {"content-type": "multipart/form-data; boundary=x"}}


FILE = b'content-disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
FIELD = b'content-disposition: form-data; name="a"\r\n\r\n'


@pytest.mark.parametrize(
    ("request_parts", "status"),
    [
        (form(FILE + picture(7), FILE + picture(8)), 200),
        (form(FIELD + b"x", FILE + picture(7), FIELD + b"y"), 200),
        (form(), 400),
        (form(FIELD + b"x"), 400),
        (form(FILE), 400),
        (form(FILE + picture(7), end=b""), 400),
        (form(FILE + picture(7), end=b"--x-"), 400),
        (form(*[FIELD + b"x"] * 5_000), 400),
        (form(*[FILE + picture(7)] * 257), 413),
        (form(b"\r\n\r\n"), 400),
        (form(b"a: b\r\n" * 5_000 + b"\r\n"), 400),
        (form(b"a: " + b"b" * 100_000 + b"\r\n\r\n"), 400),
        (form(FILE.replace(b"\r\n", b"\n") + picture(7)), 400),
        (form(FILE.replace(b"image", b"\xff\xfe") + picture(7)), 200),
        (form(FILE.replace(b"a.png", b"../../etc/passwd\0") + picture(7)), 200),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=" + "x" * 5_000}}, 400),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=\x7f"}}, 400),
        ({"content": b"", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400),
    ],
)
def test_odd_forms_are_read_or_refused(
    client: httpx2.Client, request_parts: dict[str, Any], status: int
) -> None:
    answer = post(client, PREDICT, **request_parts)
    assert answer.status_code == status, answer.text
    if status == 200:
        assert {p["label"] for p in answer.json()["predictions"]} <= {"7", "8"}


# JSON


def tensor(**changes: Any) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28], "data": [0] * 784, **changes}
        ]
    }


BAD_JSON = {
    "deep list": b"[" * 500_000,
    "deep object": b'{"a":' * 500_000,
    "deep images": b'{"images":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "many lists": b'{"images":[' + b"[]," * 5_000_000 + b"[]]}",
    "many objects": b'{"images":[' + b"{}," * 2_000_000 + b"{}]}",
    "many keys": b"{" + b",".join(b'"%d":0' % n for n in range(1_100_000)) + b"}",
    "large number": b'{"images":[' + b"9" * 100_000 + b"]}",
    "infinite": b'{"images":[1e999, -Infinity, NaN]}',
    "surrogate": b'{"images":["\\ud800"]}',
    "not UTF-8": b'{"images":["\xff\xfe"]}',
    "UTF-16": json.dumps({"images": ["a"]}).encode("utf-16"),
    "mark of order": b'\xef\xbb\xbf{"images":["a"]}',
    "null": b"null",
    "null images": b'{"images":[null]}',
    "duplicate keys": b'{"images":["a"],"images":[]}',
    "half": b'{"images":["aGVsbG8=',
    "zero bytes": b'{"images":["\0"]}',
}


@pytest.mark.parametrize("path", ["/predict", INFER])
def test_odd_json_is_refused(server: Server, client: httpx2.Client, path: str) -> None:
    memory = resident_bytes(server)
    for name, body in BAD_JSON.items():
        answer = post(client, path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 413, 415, 422), name
    wait_for_memory(server, memory + 40 * 2**20)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": [float("nan")] * 784},
        {"data": [float("inf")] * 784},
        {"data": [256] * 784},
        {"data": [-1] * 784},
        {"data": [2**70] * 784},
        {"data": ["7"] * 784},
        {"data": [[[0] * 28] * 27 + [[0] * 27]]},
        {"data": [None] * 784},
        {"data": [True] * 784},
        {"shape": [-1, 28, 28]},
        {"shape": [2**62, 28, 28]},
        {"shape": [0, 28, 28]},
        {"shape": []},
        {"shape": [1] * 100_000},
        {"shape": [1.5, 28, 28]},
        {"datatype": "FP32"},
        {"datatype": "BYTES", "shape": [1], "data": ["!"]},
        {"datatype": "BYTES", "shape": [2**31], "data": []},
        {"name": "a" * 100_000},
        {"parameters": {"binary_data_size": 2**62}, "data": None},
        {"parameters": {"binary_data_size": -1}, "data": None},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_odd_tensors_are_refused(client: httpx2.Client, changes: dict[str, Any]) -> None:
    body = json.dumps(tensor(**changes)).encode()
    answer = post(client, INFER, content=body)
    assert answer.status_code in (400, 413, 422), answer.text
    assert len(answer.text) < 2_000, "what is odd is not repeated at length"


def test_odd_binary_tensors_are_refused(client: httpx2.Client) -> None:
    head = json.dumps(tensor(data=None, parameters={"binary_data_size": 784})).encode()
    pictures = {"datatype": "BYTES", "shape": [1], "data": None, "parameters": {"binary_data_size": 8}}
    text = json.dumps(tensor(**pictures)).encode()
    odd: list[tuple[bytes, str]] = [
        (head + bytes(783), str(len(head))),
        (head + bytes(785), str(len(head))),
        (head + bytes(784), str(len(head) + 1)),
        (head + bytes(784), "0"),
        (head + bytes(784), "-1"),
        (head + bytes(784), "9" * 1_000),
        (head + bytes(784), "٣"),
        (text + b"\xff\xff\xff\xff1234", str(len(text))),
        (text + b"\0\0\0\0\0\0\0\0", str(len(text))),
    ]
    for body, length in odd:
        headers = {"inference-header-content-length": length.encode()}
        assert post(client, INFER, content=body, headers=headers).status_code == 400, length


def test_compressed_bombs_are_refused_before_they_unfold(server: Server, client: httpx2.Client) -> None:
    memory = resident_bytes(server)
    for size in (100 * 2**20, 2**30):
        bomb = gzip.compress(bytes(size))
        for body in (bomb, gzip.compress(bomb), bomb[:-9], b"\x1f\x8b" + bomb):
            answer = post(client, INFER, content=body, headers={"content-encoding": "gzip"})
            assert answer.status_code in (400, 413)
    wait_for_memory(server, memory + 40 * 2**20)


# HTTP

HEAD = b"POST /predict?canonical=never HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
BODY = picture(7)


def exchange(server: Server, *packets: bytes) -> bytes:
    """Send each packet by itself, and read the answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as caller:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for packet in packets:
                caller.sendall(packet)
            return caller.makefile("rb").read()
        except ConnectionError as error:
            return f"broken off: {error!r}".encode()


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_a_request_may_come_in_any_pieces(server: Server, size: int) -> None:
    with_length = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
    with_chunks = HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(BODY, size)
    for request in (with_length, with_chunks):
        answer = exchange(server, *(request[at : at + size] for at in range(0, len(request), size)))
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert b'"label":"7"' in answer.replace(b" ", b"")


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        (HEAD + b"content-length: 5\r\n\r\n" + BODY, b"400 415 422"),
        (HEAD + b"content-length: 0\r\n\r\n", b"400"),
        (HEAD + b"content-length: -1\r\n\r\n", b"400"),
        (HEAD + b"content-length: 99999999999999999999\r\n\r\n", b"400"),
        (HEAD + b"content-length: 9999999999999\r\n\r\n", b"413"),
        (HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\n12345", b"400"),
        (HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nffffffffffffffff1\r\n", b"400"),
        (HEAD + b"transfer-encoding: gzip\r\n\r\n", b"400"),
        (b"POST /predict HTTP/9.9\r\nhost: a\r\n\r\n", b"400"),
        (b"POST  /predict HTTP/1.1\r\n\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
        (b"GET /\x00 HTTP/1.1\r\nhost: a\r\n\r\n", b"400"),
        (b"GET /%00%ff%fe HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", b"404"),
        (b"GET /ui/..%2f..%2fsettings.py HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", b"404"),
        (b"GET /ui/../../settings.py HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", b"404"),
        (b"GET http://[:::/ HTTP/1.1\r\nhost: a\r\n\r\n", b"400"),
        (b"GET /models HTTP/1.1\r\nhost: a\r\nx: a\r\n\tb\r\nconnection: close\r\n\r\n", b"200 400"),
        (b"GET /models HTTP/1.1\r\nhost: a\r\nx\x00: a\r\n\r\n", b"400"),
        (b"BREW /predict HTTP/1.1\r\nhost: a\r\n\r\n", b"400"),
        (b"OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", b"400 404 405"),
        (b"GET /ui HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", b"200 400"),
    ],
)
def test_odd_http_is_refused(server: Server, request_bytes: bytes, statuses: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as caller:
        caller.sendall(request_bytes)
        status = caller.makefile("rb").readline()[9:12]
    assert status in statuses.split(), status


def test_one_request_cannot_be_smuggled_in_another(server: Server) -> None:
    inner = b"GET /models/smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
    lengths = b"content-length: %d\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" % (5 + len(inner))
    answer = exchange(server, HEAD.replace(b"close", b"keep-alive") + lengths + inner)
    assert len(re.findall(rb"^HTTP/1.1 ", answer, re.MULTILINE)) == 1
    assert b"smuggled" not in answer


# Bodies all together


def test_all_uploads_together_are_bounded(start_server: StartServer, tiny_models: Path) -> None:
    """Forty uploads of 8 MB are begun and not ended; a worker holds 64 MB of them, and no more."""
    bounds = {"max_pending_bytes": 64 * 2**20, "max_request_bytes": 16 * 2**20}
    server = start_server(models_dir=tiny_models, **bounds)
    memory = resident_bytes(server)
    head = HEAD + b"content-length: %d\r\n\r\n" % (8 * 2**20 + 1)
    callers = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(40)]
    statuses: Counter[bytes] = Counter()
    try:
        for caller in callers:
            try:
                caller.sendall(head + bytes(8 * 2**20))
            except ConnectionError:
                statuses[b"broken off"] += 1
        assert resident_bytes(server) < memory + 160 * 2**20
        assert psutil.Process(server.workers()[0].pid).is_running()
        for caller in callers:
            try:
                caller.sendall(b"x")
                statuses[caller.makefile("rb").readline()[9:12]] += 1
            except ConnectionError:
                statuses[b"broken off"] += 1
    finally:
        for caller in callers:
            caller.close()
    assert statuses[b"415"] in range(6, 9), statuses
    assert httpx2.post(f"{server.url}{PREDICT}", content=bytes(8 * 2**20)).status_code == 415, "room again"


def test_uploads_that_begin_together_are_bounded(start_server: StartServer, tiny_models: Path) -> None:
    """What 120 uploads had sent until they were refused is let go at once, for it counts no more."""
    server = start_server(models_dir=tiny_models, max_pending_bytes=64 * 2**20)
    memory = peak = resident_bytes(server)
    head = HEAD + b"content-length: %d\r\n\r\n" % (8 * 2**20 + 1)
    callers = {socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(120)}
    try:
        for caller in callers:
            caller.sendall(head)
        for _ in range(8):
            for caller in list(callers):
                try:
                    caller.sendall(bytes(2**20))
                except ConnectionError:
                    callers.remove(caller)
                    caller.close()
            peak = max(peak, resident_bytes(server))
    finally:
        for caller in callers:
            caller.close()
    print(f"begun together: {len(callers)} of 120 not refused, {(peak - memory) / 2**20:.0f} MiB more")
    assert len(callers) <= 64, "the rest had to be refused"
    assert peak < memory + 160 * 2**20
    assert httpx2.post(f"{server.url}{PREDICT}", content=bytes(8 * 2**20)).status_code == 415, "room again"


@pytest.mark.parametrize(
    "upload", [bytes(8 * 2**20), b'{"images": ["' + b"A" * 8 * 2**20], ids=["noise", "JSON"]
)
def test_refused_uploads_are_let_go_one_by_one(server: Server, client: httpx2.Client, upload: bytes) -> None:
    memory = peak = resident_bytes(server)
    for _ in range(100):
        assert client.post(PREDICT, content=upload).status_code in (400, 415)
        peak = max(peak, resident_bytes(server))
    print(f"refused one by one: {(peak - memory) / 2**20:.0f} MiB more")
    assert peak < memory + 160 * 2**20


def test_base64_in_odd_shapes_is_read_or_refused(client: httpx2.Client) -> None:
    good = b64encode(BODY).decode()
    odd = {good: 200, good + "=": 400, good[:60]: 422, "": 400, "data:image/png;base64," + good: 200}
    odd |= {"data:,": 400, "data:image/png;base64,": 400, " \n".join(good): 200, "é": 400}
    for text, status in odd.items():
        assert post(client, PREDICT, json={"images": [text]}).status_code == status, text[:40]
