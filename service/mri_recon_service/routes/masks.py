"""Serve `/v1/masks`: draw an undersampling mask, to look at it or to use it elsewhere."""

from __future__ import annotations

import asyncio
import functools
import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import ValidationError

from mri_recon.errors import MaskError
from mri_recon.io.masks import MASK_KINDS
from mri_recon.masks.types import ColumnMask
from mri_recon.notice import RESEARCH_ONLY
from mri_recon_service.answers.png import gray_png
from mri_recon_service.columns import columns_of
from mri_recon_service.dependencies import EngineDep
from mri_recon_service.http.negotiation import choose
from mri_recon_service.http.openapi import component, problem_responses
from mri_recon_service.problems import Problem, invalid_field, invalid_request, problem_of, shown
from mri_recon_service.schemas import MaskFields, MaskReceipt

if TYPE_CHECKING:  # the engine loads torch, which routes must not
    from mri_recon_service.jobs.engine import Engine

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["masks"])

_MAX_PIXELS = 1 << 24
_PICTURE_COPIES = 3  # the pixels, Pillow's, and at most as many bytes of the file
_MAX_BODY_BYTES = 1 << 14


def _as_json(mask: ColumnMask, fields: MaskFields, engine: Engine) -> bytes:
    return json.dumps({"research_only": RESEARCH_ONLY, **mask.receipt()}).encode()


def _as_npy(mask: ColumnMask, fields: MaskFields, engine: Engine) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, mask.lines, allow_pickle=False)
    return buffer.getvalue()


def _as_png(mask: ColumnMask, fields: MaskFields, engine: Engine) -> bytes:
    if fields.height * mask.width > _MAX_PIXELS:
        raise invalid_field(
            "height",
            f"expected a picture of at most {_MAX_PIXELS} pixels, got {fields.height} rows of {mask.width}: "
            f"ask for at most {_MAX_PIXELS // mask.width} rows, all are alike",
        )
    picture = np.broadcast_to(mask.lines.astype(np.float32), (fields.height, mask.width))
    text = {"Title": "sampled columns are white", "Mask": json.dumps(mask.receipt()), "Disclaimer": RESEARCH_ONLY}
    with engine.memory(_PICTURE_COPIES * picture.size):
        return gray_png(picture, high=1.0, text=text)


_PNG = "image/png"
_RENDERERS: dict[str, Callable[[ColumnMask, MaskFields, Engine], bytes]] = {
    "application/json": _as_json,
    "application/x-npy": _as_npy,
    _PNG: _as_png,
}
_ANSWER: dict[str, Any] = {
    "model": MaskReceipt,
    "description": "The receipt as JSON (default), the lines as npy, bool `(width,)`, or a picture.",
    "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in list(_RENDERERS)[1:]},
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: _ANSWER,
    **problem_responses("not-acceptable", "invalid-request", "invalid-mask", "busy"),
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": component(MaskFields),
                "examples": {
                    "fourfold": {"summary": "Four times fewer columns", "value": {"width": 320, "acceleration": 4}},
                    "equispaced": {
                        "summary": "Equally spaced, with 16 columns at the centre",
                        "value": {
                            "width": 368,
                            "acceleration": 8,
                            "num_low_frequencies": 16,
                            "mask_kind": "equispaced",
                            "seed": 7,
                        },
                    },
                },
            }
        },
    }
}


@router.get("/masks", operation_id="draw_mask", response_class=Response, responses=_RESPONSES)
async def mask_from_query(
    fields: Annotated[MaskFields, Query()],
    engine: EngineDep,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Draw a mask of columns. An upload with the same fields is reconstructed with the same mask."""
    return await _answer(fields, accept, engine)


@router.post(
    "/masks",
    operation_id="draw_mask_from_json",
    response_class=Response,
    responses={**_RESPONSES, **problem_responses("malformed-body", "upload-too-large")},
    openapi_extra=_BODY,
)
async def mask_from_body(
    request: Request,
    engine: EngineDep,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Draw a mask of columns from fields in a JSON object."""
    try:
        fields = MaskFields.model_validate_json(await _bounded_body(request))
    except ValidationError as error:
        raise invalid_request(error) from error
    return await _answer(fields, accept, engine)


async def _answer(fields: MaskFields, accept: str | None, engine: Engine) -> Response:
    """Draw the mask in a thread; a picture in one of the few threads that make answers."""
    media_type = choose(accept, list(_RENDERERS))
    draw = functools.partial(_drawn, fields, media_type, engine)
    content = await (engine.render(draw) if media_type == _PNG else asyncio.to_thread(draw))
    return Response(content, media_type=media_type, headers={"Vary": "Accept"})


def _drawn(fields: MaskFields, media_type: str, engine: Engine) -> bytes:
    support = None if fields.support is None else columns_of(fields.support, fields.width)
    if fields.support is not None and support is None:
        raise invalid_field(
            "support",
            f"expected ranges of the columns 0 to {fields.width - 1}, each from its first to its last, got "
            f"{shown(fields.support)}: send scan.support of /v1/validate",
        )
    try:
        mask = MASK_KINDS[fields.mask_kind](
            fields.width,
            fields.acceleration,
            center_fraction=fields.center_fraction,
            num_low_frequencies=fields.num_low_frequencies,
            seed=fields.seed,
            support=support,
        )
    except MaskError as error:
        raise problem_of(error) from error
    return _RENDERERS[media_type](mask, fields, engine)


async def _bounded_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise Problem(
                "upload-too-large",
                f"expected a JSON object of at most {_MAX_BODY_BYTES} bytes, got more: send the fields of a mask only",
                limit=_MAX_BODY_BYTES,
            )
    return bytes(body)
