"""Hold the session of one client: readouts in, jobs made of them, images out."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mri_recon.errors import MriReconError, OutputError
from mri_recon.io.writers.mrd import ImageSet, image_sets
from mri_recon.io.writers.result import SavedResult
from mri_recon.notice import RESEARCH_ONLY
from mri_recon_service.problems import Problem
from mri_recon_service.stream.configuration import Choice, read_choice
from mri_recon_service.stream.connection import Sink, Source
from mri_recon_service.stream.errors import Disconnected, SessionError
from mri_recon_service.stream.images import Image, Images
from mri_recon_service.stream.jobs import Jobs
from mri_recon_service.stream.messages import Configuration, End, Link, Other, Readout, ScanHeader
from mri_recon_service.stream.settings import StreamSettings
from mri_recon_service.stream.spool import Spool

__all__ = ["Rules", "Session"]

log = logging.getLogger("mri_recon_service")

_MOST_WARNINGS = 100  # different ones, that a session passes on
_FAREWELL_SECONDS = 5.0


@dataclass(frozen=True)
class Rules:
    """What clients may ask for.

    Attributes:
        methods: methods that they may name.
        names: configurations by the names that the operator gave them.
        limits: largest values of options.
        owner: function that returns the owner of an API key, None for an unknown one. None: no key is asked for.
    """

    methods: Sequence[str]
    names: Mapping[str, str]
    limits: Mapping[str, int]
    owner: Callable[[str], str | None] | None = None


@dataclass(frozen=True)
class _Work:
    """A job of an image, and the task that waits for its end."""

    image: Image
    job: str
    end: asyncio.Task[None]


class Session:
    """The session of one client.

    Args:
        name: name in the log.
        source: bytes from the client, of which the session sees the number and the time.
        sink: bytes to the client.
        link: the conversation.
        jobs: does the work.
        folder: folder of the session alone, which it deletes.
        settings: the server's settings.
        rules: what the client may ask for.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        sink: Sink,
        link: Link,
        jobs: Jobs,
        folder: Path,
        settings: StreamSettings,
        rules: Rules,
    ) -> None:
        self._name = name
        self._source = source
        self._sink = sink
        self._link = link
        self._jobs = jobs
        self._folder = folder
        self._settings = settings
        self._rules = rules
        # In the order in which they are sent; texts wait here too, since a client may read only after it has sent all.
        self._works: asyncio.Queue[_Work | str | None] = asyncio.Queue()
        self._places = asyncio.Semaphore(settings.max_jobs)
        self._choice: Choice | None = None
        self._images: Images | None = None
        self._spool: Spool | None = None
        self._unsent: dict[str, _Work] = {}
        self._others: Counter[str] = Counter()
        self._warnings: set[str] = set()
        self._num_readouts = 0
        self._num_images = 0
        self._num_failed = 0

    async def run(self) -> None:
        """Hold the session until its end, whatever that is."""
        started = time.monotonic()
        outcome = "complete"
        try:
            async with asyncio.timeout(self._settings.session_seconds):
                await self._converse()
                await self._link.tell(self._summary())
                await self._link.close(complete=not self._num_failed)
        except Disconnected as error:
            outcome = str(error)
        except asyncio.CancelledError:
            outcome = "the server stops"
            await self._refuse("the server stops: send the scan again later")
        except TimeoutError:
            outcome = "too long"
            await self._refuse(
                f"expected a session of at most {self._settings.session_seconds:g} s, got a longer one: send the scan "
                "in parts, or have MRI_RECON_STREAM_SESSION_SECONDS raised"
            )
        except SessionError as error:
            outcome = f"refused ({error})"  # the server's own words: they repeat no data
            await self._refuse(str(error))
        except MriReconError as error:
            outcome = f"refused ({type(error).__name__})"
            await self._refuse(str(error))
        except Problem as problem:
            outcome = problem.code
            await self._refuse(problem.detail)
        except Exception:
            outcome = "an unexpected error"
            log.exception("stream session %s failed", self._name)
            await self._refuse(f"an unexpected error occurred: the operator finds it in the log under {self._name}")
        finally:
            await self._clean_up()
            log.info(
                "stream session %s: %s, %d readouts, %d bytes, %d images, %.1f s",
                self._name,
                outcome,
                self._num_readouts,
                self._source.count,
                self._num_images,
                time.monotonic() - started,
            )

    async def _converse(self) -> None:
        """Receive, deliver and watch at the same time, until everything is delivered or one of them fails."""
        delivery = asyncio.create_task(self._deliver())
        tasks = {delivery, asyncio.create_task(self._receive()), asyncio.create_task(self._watch())}
        waiting = set(tasks)
        try:
            while delivery in waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # What comes in.

    async def _receive(self) -> None:
        async with aclosing(self._link.receive()) as messages:
            async for message in messages:
                match message:
                    case Configuration(text):
                        self._configure(text)
                    case ScanHeader():
                        self._begin(message)
                    case Readout():
                        await self._add(message)
                    case Other(name):
                        self._others[name] += 1
                    case End():
                        break
        for image in self._images.unmade() if self._images is not None else []:
            await self._make(image)
        self._works.put_nowait(None)

    def _configure(self, text: str) -> None:
        if self._images is not None:
            raise SessionError("expected readouts after the header, got a configuration: send it before the header")
        rules = self._rules
        self._choice = read_choice(
            text, allowed=rules.methods, names=rules.names, limits=rules.limits, before=self._choice
        )

    def _begin(self, header: ScanHeader) -> None:
        if self._images is not None:
            raise SessionError("expected one header in a session, got another: open a connection for each scan")
        if header.configuration is not None:
            self._configure(header.configuration)
        if self._choice is None:
            self._configure(self._settings.configuration)
        assert self._choice is not None
        if self._rules.owner is not None and self._rules.owner(self._choice.key) is None:
            raise SessionError(
                "expected an API key of this service, got none or an unknown one: add key=KEY to the configuration; "
                "the operator makes one with `mri-recon key add`"
            )
        self._images = Images(header.encoding, by_slice=self._choice.by_slice, most=self._settings.max_images)
        self._spool = Spool(self._folder, preface=header.preface, ending=header.ending)
        self._works.put_nowait(f"mri-recon: {self._choice}. {RESEARCH_ONLY}")

    async def _add(self, readout: Readout) -> None:
        if self._images is None or self._spool is None:
            raise SessionError("expected the header before the first readout, got a readout: send the header first")
        self._num_readouts += 1
        image, complete = self._images.add(readout)
        if image is not None:
            await self._spool.add(image, readout.content)
        for one in complete:
            await self._make(one)

    async def _make(self, image: Image) -> None:
        """Submit a job for an image. Nothing more is read meanwhile: the client waits, if there is too much work."""
        assert self._images is not None
        assert self._spool is not None
        assert self._choice is not None
        if image.made:
            self._works.put_nowait(f"{image.name}: more readouts came after its last one, the image is sent again")
        await self._places.acquire()
        submitted = False
        file: Path | None = None
        try:
            file, digest = await self._spool.file_of(image)
            self._images.making(image)
            fields = {**self._choice.fields, "deadline_seconds": str(self._settings.session_seconds)}
            job = await self._jobs.submit(file, digest, fields, session=self._name)
            work = _Work(image, job, asyncio.create_task(self._ended(job)))
            self._unsent[job] = work
            submitted = True
            self._works.put_nowait(work)
        except Problem as problem:
            if problem.code == "storage-full":
                raise
            self._works.put_nowait(self._failed(image, problem))
        finally:
            if not submitted:
                self._places.release()
            if file is not None:
                file.unlink(missing_ok=True)

    async def _ended(self, job: str) -> None:
        try:
            await self._jobs.watch(job)
        finally:
            self._places.release()

    # What goes out.

    async def _deliver(self) -> None:
        while (work := await self._works.get()) is not None:
            if isinstance(work, str):
                await self._link.tell(work)
                continue
            try:
                await work.end
                result = await self._jobs.result(work.job)
            except Problem as problem:
                await self._link.tell(self._failed(work.image, problem))
            else:
                await self._send(work.image, result)
            await self._forget(work.job)
            del self._unsent[work.job]  # not before: a session that ends meanwhile forgets what is here

    async def _forget(self, job: str) -> None:
        try:
            await self._jobs.cancel(job)
        except Problem as problem:  # a full disk, say: the result expires
            log.error("stream session %s: a job cannot be deleted: %s", self._name, problem.code)

    async def _send(self, image: Image, result: SavedResult) -> None:
        try:
            sets = image_sets(result)
        except OutputError as error:
            await self._link.tell(self._failed(image, Problem("invalid-file", str(error))))
            return
        for one in sets:
            _complete(one, image, self._num_images)
            for number in range(len(one.headers)):
                await self._link.send(one, number)
                self._num_images += 1
        for warning in result.metadata.get("info", {}).get("warnings", []):
            if warning not in self._warnings and len(self._warnings) < _MOST_WARNINGS:
                self._warnings.add(warning)
                await self._link.tell(f"warning: {image.name}: {warning}")

    def _failed(self, image: Image, problem: Problem) -> str:
        self._num_failed += 1
        # The words of the problem may repeat data, so the log has its code alone.
        log.warning("stream session %s: %s failed: %s", self._name, image.name, problem.code)
        return f"error: {image.name}: {problem.detail}"

    def _summary(self) -> str:
        told = [f"{self._num_images} images of {self._num_readouts} readouts are sent"]
        if self._num_failed:
            told.append(f"{self._num_failed} failed")
        left_out = [f"{count} {name}s" for name, count in sorted(self._others.items()) if name != "text"]
        if self._images is not None:
            if self._images.num_noise:
                left_out.append(f"{self._images.num_noise} noise scans (the coils are not whitened)")
            if unused := self._images.num_unused():
                left_out.append(f"{unused} readouts that are no lines of an image")
        if left_out:
            told.append(f"left out: {', '.join(left_out)}")
        return "; ".join(told)

    # What goes wrong.

    async def _watch(self) -> None:
        """End the session if the server waits for its client, in vain, to send something or to take what is sent."""
        idle, busy = self._settings.idle_seconds, 0.0
        while True:
            await asyncio.sleep(min(idle / 4, 5.0))
            if self._sink.since is None and any(not work.end.done() for work in self._unsent.values()):
                busy = time.monotonic()  # the client may wait for an image before it goes on
            waits = [since for since in (self._source.since, self._sink.since) if since is not None]
            if waits and time.monotonic() - max(*waits, self._sink.last, busy) > idle:
                raise SessionError(
                    f"expected the next message within {idle:g} s, got nothing: send CLOSE after the last one, or have "
                    "MRI_RECON_STREAM_IDLE_SECONDS raised"
                )

    async def _refuse(self, reason: str) -> None:
        """Tell the client why the session ends, if it still listens."""

        async def tell() -> None:
            await self._link.tell(f"error: {reason}")
            await self._link.close(complete=False)

        await _within(tell())

    async def _clean_up(self) -> None:
        for work in self._unsent.values():
            work.end.cancel()
        await asyncio.gather(*(work.end for work in self._unsent.values()), return_exceptions=True)
        await asyncio.gather(*map(self._forget, self._unsent), return_exceptions=True)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


async def _within(work: Awaitable[None]) -> None:
    with suppress(Disconnected, TimeoutError):
        async with asyncio.timeout(_FAREWELL_SECONDS):
            await work


def _complete(images: ImageSet, image: Image, sent: int) -> None:
    """Write into the headers of a job's images what the client's counters say; the job has seen one slice alone."""
    first, headers = image.first, images.headers
    if image.key[1] is not None and len(headers) == 1:
        headers["slice"] = first.slice
    headers["contrast"], headers["phase"] = first.contrast, first.phase
    headers["repetition"], headers["set"] = first.repetition, first.set
    headers["measurement_uid"] = first.measurement_uid
    headers["acquisition_time_stamp"] = first.acquisition_time_stamp
    stamps = np.zeros(3, np.uint32)
    stamps[: len(first.physiology_time_stamp)] = first.physiology_time_stamp[:3]
    headers["physiology_time_stamp"] = stamps
    headers["patient_table_position"] = first.patient_table_position
    headers["image_index"] = (sent + 1 + np.arange(len(headers))) % (1 << 16)
