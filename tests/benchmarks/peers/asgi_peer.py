"""A bare ASGI function: no framework, no batching, and a form parsed by its boundary alone."""

from __future__ import annotations

import io
import json
import os
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    boundary = body[: body.index(b"\r\n")]
    start = body.index(b"\r\n\r\n") + 4
    content = body[start : body.index(b"\r\n" + boundary, start)]
    picture = Image.open(io.BytesIO(content)).convert("L").resize((28, 28))
    probabilities, _ = session.run(None, {"images": np.asarray(picture, np.uint8)[np.newaxis]})
    best = int(probabilities[0].argmax())
    answer = json.dumps({"label": str(best), "probability": float(probabilities[0, best])}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
