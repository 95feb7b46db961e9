"""Open the files of clients, within the memory that a reconstruction could have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mri_recon_service.jobs.admission import Admission
from mri_recon_service.uploads.parser_pool import TooLarge
from mri_recon_service.work import Parsed, Parser

__all__ = ["Opening", "Pool"]


class Pool(Protocol):
    """The processes that open files, a `parser_pool.ParserPool`."""

    def load(
        self,
        path: Path,
        *,
        axes: str | None = None,
        variable: str | None = None,
        mask_file: Path | None = None,
        client: str = "",
        deadline: float = ...,
        most_bytes: float = ...,
    ) -> Parsed:
        """Read a scan, and the mask in a file that came with it."""
        ...


@dataclass(frozen=True)
class Opening:
    """Opens files.

    Attributes:
        pool: the processes that do it.
        admission: knows the memory of a reconstruction.
    """

    pool: Pool
    admission: Admission

    def parser(self, client: str, deadline: float) -> Parser:
        """Make the parser of one request.

        Args:
            client: who sent its files.
            deadline: `clock.now()` after which nobody waits for them.
        """
        return _OfClient(self, client, deadline)


@dataclass(frozen=True)
class _OfClient:
    opening: Opening
    client: str
    deadline: float

    def load(self, path: Path, *, axes: str | None, variable: str | None, mask_file: Path | None = None) -> Any:
        """Read a scan, see `Parser`.

        Raises:
            Problem: the file cannot be read in time, or its reconstruction would take too much memory.
        """
        admission = self.opening.admission
        try:
            return self.opening.pool.load(
                path,
                axes=axes,
                variable=variable,
                mask_file=mask_file,
                client=self.client,
                deadline=self.deadline,
                most_bytes=admission.largest_scan,
            )
        except TooLarge as error:
            size = f"{error.size} bytes" if error.size else "many bytes"
            raise admission.too_much_memory(f"a scan of {size}, of which every method holds copies") from error
