"""Read from an accompanying DICOM image what a derived image takes over: patient, study, scanner, sequence.

Pixels, position, orientation, private elements and everything that is not listed stay behind.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from mri_recon.errors import FormatError
from mri_recon.io.reading.access import check_regular
from mri_recon.io.writers.dicom_modules import TAKEN_OVER

__all__ = ["read_tags"]

_MAX_BYTES = 2**30
_MAX_VALUE = 1024


def read_tags(path: str | Path) -> dict[str, Any]:
    """Read the values that a derived image takes over, by keyword; empty ones are left out.

    Raises:
        FormatError: not DICOM, damaged, or pydicom is not installed.
    """
    path = Path(path)
    check_regular(path, "a DICOM image")
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise FormatError(
            "expected the library pydicom for a DICOM image, it is not installed: pip install 'mri-recon[clinical]'"
        ) from error
    wrong = FormatError(f"expected a DICOM image, got {path.name}, which is none or is damaged: name another file")
    if path.stat().st_size > _MAX_BYTES:
        raise wrong
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of values that break the standard; long ones are left out
            data = dcmread(path, stop_before_pixels=True, specific_tags=list(TAKEN_OVER))
            found = {keyword: getattr(data, keyword, None) for keyword in TAKEN_OVER}
    except Exception as error:  # pydicom raises errors of many kinds for damaged files
        raise wrong from error
    return {key: value for key, value in found.items() if value not in (None, "", []) and len(str(value)) <= _MAX_VALUE}
