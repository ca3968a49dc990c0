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
    api = Classify(max_batch_size=64, batch_timeout=0.0, api_path="/predict")
    litserve.LitServer(api, accelerator="cpu", timeout=30).run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
