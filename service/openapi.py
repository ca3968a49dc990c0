"""What the API is, for programs to read: the OpenAPI document at `/docs.json`.

Tests hold it against the routes, against real answers, and against requests made from it.
"""

from __future__ import annotations

from typing import Any

from service import __version__
from service.api import PredictQuery

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
PIXELS: Schema = {"type": "integer", "minimum": 0}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}

WHEN = {
    400: "Malformed: an empty body, a form without a file, bad JSON or base64, a bad parameter.",
    401: "An API key is needed here, and none came or an unknown one.",
    403: "The settings of this service do not allow it.",
    404: "There is no such model, version or route.",
    409: "The artifact on disk breaks the contract; what was served before goes on.",
    413: "Too many bytes, pixels or images.",
    415: "The content is no picture format that is read.",
    422: "The picture cannot be decoded, or has nothing or several digits on it; or all of several have.",
    500: "Something went wrong here; the log has the rest, under the request id.",
    503: "The queue is full, or the service is not ready or stopping.",
    504: "The deadline of the request passed.",
}


def array(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def record(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    schema: Schema = {"type": "object", "properties": {**required, **(optional or {})}}
    return {**schema, "required": list(required)} if required else schema


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def nullable(schema: Schema) -> Schema:
    return {**schema, "nullable": True}


ERROR = record({"code": STRING, "message": STRING})
LABEL = record({"label": STRING, "probability": SHARE})
BOX: Schema = {
    **record({"x": PIXELS, "y": PIXELS, "width": PIXELS, "height": PIXELS}),
    "description": "In pixels of the upright picture.",
}
MODEL = record(
    {
        "name": STRING,
        "version": {"type": "string", "pattern": "^[0-9a-f]{12}$"},
        "provider": STRING,
        "max_images": INTEGER,
        "max_explained_images": INTEGER,
        "dataset": STRING,
        "labels": array(STRING, minItems=10, maxItems=10),
        "canonical_form": {"type": "string", "enum": ["digit", "garment"]},
        "parameters": INTEGER,
        "macs_per_image": INTEGER,
        "test_accuracy": SHARE,
        "calibrated": BOOLEAN,
        "temperature": NUMBER,
        "expected_calibration_error": nullable(SHARE),
        "conformal_level": nullable(SHARE),
        "conformal_quantile": nullable(SHARE),
        "in_distribution_level": nullable(SHARE),
        "in_distribution_threshold": nullable(NUMBER),
        "seed": INTEGER,
        "commit": STRING,
        "created": {"type": "string", "format": "date-time"},
    }
)
TENSOR = record(
    {"name": STRING, "datatype": STRING, "shape": array(INTEGER)},
    {"parameters": {"type": "object"}, "data": array({})},
)
SCHEMAS: dict[str, Schema] = {
    "Prediction": record(
        {
            "label": STRING,
            "index": {"type": "integer", "minimum": 0, "maximum": 9},
            "probability": SHARE,
            "top": array(LABEL, minItems=1, maxItems=10),
            "prediction_set": nullable(array(STRING, minItems=1)),
            "in_distribution": nullable(BOOLEAN),
        },
        {
            "pixels": {"type": "string", "format": "byte", "description": "28x28 pixels, row by row."},
            "heat_map": {
                "type": "string",
                "format": "byte",
                "description": "28x28 levels, row by row: 255 where the answer would lose most, 0 nothing.",
            },
        },
    ),
    "Segments": record(
        {
            "segments": array(
                {"allOf": [ref("Prediction"), record({"box": BOX})]},
                minItems=1,
                description="The digits on one picture: line by line, from left to right.",
            )
        }
    ),
    "ImageError": record({"error": ERROR}),
    "Predictions": record(
        {
            "model": STRING,
            "version": STRING,
            "predictions": array(
                {"oneOf": [ref("Prediction"), ref("Segments"), ref("ImageError")]}, minItems=1
            ),
        }
    ),
    "Error": record(
        {
            "error": record(
                {"code": STRING, "message": STRING, "request_id": STRING},
                {"details": array(ref("ImageError"))},
            )
        }
    ),
    "Model": MODEL,
    "Models": record({"default": STRING, "models": array(ref("Model"))}),
    "V2Error": record({"error": STRING}),
    "V2InferRequest": record(
        {
            "inputs": array(
                record(
                    {
                        "name": {"type": "string", "enum": ["images"]},
                        "datatype": {"type": "string", "enum": ["UINT8", "BYTES"]},
                        "shape": array({"type": "integer", "minimum": 0}),
                    },
                    {"parameters": {"type": "object"}, "data": array({})},
                ),
                minItems=1,
                maxItems=1,
            )
        },
        {
            "id": STRING,
            "parameters": record(
                {},
                {
                    "timeout": {
                        "type": "integer",
                        "minimum": 0,
                        "description": "Microseconds that the caller waits; 0 leaves it to the service.",
                    },
                    "binary_data_output": {"type": "boolean"},
                },
            ),
            "outputs": array(record({"name": STRING}, {"parameters": {"type": "object"}})),
        },
    ),
    "V2InferResponse": record(
        {"model_name": STRING, "model_version": STRING, "outputs": array(TENSOR)}, {"id": STRING}
    ),
    "V2IndexEntry": record(
        {
            "name": STRING,
            "version": STRING,
            "state": {"type": "string", "enum": ["READY", "UNAVAILABLE"]},
            "reason": STRING,
        }
    ),
}


def _content(schema: Schema, media_type: str = "application/json") -> Schema:
    return {media_type: {"schema": schema}}


def _errors(schema: str, *statuses: int) -> dict[str, Schema]:
    """The responses of these statuses and of 500, all of one schema."""
    return {
        str(status): {
            "description": WHEN[status],
            "headers": {"Retry-After": {"schema": INTEGER}} if status in (503, 504) else {},
            "content": _content(ref(schema)),
        }
        for status in (*statuses, 500)
    }


def _operation(identity: str, summary: str, content: Schema, errors: Schema, **more: Any) -> Schema:
    if "401" in errors:
        more["security"] = [{}, {"bearer": []}, {"header": []}]  # {}: where no keys are asked for
    responses = {"200": {"description": summary, "content": content}, **errors}
    return {"operationId": identity, "summary": summary, "responses": responses, **more}


def _predict_parameters() -> list[Schema]:
    """The query of `/predict`, from the class that reads it."""
    properties = PredictQuery.model_json_schema()["properties"]
    parameters = []
    for name, described in properties.items():
        schema = described.get("anyOf", [described])[0]
        kept = {key: schema[key] for key in ("type", "enum", "minimum", "maximum") if key in schema}
        parameters.append(
            {"name": name, "in": "query", "description": described["description"], "schema": kept}
        )
    return parameters


def _predict_body() -> Schema:
    picture = {"type": "string", "format": "binary"}
    return {
        "required": True,
        "description": "Files of a form, one picture as it is, or base64 in JSON.",
        "content": {
            "multipart/form-data": {"schema": record({"image": array(picture, minItems=1)})},
            "image/*": {"schema": picture},
            "application/json": {
                "schema": record({"images": array({"type": "string", "format": "byte"}, minItems=1)}),
            },
        },
    }


SECURITY_SCHEMES: Schema = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
V2_TAG = ["Inference protocol"]
ANYTHING: Schema = {"type": "object"}
MODEL_IN_PATH: Schema = {"name": "model", "in": "path", "required": True, "schema": STRING}
VERSION_IN_PATH: Schema = {"name": "version", "in": "path", "required": True, "schema": STRING}


def _v2_get(identity: str, summary: str, *statuses: int) -> Schema:
    return _operation(identity, summary, _content(ANYTHING), _errors("V2Error", *statuses), tags=V2_TAG)


def _v2_control(identity: str, summary: str, *statuses: int) -> Schema:
    errors = _errors("V2Error", 401, 403, 404, *statuses)
    operation = _operation(identity, summary, _content(ANYTHING), errors, tags=V2_TAG)
    return {"parameters": [MODEL_IN_PATH], "post": operation}


def _v2_model(suffix: str, method: str, operation: Schema) -> dict[str, Schema]:
    """An operation on a model, and the same on a version of it."""
    with_version = {**operation, "operationId": operation["operationId"] + "OfVersion"}
    return {
        f"/v2/models/{{model}}{suffix}": {"parameters": [MODEL_IN_PATH], method: operation},
        f"/v2/models/{{model}}/versions/{{version}}{suffix}": {
            "parameters": [MODEL_IN_PATH, VERSION_IN_PATH],
            method: with_version,
        },
    }


def _v2_paths() -> dict[str, Schema]:
    infer = _operation(
        "infer",
        "Probabilities and typicality of canonical pixels or encoded pictures.",
        _content(ref("V2InferResponse")),
        _errors("V2Error", 400, 401, 404, 413, 415, 422, 503, 504),
        tags=V2_TAG,
        requestBody={
            "required": True,
            "description": (
                "JSON; tensors in binary follow it where Inference-Header-Content-Length says its length. "
                "It may be compressed by gzip or deflate, as Content-Encoding says; the answer is compressed "
                "as Accept-Encoding asks."
            ),
            "content": _content(ref("V2InferRequest")),
        },
    )
    index = _operation(
        "repositoryIndex",
        "Every artifact, served or not.",
        _content(array(ref("V2IndexEntry"))),
        _errors("V2Error", 401),
        tags=V2_TAG,
    )
    return {
        "/v2": {"get": _v2_get("serverMetadata", "What this server is.", 401)},
        "/v2/health/live": {"get": _v2_get("serverLive", "Whether the server runs.")},
        "/v2/health/ready": {"get": _v2_get("serverReady", "Whether the server answers.", 503)},
        "/v2/models/stats": {"get": _v2_get("allStatistics", "What every model has done.", 401)},
        "/v2/repository/index": {"post": index},
        "/v2/repository/models/{model}/load": _v2_control("load", "Serve an artifact as it is on disk.", 409),
        "/v2/repository/models/{model}/unload": _v2_control("unload", "Stop serving a model."),
        **_v2_model("", "get", _v2_get("modelMetadata", "The tensors of a model.", 401, 404)),
        **_v2_model("/ready", "get", _v2_get("modelReady", "Whether a model answers.", 401, 404)),
        **_v2_model("/config", "get", _v2_get("modelConfig", "The configuration of a model.", 401, 404)),
        **_v2_model("/stats", "get", _v2_get("modelStatistics", "What a model has done.", 401, 404)),
        **_v2_model("/infer", "post", infer),
    }


def _own_paths() -> dict[str, Schema]:
    name = {"name": "name", "in": "path", "required": True, "schema": STRING}
    predict = _operation(
        "predict",
        "One prediction for each picture, in order.",
        _content(ref("Predictions")),
        _errors("Error", 400, 401, 404, 413, 415, 422, 503, 504),
        tags=["Predictions"],
        parameters=_predict_parameters(),
        requestBody=_predict_body(),
    )
    models = _operation(
        "listModels", "What is served.", _content(ref("Models")), _errors("Error", 401), tags=["Models"]
    )
    model = _operation(
        "getModel", "One model.", _content(ref("Model")), _errors("Error", 401, 404), tags=["Models"]
    )
    page = _operation("page", "The web page.", _content(STRING, "text/html"), _errors("Error"), tags=["Page"])
    series = _operation(
        "metrics",
        "Prometheus metrics.",
        _content(STRING, "text/plain"),
        _errors("Error", 401),
        tags=["Health"],
    )
    return {
        "/predict": {"post": predict},
        "/models": {"get": models},
        "/models/{name}": {"parameters": [name], "get": model},
        "/ui": {"get": page},
        "/metrics": {"get": series},
        "/livez": {"get": _probe("livez", "Whether the process runs.")},
        "/readyz": {"get": _probe("readyz", "Whether it answers.")},
    }


def _probe(identity: str, summary: str) -> Schema:
    responses = {"200": {"description": "Yes."}, "503": {"description": "No."}}
    return {"operationId": identity, "summary": summary, "tags": ["Health"], "responses": responses}


def document() -> Schema:
    """The whole OpenAPI document."""
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "digitserve",
            "version": __version__,
            "description": "Classifies pictures of handwritten digits and garments.",
            "license": {"name": "MIT"},
        },
        "servers": [{"url": "."}],
        "paths": {**_own_paths(), **_v2_paths()},
        "components": {"schemas": SCHEMAS, "securitySchemes": SECURITY_SCHEMES},
    }
