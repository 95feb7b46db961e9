"""Writing a result so that it is there in full or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mri_recon.errors import FormatError

__all__ = ["write_atomically"]


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file beside its final name, then move it there: no reader, and no crash, sees half of it.

    Raises:
        FormatError: the folder does not exist or cannot be written to.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut after the move leaves an empty file
        temporary.chmod(0o644)  # a temporary file is private; a result is not
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise FormatError(f"cannot write {path} ({error.strerror}): choose a folder that exists") from error
