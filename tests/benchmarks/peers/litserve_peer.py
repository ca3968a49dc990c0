"""LitServe with batching: what is waiting is taken at once, up to 64."""

import io
import os
import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime as ort
from PIL import Image


class Classify(litserve.LitAPI):
    def setup(self, device: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(
            os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
        )

    # LitServe reads annotations; without one, a form comes as a dictionary.
    def decode_request(self, request):  # noqa: ANN001, ANN201
        picture = Image.open(io.BytesIO(request["image"].file.read())).convert("L").resize((28, 28))
        return np.asarray(picture, np.uint8)

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"images": x})[0]

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        best = int(output.argmax())
        return {"label": str(best), "probability": float(output[best])}


if __name__ == "__main__":
    workers = int(os.environ["BENCH_WORKERS"])
    batch_timeout_s = float(os.environ.get("BENCH_BATCH_TIMEOUT_S", "0"))
    api = Classify(max_batch_size=64, batch_timeout=batch_timeout_s, api_path="/predict")
    fast_queue = os.environ.get("BENCH_FAST_QUEUE", "1") == "1"
    litserve.LitServer(
        api, accelerator="cpu", workers_per_device=workers, timeout=30, fast_queue=fast_queue
    ).run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=workers,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
