"""Describe streamed request bodies and problem answers for OpenAPI, which FastAPI cannot infer from a signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from mri_recon_service.problems import EVERYWHERE_CODES, MEDIA_TYPE, PROBLEMS
from mri_recon_service.schemas import (
    CompareFields,
    JobDocument,
    ProblemDocument,
    ReconstructionFields,
    ValidateFields,
)
from mri_recon_service.uploads.receive import MULTIPART, OCTETS
from mri_recon_service.uploads.upload import RAW_TYPES

__all__ = [
    "EXAMPLES",
    "SAMPLE_FILE",
    "answer_headers",
    "component",
    "form_schemas",
    "job_accepted",
    "problem_responses",
    "upload_request",
]

SAMPLE_FILE = "colin27_8ch.h5"
"""Name of the file in examples: the scan of `GET /v1/sample`."""

EXAMPLES: dict[str, dict[str, dict[str, Any]]] = {
    "ReconstructionFields": {
        "zero-filled": {"method": "zero-filled", "acceleration": 4},
        "cs-wavelet": {
            "method": "cs-wavelet",
            "acceleration": 4,
            "center_fraction": 0.08,
            "seed": 1,
            "max_iters": 5,
            "slice": 0,
        },
    },
    "CompareFields": {
        "two methods": {
            "methods": "zero-filled,cg-sense",
            "acceleration": 4,
            "mask_kind": "equispaced",
            "cg-sense.max_iters": 3,
        },
    },
    "ValidateFields": {
        "a reconstruction": {"method": "cs-wavelet", "acceleration": 4},
        "a comparison": {"methods": "zero-filled,unet", "acceleration": 8, "num_low_frequencies": 8},
    },
}
"""Fields of example requests by their class. The requests run with the scan of `GET /v1/sample`."""

_FILE = {"type": "string", "contentMediaType": OCTETS, "format": "binary"}


UPLOADS: tuple[type[BaseModel], ...] = (ReconstructionFields, CompareFields, ValidateFields)
"""Fields of the routes that take a scan."""


def component(model: type[BaseModel]) -> dict[str, Any]:
    """Refer to the schema of a model, which a generated client then has once."""
    return _reference(model.__name__)


def upload_request(fields: type[BaseModel], *, job: bool = False) -> dict[str, Any]:
    """Describe the body of a route that takes a scan: a form, or a raw file with its fields as query parameters.

    Args:
        fields: the fields.
        job: whether the request may become a job, and has the headers that ask for it.
    """
    raw = {"schema": _FILE}
    query = [
        {"name": name, "in": "query", "required": False, "schema": _bare(one), "description": one["description"]}
        for name, one in fields.model_json_schema()["properties"].items()
    ]
    filename = {
        "name": "filename",
        "in": "query",
        "schema": {"type": "string"},
        "description": f"With {OCTETS}: a file name whose suffix tells the format.",
    }
    return {
        "parameters": [*query, filename, *(_JOB_HEADERS if job else [])],
        "requestBody": {
            "required": True,
            "content": {
                MULTIPART: {"schema": _reference(_form_name(fields)), "examples": _examples(fields)},
                **dict.fromkeys([*RAW_TYPES, OCTETS], raw),
            },
        },
    }


_JOB_HEADERS = [
    {
        "name": "Prefer",
        "in": "header",
        "schema": {"type": "string"},
        "description": "`respond-async`: answer with a job at once. `wait=N`: wait N seconds for the result.",
        "example": "respond-async",
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        "description": "A new text for every new request, e.g. a UUID. Sent again with the same text, it is done once.",
    },
]


def form_schemas() -> dict[str, Any]:
    """Make the schemas of the forms with a scan, by name: `ReconstructionForm`, `CompareForm`, `ValidateForm`."""
    return {_form_name(fields): _form(fields) for fields in UPLOADS}


def _bare(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Leave the default out: generated clients send defaults, and a field of a form must not be in the query too."""
    return {name: value for name, value in schema.items() if name != "default"}


def _form_name(fields: type[BaseModel]) -> str:
    return fields.__name__.replace("Fields", "Form")


def _form(fields: type[BaseModel]) -> dict[str, Any]:
    schema = fields.model_json_schema()
    mask = schema["properties"]["mask"]
    words = [{"type": "string", **one} for one in mask["anyOf"] if one != {"type": "null"}]
    properties: dict[str, Any] = {
        "file": {
            **_FILE,
            "description": "The scan: fastMRI HDF5, ISMRMRD .mrd, .npy, .npz, MATLAB .mat, Siemens .dat or GE .7.",
        },
        **schema["properties"],
        "mask": {"description": mask["description"], "anyOf": [_FILE, *words]},
    }
    return {
        "title": _form_name(fields),
        "description": fields.__doc__,
        "type": "object",
        "properties": properties,
        "required": ["file", *schema.get("required", [])],
        "additionalProperties": {"type": "string"},
    }


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def job_accepted(description: str = "The work became a job. Location has its address.") -> dict[str, Any]:
    """Describe the response of a route that answers with a job."""
    return {
        "description": description,
        "model": JobDocument,
        "headers": {"Location": {"schema": {"type": "string"}, "description": "Address of the job."}},
    }


def _examples(fields: type[BaseModel]) -> dict[str, Any]:
    return {
        name: {"summary": f"The scan of GET /v1/sample, {name}", "value": {"file": SAMPLE_FILE, **values}}
        for name, values in EXAMPLES.get(fields.__name__, {}).items()
    }


def problem_responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Describe the responses of a route for its own codes, besides those of every route."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys([*codes, *EVERYWHERE_CODES]):
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    return {
        status: {
            "description": "; ".join(f"`{code}`: {PROBLEMS[code].title}" for code in found),
            "content": {MEDIA_TYPE: {"schema": component(ProblemDocument)}},
        }
        for status, found in sorted(by_status.items())
    }


def answer_headers(*names: str) -> dict[str, Any]:
    """Describe the headers of an answer by name."""
    return {name: {"schema": {"type": "string"}, "description": _HEADERS[name]} for name in names}


_HEADERS = {
    "X-Mask-Receipt": "JSON: how the mask was made, its realised acceleration, and a SHA-256 of its packed bits.",
    "X-Reconstruction-Info": "JSON: the method's report, such as iterations, model and seconds.",
    "X-Provenance": "JSON: input, mask, method, options, model, versions, device. `mri-recon replay` reads it in HDF5.",
    "X-Preview-Slice": "PNG only: index of the shown slice.",
    "X-Preview-Window": "PNG only: magnitudes shown as black and as white.",
    "X-Left-Out": "DICOM, NIfTI, MRD and MATLAB only: what the format cannot hold, and sides that nobody verified.",
}
