"""FastAPI and ONNX Runtime as a careful developer writes it: one upload, Pillow, one session."""

from __future__ import annotations

import io
import os
from typing import Annotated

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI, UploadFile
from PIL import Image

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])
app = FastAPI()


@app.post("/predict")
async def predict(image: Annotated[UploadFile, "the picture"]) -> dict[str, str | float]:
    # `async`: handing so short a computation to FastAPI's threads costs more than it takes.
    picture = Image.open(io.BytesIO(await image.read())).convert("L").resize((28, 28))
    probabilities, _ = session.run(None, {"images": np.asarray(picture, np.uint8)[np.newaxis]})
    best = int(probabilities[0].argmax())
    return {"label": str(best), "probability": float(probabilities[0, best])}
