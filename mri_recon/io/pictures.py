"""Refuse to draw pictures of scans whose `meta` marks them as not to be shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mri_recon.errors import DataError

__all__ = ["NO_PICTURES", "require_pictures_allowed"]

NO_PICTURES = "no_pictures"
"""Key of `Scan.meta` and attribute of saved files: True if no picture that shows the subject may be drawn."""


def require_pictures_allowed(meta: Mapping[str, Any], *, what: str = "a picture") -> None:
    """Refuse to draw a scan that is marked.

    Args:
        meta: `meta` of the scan.
        what: name of the picture, for the message.

    Raises:
        DataError: the scan, or the image it was simulated from, shows a subject who may not be pictured.
    """
    if meta.get(NO_PICTURES):
        raise DataError(
            f"expected a scan that may be pictured, {meta.get('file', 'the scan')} is of a set that the data registry "
            f"marks no_pictures (an identifiable face): {what} is not drawn, its numbers are"
        )
