"""Answer a request that brings a scan: with the result at once, or with a job."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import math
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import OutputError
from mri_recon.io import check_holds
from mri_recon_service.answers.bundle import read_bundle
from mri_recon_service.answers.image_files import IMAGE_FILES
from mri_recon_service.answers.rendering import (
    HDF5,
    METHOD_OFFERS,
    NPZ,
    OFFERS,
    Rendered,
    headers_of,
    not_held,
    render,
)
from mri_recon_service.answers.sent import FileResponse, on_disk
from mri_recon_service.clock import now
from mri_recon_service.http.audit import described_job, described_work, note
from mri_recon_service.http.negotiation import choose
from mri_recon_service.http.preferences import Preferences, read_preferences
from mri_recon_service.job import Job, Kind, document, problem_from
from mri_recon_service.jobs.engine import Engine
from mri_recon_service.jobs.results import bundle_of, encoded, encoded_file, hdf5_of
from mri_recon_service.jobs.runner import HDF5_FILE, NPZ_FILE, method_file, part_file
from mri_recon_service.problems import Problem, shown
from mri_recon_service.settings import Settings
from mri_recon_service.storage.store import KeyInUse
from mri_recon_service.uploads.receive import UploadGate
from mri_recon_service.uploads.upload import Upload
from mri_recon_service.work import Outcome, Prepared, read_task

__all__ = ["client_of", "job_answer", "method_answer", "part_answer", "result_answer", "submit"]

T = TypeVar("T")

_LONGEST_KEY = 255
_COPIES = 4  # of the arrays, while another representation is made of them
_KEPT = {NPZ: NPZ_FILE, HDF5: HDF5_FILE}  # the representations that are files of a job already
_SERIES = "application/zip"  # the form in which a result is delivered


async def submit(request: Request, kind: Kind, engine: Engine, gate: UploadGate, settings: Settings) -> Response:
    """Answer a request that brings a scan.

    Raises:
        Problem: the request, its files or its work are refused.
    """
    arrived = now()
    media_type = choose(request.headers.get("accept"), OFFERS[kind])
    preferences = read_preferences(request.headers.get("prefer"))
    key = _key(request)
    durable = preferences.durable or key is not None or not settings.worker_threads  # others do what is not done here
    client = client_of(request)
    await asyncio.to_thread(engine.admission.refuse_if_full, client=client, durable=durable)  # reads the store
    upload = await gate.receive(request, client)
    place = None
    try:
        sources = upload.sources
        fingerprint = _fingerprint(kind, upload.fields, sources)
        if key is not None:
            earlier = await asyncio.to_thread(engine.store.by_key, client, key)
            if earlier is not None:
                note(request, action="repeat", **described_job(earlier))
                return await _repeated(earlier, fingerprint, media_type, engine, preferences)
        task = read_task(kind, upload.fields, limits=settings.option_limits)
        deliver = task.deliver
        if deliver is not None:
            engine.targets.check(deliver, client)
        if not durable and deliver is None:
            place = engine.admission.place(client)
        limit = min(task.fields.deadline_seconds or math.inf, settings.timeout_seconds)
        prepared = await engine.open(task, upload.files, sources, client=client, deadline=arrived + limit)
        _refuse_impossible(prepared, media_type)
        if deliver is not None:
            _refuse_impossible(prepared, _SERIES)
        note(request, work=True, deliver=deliver, **described_work(upload.fields, sources))
        if place is not None and engine.admission.small(prepared):
            upload.remove()
            owned, place = place, None  # the work releases it
            rendered = await engine.direct.answer(
                prepared,
                functools.partial(_rendered, media_type=media_type, folder=settings.upload_folder),
                place=owned,
                arrived=arrived,
                left=functools.partial(_left, request),
            )
            return _response(rendered)
        wait = _wait(prepared, preferences, engine, settings)
        accepting = _accepted(request, engine, upload, prepared, arrived, key, fingerprint)
        del prepared  # nobody holds the scan while the client waits for the job
        try:
            job = await accepting
        except KeyInUse as error:  # by a request that arrived at the same time
            note(request, action="repeat", **described_job(error.job))
            return await _repeated(error.job, fingerprint, media_type, engine, preferences)
        note(request, job=job.id)
        upload.remove()
        if place is not None:
            place.release()
        return await _finished(request, job, wait, media_type, engine, preferences)
    finally:
        upload.remove()
        if place is not None:
            place.release()


def client_of(request: Request) -> str:
    """Return the name of the request's API key; "" if no keys are in use."""
    return str(getattr(request.state, "client", ""))


def job_answer(job: Job, preferences: Preferences | None = None) -> Response:
    """Answer `202` with the job's document and address."""
    shown = document(job)
    headers = {"Location": shown["links"]["self"], **(preferences.applied if preferences else {})}
    return JSONResponse(shown, status_code=202, headers=headers)


