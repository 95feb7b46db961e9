"""Give the images of a session to the service's jobs: submit, watch, result and cancel are all it knows of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from mri_recon.errors import MriReconError
from mri_recon.io.saved import read_saved
from mri_recon.io.writers.result import SavedResult
from mri_recon_service.clock import now
from mri_recon_service.job import FINISHED, Job, problem_from
from mri_recon_service.jobs.engine import Engine
from mri_recon_service.jobs.runner import HDF5_FILE
from mri_recon_service.problems import Problem, problem_of
from mri_recon_service.settings import Settings
from mri_recon_service.uploads.parser_folder import link_or_copy
from mri_recon_service.work import Prepared, read_task

__all__ = ["EngineJobs", "Jobs"]

_OWNER = "@stream"  # no API key has such a name, so no client of the HTTP service finds these jobs
_PERIOD = 60.0
_LONGEST_END = 10.0  # results of jobs that take longer to end expire
_SHORTEST_WAIT, _LONGEST_WAIT = 0.1, 5.0


class Jobs(Protocol):
    """Jobs of reconstructions."""

    async def submit(self, file: Path, digest: str, fields: Mapping[str, str], *, session: str) -> str:
        """Make a job of a file and return its identifier. Waits while too much work waits.

        Args:
            file: the readouts.
            digest: SHA-256 of the file.
            fields: method, options and further fields of a reconstruction.
            session: name of the session, for the log.

        Raises:
            Problem: the file or the fields are refused.
        """
        ...

    async def watch(self, job: str) -> None:
        """Wait for the end of a job.

        Raises:
            Problem: the job failed, or is deleted.
        """
        ...

    async def result(self, job: str) -> SavedResult:
        """Read the result of a job that has succeeded.

        Raises:
            Problem: it cannot be read.
        """
        ...

    async def cancel(self, job: str) -> None:
        """Stop a job that waits or runs, and delete the result of one that has ended."""
        ...


class EngineJobs:
    """`Jobs` of the engine of this process, and through its store of every process that shares it."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings

    async def submit(self, file: Path, digest: str, fields: Mapping[str, str], *, session: str) -> str:
        """Make a job, see `Jobs`."""
        sources = {"file": {"name": file.name, "sha256": digest, "bytes": file.stat().st_size}}
        pause = _SHORTEST_WAIT
        while True:
            try:
                await asyncio.to_thread(self._engine.admission.refuse_if_full, client=_OWNER, durable=True)
                prepared, texts = await self._open(file, sources, fields)
                return await self._accepted(prepared, texts, file, session)
            except Problem as problem:
                if problem.code != "busy":
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_WAIT)

    async def watch(self, job: str) -> None:
        """Wait for the end of a job, see `Jobs`."""
        found = await self._found(job)
        while found.status not in FINISHED:
            later = await self._engine.jobs.finished(found, _PERIOD)
            if later is None:
                raise _lost()
            found = later
        if found.status == "failed" and found.problem is not None:
            raise problem_from(found.problem)
        if found.status != "succeeded":
            raise _lost()

    async def result(self, job: str) -> SavedResult:
        """Read a result, see `Jobs`."""
        try:
            return await asyncio.to_thread(self._read, job)
        except MriReconError as error:
            raise problem_of(error) from error

    async def cancel(self, job: str) -> None:
        """Stop or delete a job, see `Jobs`."""
        found = await asyncio.to_thread(self._engine.store.get, job)
        if found is not None and found.status not in FINISHED:
            found = await asyncio.to_thread(self._engine.jobs.cancel, found)
        if found is not None and found.status not in FINISHED:  # it may succeed all the same
            found = await self._engine.jobs.finished(found, _LONGEST_END)
        if found is not None and found.status in FINISHED:
            await asyncio.to_thread(self._engine.jobs.delete, found)

    def _read(self, job: str) -> SavedResult:
        found = self._engine.store.get(job)
        if found is None:
            raise _lost()
        with self._engine.files.result(found, HDF5_FILE) as path:
            return read_saved(path, max_bytes=self._settings.max_decoded_bytes)

    async def _open(
        self, file: Path, sources: Mapping[str, Mapping[str, object]], fields: Mapping[str, str]
    ) -> tuple[Prepared, Mapping[str, str]]:
        """Open a file with its own mask, or with every line of a scan that has them all."""
        limits = self._settings.option_limits
        task = read_task("reconstruction", fields, limits=limits)
        try:
            return await self._engine.open(task, {"file": file}, sources, client=_OWNER), fields
        except Problem as problem:
            if problem.code != "missing-mask":
                raise
        every = {**fields, "acceleration": "1"}
        task = read_task("reconstruction", every, limits=limits)
        return await self._engine.open(task, {"file": file}, sources, client=_OWNER), every

    async def _accepted(self, prepared: Prepared, texts: Mapping[str, str], file: Path, session: str) -> str:
        """Keep the job. If the session ends meanwhile, nobody would know the job: it is cancelled."""
        accepting = asyncio.ensure_future(asyncio.to_thread(self._accept, prepared, texts, file, session))
        try:
            return await asyncio.shield(accepting)
        except asyncio.CancelledError:
            with suppress(Problem):
                await self.cancel(await accepting)
            raise

    def _accept(self, prepared: Prepared, texts: Mapping[str, str], file: Path, session: str) -> str:
        # A refused job deletes its file: it gets another name of it, so that it can be tried again.
        given = file.parent / "given" / file.name
        given.parent.mkdir(exist_ok=True)
        given.unlink(missing_ok=True)
        link_or_copy(file, given)
        job = self._engine.jobs.accept(
            prepared,
            texts,
            {"file": given},
            arrived=now(),
            client=_OWNER,
            key=None,
            fingerprint="",
            request_id=session,
        )
        return job.id

    async def _found(self, job: str) -> Job:
        found = await asyncio.to_thread(self._engine.store.get, job)
        if found is None:
            raise _lost()
        return found


def _lost() -> Problem:
    return Problem("job-cancelled", "expected a finished reconstruction, got one that was stopped: send the scan again")
