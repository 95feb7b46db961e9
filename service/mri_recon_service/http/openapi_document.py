"""Complete the OpenAPI document: keys, forms, groups, and the form that every error has."""

from __future__ import annotations

from typing import Any

from mri_recon_service.http.keys import is_open
from mri_recon_service.http.openapi import form_schemas, problem_responses
from mri_recon_service.schemas import MaskFields

__all__ = ["complete"]

_SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "API key of `mri-recon key add`. A service for its own machine alone needs none.",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same key in a header of its own.",
    },
}
_TAGS = {
    "reconstruction": "Reconstruct, compare, and check a request without running it.",
    "jobs": "Follow, fetch and stop work that takes longer.",
    "masks": "Draw undersampling masks.",
    "sample": "A scan to try the service with.",
    "models": "Models and methods that a request may name.",
    "health": "For supervisors and load balancers.",
    "open inference protocol": "Health and metadata of KServe's protocol, version 2.",
    "problems": "Every kind of error.",
}
_FRAMEWORKS = ("HTTPValidationError", "ValidationError")  # schemas of errors that the service does not send


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add to the document that FastAPI makes what it cannot know. Returns the same document."""
    schemas = document["components"]["schemas"]
    for name in _FRAMEWORKS:
        schemas.pop(name, None)
    schemas |= form_schemas() | {MaskFields.__name__: MaskFields.model_json_schema()}
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    document["components"]["securitySchemes"] = _SECURITY_SCHEMES
    document["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items()]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            # The empty one: a service for its own machine alone needs no key.
            operation["security"] = [] if is_open(path) else [{"bearer": []}, {"apiKey": []}, {}]
            _name_problem(operation["responses"])
    return document


def _name_problem(responses: dict[str, Any]) -> None:
    """Describe refused parameters as problems, in the place of the framework's own description."""
    schema = responses.get("422", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if schema.get("$ref", "").endswith(f"/{_FRAMEWORKS[0]}"):
        responses["422"] = problem_responses("invalid-request")[422]