async def result_answer(job: Job, media_type: str, engine: Engine, *, may_redirect: bool = False) -> Response:
    """Answer with the result of a finished job in a representation, or with the address of its file.

    Args:
        job: the job.
        media_type: the representation.
        engine: the engine.
        may_redirect: whether the client may be sent to the file.

    Raises:
        Problem: job-not-finished, job-cancelled, result-expired, or the reason of the job's failure.
    """
    if job.status == "failed" and job.problem is not None:
        raise problem_from(job.problem)
    if job.status == "cancelled":
        raise Problem("job-cancelled", "expected a finished job, got a cancelled one: send the request again")
    if job.status != "succeeded":
        raise Problem(
            "job-not-finished",
            f"expected a finished job, got one that is {job.status}: follow its events, or ask again later",
            headers={"Retry-After": "1"},
        )
    try:
        if job.expired:
            raise FileNotFoundError
        name = _KEPT.get(media_type)
        if may_redirect and name is not None and (elsewhere := await _elsewhere(job, name, engine)) is not None:
            return elsewhere
        return _response(await engine.render(functools.partial(_stored, job, media_type, engine)))
    except FileNotFoundError as error:
        raise _expired() from error


def _expired() -> Problem:
    return Problem("result-expired", "expected a result that is still kept, got an expired one: send the request again")


async def part_answer(job: Job, name: str, engine: Engine) -> Response:
    """Answer with a part of a running comparison, as npz.

    Raises:
        Problem: part-not-found.
    """
    parts = list((job.progress or {}).get("parts", ()))
    if job.status == "running" and name in parts:
        with suppress(FileNotFoundError):  # the job ended meanwhile
            file = await engine.render(functools.partial(_opened, job, part_file(parts.index(name)), engine))
            return FileResponse(file, media_type=NPZ, headers={})
    raise Problem(
        "part-not-found",
        f"expected a finished part of a running comparison, one of {', '.join(parts) or '(none yet)'}, got "
        f"{shown(name)} of a job that is {job.status}: "
        + ("fetch its result" if job.status == "succeeded" else "follow its events"),
        valid=parts,
    )


async def _elsewhere(job: Job, name: str, engine: Engine) -> Response | None:
    """Answer with the address of a file that a client may fetch from where it is kept. None: there is none.

    Raises:
        FileNotFoundError: there is no such file.
    """
    address = await engine.render(functools.partial(engine.files.address, job, name))
    headers = {"Cache-Control": "no-store", "Vary": "Accept, Prefer"}
    return None if address is None else Response(status_code=303, headers={**headers, "Location": address})


async def method_answer(
    job: Job, method: str, media_type: str, engine: Engine, *, may_redirect: bool = False
) -> Response:
    """Answer with the file of one method of a finished comparison, or with its address.

    Raises:
        Problem: as `result_answer`; part-not-found; not-acceptable, for an image that the format cannot hold.
    """
    if job.kind != "comparison" or job.status != "succeeded":
        return await result_answer(job, media_type, engine, may_redirect=may_redirect)
    methods = list(read_task(job.kind, job.request["fields"], limits={}).methods)
    if method not in methods:
        raise Problem(
            "part-not-found",
            f"expected one of the compared methods {', '.join(methods)}, got {shown(method)}"
            f"{did_you_mean(method, methods)}: choose one of them",
            valid=methods,
        )
    name = method_file(methods.index(method))
    try:
        if job.expired:
            raise FileNotFoundError
        if may_redirect and media_type == HDF5 and (elsewhere := await _elsewhere(job, name, engine)) is not None:
            return elsewhere
        return _response(
            await engine.render(functools.partial(_method_rendered, job, name, method, media_type, engine))
        )
    except FileNotFoundError as error:
        raise _expired() from error


