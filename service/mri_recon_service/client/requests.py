"""Ask what is answered at once: dry runs, models, masks, the sample, readiness."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from mri_recon_service.client.answers import document_of
from mri_recon_service.client.caller import Caller
from mri_recon_service.client.errors import BusyError, ForeignServerError, UnreachableError
from mri_recon_service.client.scans import DrawnMask, MaskInput, ScanBytes, ScanInput, upload_call
from mri_recon_service.client.wire import Call

__all__ = ["draw_mask", "examine", "is_ready", "list_models", "sample_scan"]

_READY_PAUSE = 0.5
_SAMPLE_NAME = "sample.h5"


async def examine(caller: Caller, scan: ScanInput, mask: MaskInput, texts: Mapping[str, str]) -> dict[str, Any]:
    """Send a dry run, and return its document."""
    with ExitStack() as stack:
        call = await upload_call(caller.transport, "/v1/validate", scan, mask, texts, stack)
        return document_of(await caller.ask(call), caller.address)


async def list_models(caller: Caller) -> dict[str, Any]:
    """Return the document of models and methods."""
    return document_of(await caller.ask(Call("GET", "/v1/models")), caller.address)


async def sample_scan(caller: Caller) -> ScanBytes:
    """Fetch the scan that comes with the service."""
    return ScanBytes((await caller.ask(Call("GET", "/v1/sample"))).content, _SAMPLE_NAME)


async def draw_mask(caller: Caller, texts: Mapping[str, str]) -> DrawnMask:
    """Draw a mask."""
    receipt = document_of(await caller.ask(Call("GET", "/v1/masks", query=texts)), caller.address)
    try:
        lines = np.zeros(int(receipt["width"]), dtype=bool)
        lines[receipt["lines"]] = True
    except (KeyError, IndexError, TypeError, ValueError) as broken:
        raise ForeignServerError(
            f"expected the receipt of a mask at {caller.address}, got something else: check the address"
        ) from broken
    return DrawnMask(lines, receipt)


async def is_ready(caller: Caller, timeout: float) -> bool:
    """Tell whether the service is ready, or becomes so within some seconds."""
    end = time.monotonic() + timeout
    while True:
        try:
            await caller.ask(Call("GET", "/health/ready"), patience=0.0)
            return True
        except (BusyError, UnreachableError) as error:
            left = end - time.monotonic()
            if left <= 0 and isinstance(error, BusyError):
                return False
            if left <= 0:
                raise
        await caller.transport.pause(min(_READY_PAUSE, left))
