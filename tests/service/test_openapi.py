"""The OpenAPI document: its examples run, and nothing made from it breaks the service."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest

from mri_recon_service.app import create_app
from mri_recon_service.http.keys import add_key
from mri_recon_service.http.openapi import SAMPLE_FILE
from mri_recon_service.settings import Settings
from tests.support.service import until


def _documented() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def _examples() -> Iterator[Any]:
    for path, operations in _documented()["paths"].items():
        for method, operation in operations.items():
            for media, content in operation.get("requestBody", {}).get("content", {}).items():
                for name, example in content.get("examples", {}).items():
                    yield pytest.param(method, path, media, example["value"], id=f"{method} {path} {name}")


EXAMPLES = list(_examples())


@pytest.fixture(scope="module")
def roomy(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serve(Settings(upload_dir=tmp_path_factory.mktemp("openapi"))) as client:
        yield client


@pytest.mark.parametrize(("method", "path", "media", "value"), EXAMPLES)
def test_every_example_runs(roomy: httpx.Client, method: str, path: str, media: str, value: dict[str, Any]) -> None:
    if media == "multipart/form-data":
        fields = dict(value)
        assert fields.pop("file") == SAMPLE_FILE
        sample = (files("mri_recon") / "_sample" / SAMPLE_FILE).read_bytes()
        answer = roomy.request(
            method,
            path,
            files={"file": (SAMPLE_FILE, sample)},
            data={name: str(one) for name, one in fields.items()},
        )
    else:
        assert media == "application/json"
        answer = roomy.request(method, path, json=value)
    assert answer.status_code == 200, answer.text


def test_every_route_that_takes_a_body_has_an_example() -> None:
    posted = {path for path, operations in _documented()["paths"].items() if "post" in operations}
    assert {value.values[1] for value in EXAMPLES} == posted


def test_every_operation_says_which_problems_it_has() -> None:
    """Those of every route at least: no key, a foreign page, a foreign name; and each problem by one schema."""
    for path, operations in _documented()["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            assert {"401", "403", "421"} <= set(operation["responses"])
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    schema = {"$ref": "#/components/schemas/ProblemDocument"}
                    assert response["content"] == {"application/problem+json": {"schema": schema}}, (method, path)


def test_operations_have_names_of_their_own() -> None:
    """Those that a generated client gives its functions: a verb and an object, once."""
    names = [one["operationId"] for operations in _documented()["paths"].values() for one in operations.values()]
    assert len(set(names)) == len(names)
    verbs = {"reconstruct", "compare", "validate", "list", "get", "stream", "delete", "draw"}
    assert {name.split("_")[0] for name in names} == verbs


def test_every_parameter_and_every_member_is_described() -> None:
    document = _documented()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for one in operation.get("parameters", []):
                assert one.get("description"), (path, one["name"])
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"], name
        for member, one in schema["properties"].items():
            assert one.get("description"), (name, member)
    tags = {one["name"] for one in document["tags"]}
    assert {tag for one in document["paths"].values() for each in one.values() for tag in each["tags"]} == tags


def test_every_reference_leads_somewhere() -> None:
    """And no schema is there that nothing needs."""
    document = _documented()
    used = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert used == set(document["components"]["schemas"])


def test_keys_are_documented_where_they_are_asked_for(serve: Any, tmp_path: Path) -> None:
    """The service says 401 without a key where the document names one, and nowhere else."""
    document = _documented()
    assert {one["type"] for one in document["components"]["securitySchemes"].values()} == {"http", "apiKey"}
    add_key(tmp_path / "keys.json", "a")
    with serve(Settings(require_keys=True, keys_file=tmp_path / "keys.json")) as client:
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                wanted = [one for one in operation["security"] if one]
                answer = client.request(method, path.replace("{", "").replace("}", ""))
                assert (answer.status_code == 401) == bool(wanted), (method, path)


def test_a_field_with_a_default_is_not_sent_twice() -> None:
    """Generated clients send defaults; of a form the query would repeat them, and the service takes a field once."""
    for path, operations in _documented()["paths"].items():
        for operation in operations.values():
            if "multipart/form-data" in operation.get("requestBody", {}).get("content", {}):
                for one in operation["parameters"]:
                    assert "default" not in one["schema"], (path, one["name"])


def test_a_form_takes_what_the_service_takes() -> None:
    words = _documented()["components"]["schemas"]["ReconstructionForm"]["properties"]["mask"]["anyOf"]
    assert {"type": "string", "enum": ["file", "from-zeros"]} in words


def test_the_document_is_valid() -> None:
    """By the JSON Schema of OpenAPI 3.1 that comes with schemathesis."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    schemathesis.openapi.from_dict(_documented()).validate()


@pytest.mark.slow  # hundreds of requests made from the document
def test_nothing_made_from_the_document_breaks_the_service(serve: Any, tmp_path: Path) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import not_a_server_error

    limits = Settings(upload_dir=tmp_path, max_upload_bytes=200_000, max_iters=3, upload_timeout_seconds=5)
    with serve(limits) as client:
        until(lambda: client.get("/health/ready").status_code == 200)  # a 503 of its own until then
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        schema.config.update(base_url=str(client.base_url).rstrip("/"))
        for result in schema.get_all_operations():
            operation = result.ok()

            @given(case=operation.as_strategy())
            @settings(
                max_examples=12,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def run(case: Any) -> None:
                response = case.call(timeout=60)
                case.validate_response(response, checks=[not_a_server_error])
                if response.status_code >= 400 and response.content != b"Invalid HTTP request received.":
                    assert response.headers["content-type"] == ["application/problem+json"]

            run()
        assert client.get("/health/live").status_code == 200
