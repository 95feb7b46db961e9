"""Find registered files: in a local copy, in the cache, or at their public source.

If the environment variable `MRI_RECON_DATA` names a folder laid out like the registry, files come from there and
nothing is downloaded. Every file has its registered SHA-256.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from mri_recon._system.hashes import file_sha256
from mri_recon.errors import DataError, FormatError

__all__ = ["DATA_VARIABLE", "cache_folder", "data_folder", "locate", "verify"]

DATA_VARIABLE = "MRI_RECON_DATA"

# Files already verified in this process: (path, size, time of change) -> SHA-256. Training asks for a file often.
_VERIFIED: dict[tuple[Path, int, int], str] = {}


def data_folder() -> Path | None:
    """Find the local copy that `MRI_RECON_DATA` names; None if the variable is unset or empty.

    Raises:
        DataError: it names something that is not a folder.
    """
    named = os.environ.get(DATA_VARIABLE)
    if not named:
        return None
    folder = Path(named)
    if not folder.is_dir():
        raise DataError(f"{DATA_VARIABLE} names {named}, which is not a folder: correct it, or unset it to download")
    return folder


def cache_folder() -> Path:
    """Find the folder of downloads: `mri-recon` in the user's cache folder, as the system defines it."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "mri-recon"


def locate(name: str, sha256: str, *, url: str | None, manual: str = "", cache: Path | None = None) -> Path:
    """Give the verified local path of a registered file; download it if needed.

    Args:
        name: path inside the data folder, for example `raw/set/file.mat`.
        sha256: its registered digest.
        url: its public source; None if this file has none.
        manual: how to get it by hand, for the message where `url` is None.
        cache: folder of downloads; the user's cache by default.

    Raises:
        DataError: the file is not at hand and cannot be downloaded, or has another content.
    """
    local = data_folder()
    if local is not None:
        path = local / name
        if not path.is_file():
            raise DataError(
                f"{name}: not in {local}, the folder that {DATA_VARIABLE} names: add it, or unset the variable"
            )
        return verify(path, sha256)
    path = (cache or cache_folder()) / name
    if path.is_file():
        return verify(path, sha256)
    if url is None:
        raise DataError(f"{name}: cannot be downloaded. {manual}")
    _download(url, path, sha256)
    return verify(path, sha256)


def verify(path: Path, sha256: str) -> Path:
    """Give the path itself if its content has that SHA-256. A file is read once in a process while it does not change.

    Raises:
        DataError: other content, or a file that cannot be read.
    """
    try:
        status = path.stat()
        key = (path, status.st_size, status.st_mtime_ns)
        found = _VERIFIED.get(key) or file_sha256(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except FormatError as error:
        raise DataError(str(error)) from error
    if found != sha256:
        raise DataError(f"{path}: expected SHA-256 {sha256}, got {found}: delete the file and fetch it again")
    _VERIFIED[key] = found
    return path


def _download(url: str, path: Path, sha256: str) -> None:
    try:
        import pooch
        from requests import RequestException
    except ImportError as error:
        raise DataError(
            f"{path.name}: downloads need the extra 'data': pip install 'mri-recon[data]', "
            f"or name a local copy in {DATA_VARIABLE}"
        ) from error
    logger: logging.Logger = pooch.get_logger()
    logger.setLevel(logging.WARNING)
    try:
        # Into a temporary file first; only content of the right digest ever stands at `path`.
        pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=path.name, path=path.parent)
    except ValueError as error:
        raise DataError(
            f"{url}: the downloaded file has another SHA-256 than the registered {sha256}: it is not used"
        ) from error
    except (RequestException, OSError) as error:
        raise DataError(
            f"{url}: download failed ({error}): try again, or name a local copy in {DATA_VARIABLE}"
        ) from error
