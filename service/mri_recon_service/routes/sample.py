"""Serve `GET /v1/sample`: a scan to try the service with."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Annotated

from fastapi import APIRouter, Header, Response

from mri_recon.embedded_sample import SAMPLE_NAME, sample_path

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["sample"])

_TYPE = "application/x-hdf5"
_ANSWER = {
    "description": "fastMRI-style HDF5: 4 slices, 8 coils, fully sampled, SIMULATED from the Colin27 average brain.",
    "content": {_TYPE: {"schema": {"type": "string", "format": "binary"}}},
}


@router.get(
    "/sample",
    operation_id="get_sample",
    response_class=Response,
    responses={200: _ANSWER, 304: {"description": "The copy that `If-None-Match` names is the same."}},
)
def sample(
    if_none_match: Annotated[
        str | None, Header(description="`ETag` of a copy; the same scan is then answered by 304.")
    ] = None,
) -> Response:
    """Return the scan that comes with the package: simulated, for demonstration, not for clinical use."""
    content, tag = _sample()
    headers = {
        "ETag": tag,
        "Cache-Control": "no-cache",  # keep it, but ask whether it is the same
        "Content-Disposition": f'attachment; filename="{SAMPLE_NAME}"',
    }
    if if_none_match is not None and _names(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_TYPE, headers=headers)


@cache
def _sample() -> tuple[bytes, str]:
    content = sample_path().read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _names(header: str, tag: str) -> bool:
    """Tell whether `If-None-Match` names the tag. Weak tags compare equal here, by RFC 9110."""
    tags = [one.strip().removeprefix("W/") for one in header.split(",")]
    return "*" in tags or tag in tags
