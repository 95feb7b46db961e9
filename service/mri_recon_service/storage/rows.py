"""Make jobs from the rows of a store."""

from __future__ import annotations

import json
from typing import Any, Protocol

from mri_recon_service.job import Delivery, Job

__all__ = ["Row", "job_of"]


class Row(Protocol):
    """A row of the table of jobs, with its delivery and its place in the queue, by the names of the columns."""

    def __getitem__(self, name: str, /) -> Any:
        """Return the value of a column."""
        ...


def job_of(row: Row, *, run: str = "") -> Job:
    """Make the job of a row.

    Args:
        row: the row.
        run: its `Job.run`.
    """
    return Job(
        id=row["id"],
        kind=row["kind"],
        client=row["client"],
        request=json.loads(row["request"]),
        created=row["created"],
        deadline=row["deadline"],
        batch_key=row["batch_key"],
        memory=row["memory"],
        key=row["key"],
        fingerprint=row["fingerprint"],
        request_id=row["request_id"],
        status=row["status"],
        owner=row["owner"] or "",
        run=run,
        started=row["started"],
        finished=row["finished"],
        expires=row["expires"],
        attempts=row["attempts"],
        suspected=bool(row["suspected"]),
        disk_bytes=row["disk_bytes"],
        position=row["position"],
        progress=None if row["progress"] is None else json.loads(row["progress"]),
        problem=None if row["problem"] is None else json.loads(row["problem"]),
        expired=bool(row["expired"]),
        deliver=row["target"],
        delivery=None if row["target"] is None else _delivery(row),
    )


def _delivery(row: Row) -> Delivery:
    return Delivery(
        target=row["target"],
        state=row["state"],
        attempts=row["delivery_attempts"],
        stored=row["stored"],
        instances=row["instances"],
        reason=row["reason"],
        due=row["due"],
        finished=row["ended"],
    )
