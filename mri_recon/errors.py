"""Define the errors of the project, one small tree.

```
MriReconError            everything this project raises on purpose
├── ShapeError           an array has the wrong rank, size or dtype
├── MaskError            a sampling mask cannot be built, or does not fit the data
├── FormatError          a file is not what it should be, or is unsafe to open
├── OutputError          a file cannot be written: a full disk, a folder, a device, an input that it would replace
├── DataError            the data registry cannot provide a set, or its content is wrong
├── CheckpointError      weights or their model card are missing, damaged or do not fit
├── ConfigError          a configuration has an unknown key or an impossible value
├── MethodError          an unknown reconstruction method, or an option it does not have
├── TransferError        a PACS cannot be reached, or refuses to talk
└── Cancelled            raised by a caller's `on_progress` to stop a reconstruction between iterations
```

Every message states the expectation, the actual value and advice.
"""

from __future__ import annotations

__all__ = [
    "Cancelled",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "FormatError",
    "MaskError",
    "MethodError",
    "MriReconError",
    "OutputError",
    "ShapeError",
    "TransferError",
]


class MriReconError(Exception):
    """Base of every error that mri-recon raises on purpose."""


class ShapeError(MriReconError):
    """An array has the wrong rank, size or dtype."""


class MaskError(MriReconError):
    """A sampling mask cannot be built as asked, or does not fit the data."""


class FormatError(MriReconError):
    """A file is not in a known format, is damaged, or is unsafe to open; or what the caller says of it does not fit.

    Attributes:
        argument: the argument of the caller that does not fit the file, `axes` or `variable`; "" if the file is wrong.
    """

    def __init__(self, message: str = "", *, argument: str = "") -> None:
        super().__init__(message)
        self.argument = argument


class OutputError(MriReconError):
    """A file cannot be written at the requested place. An existing file there is unchanged.

    Attributes:
        full: whether space is exhausted: a full disk, a used-up quota, a limit on the size of files.
    """

    def __init__(self, message: str = "", *, full: bool = False) -> None:
        super().__init__(message)
        self.full = full


class DataError(MriReconError):
    """The data registry cannot provide a set, or the content found is not the registered one."""


class CheckpointError(MriReconError):
    """Weights or their model card are missing, damaged or do not fit each other."""


class ConfigError(MriReconError):
    """A configuration has an unknown key or an impossible value."""


class MethodError(MriReconError):
    """An unknown reconstruction method, or an option that the method does not have."""


class TransferError(MriReconError):
    """A PACS cannot be reached, or refuses every image.

    Attributes:
        later: whether the same may succeed later: nobody listens, a timeout, an overload.
        wait: seconds that the other side asks to wait before the next attempt; None if it does not say.
    """

    def __init__(self, message: str = "", *, later: bool = False, wait: float | None = None) -> None:
        super().__init__(message)
        self.later = later
        self.wait = wait


class Cancelled(MriReconError):
    """The caller stopped a reconstruction between iterations, see `mri_recon.progress`."""
