"""The OpenAPI document is valid, complete and true to routes, real answers and made-up requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from openapi_schema_validator import OAS30ReadValidator
from openapi_spec_validator import validate
from schemathesis import Case
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient
from test_api import picture
from tiny import write_artifact

from service.access import Keys
from service.app import web_app
from service.draining import Drain
from service.openapi import document
from service.repository import Repository
from service.settings import Settings

# Routes that are no part of the API: the document itself, the page's files, and those that refuse the rest.
UNDESCRIBED = {"/docs.json", "/ui/", "/ui/{file}", "/v2/{path:path}", "/{path:path}"}
BENTOML = {"/livez", "/readyz"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Starlette:
    folder = tmp_path_factory.mktemp("described-models")
    write_artifact(folder, "mnist-cnn")
    config = Settings(models_dir=folder)
    repository = Repository(config)
    repository.open()
    return web_app(repository, Drain(drain_s=0, workers=1), Keys(None), config)


@pytest.fixture(scope="module")
def client(app: Starlette) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def test_the_document_is_valid() -> None:
    validate(document())


def test_every_route_and_method_is_described_and_nothing_else(app: Starlette) -> None:
    served = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, Route) and route.path not in UNDESCRIBED
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {
        (path, method)
        for path, item in document()["paths"].items()
        if path not in BENTOML
        for method in item
        if method != "parameters"
    }
    assert described == served


def conforms(instance: object, name: str) -> None:
    components = document()["components"]
    OAS30ReadValidator({"$ref": f"#/components/schemas/{name}", "components": components}).validate(instance)


def test_real_answers_conform(client: TestClient) -> None:
    good, bad = ("f", ("a", picture(7))), ("f", ("b", b"text"))
    query = "/predict?canonical=never&top_k=3&pixels=true"
    conforms(client.post(query, files=[good, bad]).json(), "Predictions")
    conforms(client.post(query, files=[bad, bad]).json(), "Error")
    conforms(client.post(query, files=[bad]).json(), "Error")
    conforms(client.get("/models").json(), "Models")
    conforms(client.get("/models/mnist-cnn").json(), "Model")
    conforms(client.get("/v2/models/absent").json(), "V2Error")
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 28, 28], "data": [0] * 784}
    conforms({"inputs": [tensor]}, "V2InferRequest")
    conforms(client.post("/v2/models/mnist-cnn/infer", json={"inputs": [tensor]}).json(), "V2InferResponse")
    for entry in client.post("/v2/repository/index").json():
        conforms(entry, "V2IndexEntry")


OPERATIONS = [
    (path, method) for path, item in document()["paths"].items() for method in item if path not in BENTOML
]


@pytest.mark.parametrize(("path", "method"), [o for o in OPERATIONS if o[1] != "parameters"])
def test_requests_made_from_the_document_get_described_answers(
    app: Starlette, path: str, method: str
) -> None:
    operation = schemathesis.openapi.from_asgi("/docs.json", app)[path][method.upper()]

    @settings(max_examples=20, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def check(case: Case) -> None:
        # No schema can say what a picture is, so what is made from one may well be refused as none.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    check()