def _opened(job: Job, name: str, engine: Engine) -> IO[bytes]:
    """Open a file that the run of a job wrote.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with engine.files.result(job, name) as path:
        return path.open("rb", buffering=0)


def _from_hdf5(job: Job, engine: Engine, read: Callable[[Path], T]) -> T:
    """Read the library's file of a reconstruction.

    Raises:
        FileNotFoundError: there is none.
    """
    with engine.files.result(job, HDF5_FILE) as path:
        return read(path)


def _method_rendered(job: Job, name: str, method: str, media_type: str, engine: Engine) -> Rendered:
    if media_type == HDF5:
        return Rendered(_opened(job, name, engine), HDF5, _named(f"{method}.h5"))
    suffix = IMAGE_FILES[media_type].suffix
    with engine.files.result(job, name) as path, engine.memory(_COPIES * path.stat().st_size):
        try:
            encoded = encoded_file(path, None, suffix)
        except OutputError as error:
            raise not_held(media_type, error, METHOD_OFFERS) from error
        extra = {"X-Left-Out": encoded.left_out.encode("ascii", "replace").decode()} if encoded.left_out else {}
        rendered = Rendered(bytes(encoded.content), media_type, {**_named(f"{method}{suffix}"), **extra})
        return on_disk(rendered, engine.answer_folder)


def _named(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{ascii(name)[1:-1]}"', "Vary": "Accept"}


def _refuse_impossible(prepared: Prepared, media_type: str) -> None:
    """Refuse, before the work, an answer in a format that cannot hold the image."""
    if media_type not in IMAGE_FILES:
        return
    slices, _, readout, phase = prepared.shape
    try:
        check_holds(IMAGE_FILES[media_type].suffix, (slices, readout, phase), prepared.scan.meta)
    except OutputError as error:
        raise not_held(media_type, error) from error


def _key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= _LONGEST_KEY:
        raise Problem(
            "invalid-request",
            f"expected an Idempotency-Key of 1 to {_LONGEST_KEY} characters, got {len(key)}: send a UUID, for example",
        )
    return key


def _fingerprint(kind: Kind, fields: Mapping[str, str], sources: Mapping[str, Mapping[str, Any]]) -> str:
    """Hash a request by its kind, its fields and its files. Equal requests have equal hashes."""
    content = [kind, sorted(fields.items()), sorted((name, one["sha256"]) for name, one in sources.items())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


async def _repeated(job: Job, fingerprint: str, media_type: str, engine: Engine, preferences: Preferences) -> Response:
    """Answer a request whose idempotency key was used before, with the same job or its result."""
    if job.fingerprint != fingerprint:
        raise Problem(
            "idempotency-mismatch",
            "expected the request that this Idempotency-Key was first used for, got another: take a new key",
        )
    if preferences.respond_async or job.deliver is not None or job.status in ("queued", "running"):
        return job_answer(job, preferences)
    return await result_answer(job, media_type, engine)


def _accepted(
    request: Request,
    engine: Engine,
    upload: Upload,
    prepared: Prepared,
    arrived: float,
    key: str | None,
    fingerprint: str,
) -> Coroutine[Any, Any, Job]:
    """Make work a job, in a thread.

    Raises:
        Problem: busy, storage-full.
        KeyInUse: the client used the key for another job.
    """
    return asyncio.to_thread(
        engine.jobs.accept,
        prepared,
        upload.fields,
        upload.files,
        arrived=arrived,
        client=client_of(request),
        key=key,
        fingerprint=fingerprint,
        request_id=request.state.request_id,
        deliver=prepared.task.deliver,
    )


def _wait(prepared: Prepared, preferences: Preferences, engine: Engine, settings: Settings) -> float:
    """Choose how long a request waits for the job that it becomes."""
    if preferences.wait is not None:
        return preferences.wait
    to_be_told = preferences.respond_async or prepared.task.deliver is not None
    if to_be_told or not engine.admission.small(prepared):
        return 0.0
    return settings.timeout_seconds  # small work with a key: wait as for a direct answer


async def _finished(
    request: Request, job: Job, wait: float, media_type: str, engine: Engine, preferences: Preferences
) -> Response:
    """Wait for a job as long as its client does, and answer with its result or its document."""
    if not wait:
        return job_answer(job, preferences)
    waiting: asyncio.Future[Any] = asyncio.ensure_future(engine.jobs.finished(job, wait))
    leaving: asyncio.Future[Any] = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait([waiting, leaving], return_when="FIRST_COMPLETED")
    except asyncio.CancelledError:
        # The service stops. The client must know the job, which goes on after the next start.
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
        return job_answer(job, preferences)
    finally:
        leaving.cancel()
        if not waiting.done():
            waiting.cancel()
    current: Job | None = waiting.result() if waiting.done() and not waiting.cancelled() else None
    if current is None or current.status in ("queued", "running"):
        return job_answer(current or job, preferences)
    return await result_answer(current, media_type, engine)


def _rendered(outcome: Outcome, media_type: str, folder: Path) -> Rendered:
    bundle = bundle_of(outcome, with_kspace=media_type == NPZ)
    rendered = render(
        bundle,
        media_type,
        hdf5=functools.partial(hdf5_of, outcome, bundle),
        encode=functools.partial(encoded, outcome, bundle),
    )
    return on_disk(rendered, folder)


def _stored(job: Job, media_type: str, engine: Engine) -> Rendered:
    """Open the result of a job, or make another representation of it within the memory for that.

    Raises:
        Problem: busy.
    """
    as_it_is = _KEPT.get(media_type)
    with engine.files.result(job, NPZ_FILE) as npz:
        if as_it_is is not None:
            bundle = read_bundle(job.kind, npz, only=["mask"])
            file = npz.open("rb", buffering=0) if as_it_is == NPZ_FILE else _opened(job, as_it_is, engine)
            return Rendered(file, media_type, headers_of(bundle, media_type))
        with engine.memory(_COPIES * npz.stat().st_size):
            bundle = read_bundle(job.kind, npz)
            rendered = render(
                bundle,
                media_type,
                hdf5=functools.partial(_from_hdf5, job, engine, Path.read_bytes),
                encode=lambda suffix: _from_hdf5(job, engine, lambda path: encoded_file(path, bundle, suffix)),
            )
            return on_disk(rendered, engine.answer_folder)


def _response(rendered: Rendered) -> Response:
    if isinstance(rendered.content, bytes):
        return Response(rendered.content, media_type=rendered.media_type, headers=rendered.headers)
    return FileResponse(rendered.content, media_type=rendered.media_type, headers=rendered.headers)


async def _left(request: Request) -> None:
    """Wait until the client closes the connection. Its body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
