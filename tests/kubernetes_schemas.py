"""Reads Kubernetes objects as JSON and prints what the schemas of Kubernetes and KServe find wrong with each.

Runs in the environment of the real clients, where these are; its arguments are versions of Kubernetes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import kserve
import kubernetes.client
import kubernetes_validate


def faults(document: dict[str, Any], versions: list[str]) -> Iterator[str]:
    if document["apiVersion"].startswith("serving.kserve.io/"):
        yield from kserve_faults(document, "V1beta1InferenceService", document["kind"])
        return
    for version in versions:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            yield f"{version}: {error}"


def kserve_faults(value: Any, kind: str, where: str) -> Iterator[str]:
    """What in `value` the type `kind` of KServe's or Kubernetes' generated models does not know."""
    items = re.fullmatch(r"list\[(.*)\]", kind)
    if items:
        if not isinstance(value, list):
            yield f"{where} must be a list"
            return
        for n, item in enumerate(value):
            yield from kserve_faults(item, items[1], f"{where}[{n}]")
        return
    model = getattr(kserve, kind, None) or getattr(kubernetes.client, kind, None)
    if model is None:  # str, int, dict(str, str), object, and quantities
        plain = {"str": str, "int": int, "bool": bool}.get(kind, object)
        if not isinstance(value, plain):
            yield f"{where} must be {kind}, not {value!r}"
        return
    fields = {model.attribute_map[name]: type_ for name, type_ in model.openapi_types.items()}
    for name, inner in value.items():
        if name in fields:
            yield from kserve_faults(inner, fields[name], f"{where}.{name}")
        else:
            yield f"{where} has no field {name}"


if __name__ == "__main__":
    json.dump([list(faults(document, sys.argv[1:])) for document in json.load(sys.stdin)], sys.stdout)
