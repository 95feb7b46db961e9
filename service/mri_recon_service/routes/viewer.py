"""Serve `/`: the viewer, a page of plain modules under `static/viewer` that uses the public addresses."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

__all__ = ["router"]

_PAGE = files("mri_recon_service") / "static" / "viewer" / "index.html"
router = APIRouter()


@router.get("/", include_in_schema=False)
async def viewer() -> HTMLResponse:
    """Return the page. All its addresses are relative, since a proxy may serve it under a prefix."""
    return HTMLResponse(_PAGE.read_text(encoding="utf-8"))
