"""Look at and maintain the jobs of a service: the verb `mri-recon jobs`.

It works on the data folder, through the service's own store, whether the service runs or not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import ConfigError

if TYPE_CHECKING:
    from mri_recon_service.job import Job
    from mri_recon_service.storage.maintenance import Maintenance

__all__ = ["app"]

app = typer.Typer(
    help="Jobs of a service, in its data folder [MRI_RECON_DATA_DIR]. Run it as the service's user.",
    no_args_is_help=True,
)

_NAME_COLUMNS = 18

Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Identifiers of jobs")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]
StatusOption = Annotated[
    list[str] | None,
    typer.Option("--status", help="Only jobs in this state: queued, running, succeeded, failed or cancelled"),
]
ClientOption = Annotated[str | None, typer.Option("--client", help="Only jobs of the key with this name")]


@app.command("list")
def list_jobs(
    status: StatusOption = None,
    client: ClientOption = None,
    most: Annotated[int, typer.Option(min=1, help="Largest number of jobs")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List jobs, the newest first: identifier, state, age, size on the disk, client.

    A job that succeeded and whose result was deleted since is "expired".

    Example: mri-recon jobs list --status failed
    """
    with _data_folder() as data:
        jobs = data.store.of_all(most=most, client=client, statuses=_statuses(status))
        if as_json:
            typer.echo(json.dumps([_described(job, data) for job in jobs], indent=2))
            return
        if not jobs:
            typer.echo("no such jobs", err=True)
            return
        typer.echo(_line("identifier", "state", "age", "size", "client"))
        for job in jobs:
            name = job.client if len(job.client) <= _NAME_COLUMNS else job.client[: _NAME_COLUMNS - 1] + "~"
            state = "expired" if job.expired and job.status == "succeeded" else job.status
            typer.echo(_line(job.id, state, _age(job), _size(data.files.size(job.id)), name))


@app.command()
def show(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="Identifier of a job")], as_json: JsonOption = False
) -> None:
    """Show a job: its state, its work, its input's hash, and why it failed."""
    with _data_folder() as data:
        found = _described(data.find(job_id), data)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        if value not in (None, "", {}, []):
            typer.echo(
                f"{name.replace('_', ' '):<14} {value if isinstance(value, str | int | float) else json.dumps(value)}"
            )


@app.command()
def cancel(ids: Ids, as_json: JsonOption = False) -> None:
    """Cancel jobs. A waiting job ends at once, a running one before its next iteration."""
    with _data_folder() as data:
        found = data.find_all(ids)
        with _audit() as wrote:
            jobs = [data.cancel(job) for job in found]
            for job in jobs:
                wrote("cancel", job)
        if as_json:
            typer.echo(json.dumps([_described(job, data) for job in jobs], indent=2))
            return
        for job in jobs:
            typer.echo(f"{job.id}  {'stopping' if job.status == 'running' else job.status}")


@app.command()
def purge(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Identifiers of jobs")] = None,
    client: ClientOption = None,
    status: StatusOption = None,
    ended: Annotated[bool, typer.Option("--ended", help="Only jobs that have ended")] = False,
    older: Annotated[
        str | None, typer.Option("--older-than", metavar="TIME", help="Only jobs accepted longer ago, e.g. 7d")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete jobs for good: uploads, results and records. Name jobs, or choose them by the options.

    Jobs that wait or run are cancelled first.

    Example: mri-recon jobs purge --client reading-room --older-than 7d
    """
    from mri_recon_service import clock
    from mri_recon_service.durations import duration
    from mri_recon_service.job import FINISHED

    chosen = bool(client is not None or status or ended or older)
    if bool(ids) == chosen:
        raise ConfigError(
            "expected identifiers of jobs, or options that choose jobs, got "
            f"{'both' if ids else 'neither'}: e.g. `mri-recon jobs purge --ended`"
        )
    before = None if older is None else clock.now() - duration(older, zero=True).total_seconds()
    with _data_folder() as data:
        jobs = data.find_all(ids) if ids else data.store.of_all(client=client, statuses=_statuses(status))
        jobs = [
            job for job in jobs if (job.status in FINISHED or not ended) and (before is None or job.created <= before)
        ]
        if jobs and not yes:
            typer.confirm(f"Delete {len(jobs)} jobs with their uploads and results for good?", abort=True, err=True)
        left = []
        with _audit() as wrote:
            for job in jobs:
                if data.purge(job):
                    wrote("purge", job)
                else:
                    left.append(job)
        data.store.scrub()
    gone = [job.id for job in jobs if job not in left]
    if as_json:
        typer.echo(json.dumps({"purged": gone, "left": [job.id for job in left]}, indent=2))
    else:
        typer.echo(f"{len(gone)} jobs purged")
    if left:
        raise ConfigError(
            f"expected jobs that end, got {len(left)} that still run, e.g. {left[0].id}: they are told to stop; purge "
            "them again later, or start the service, which ends the jobs of dead processes"
        )


@contextmanager
def _data_folder() -> Iterator[Maintenance]:
    """Open the data folder of the settings.

    Raises:
        ConfigError: there is none, or it cannot be used now.
    """
    from mri_recon_service.cli import read_settings
    from mri_recon_service.problems import Problem
    from mri_recon_service.storage.maintenance import Maintenance

    data = Maintenance(read_settings())
    try:
        yield data
    except Problem as problem:
        raise ConfigError(f"the data folder cannot be used: {problem.detail}") from problem
    finally:
        data.close()


@contextmanager
def _audit() -> Iterator[Callable[[str, Job], None]]:
    """Open the audit log of the settings, and give a function that writes the line of an action on a job.

    Raises:
        ConfigError: lines cannot be written, and the service should refuse work then.
    """
    from mri_recon_service.cli import read_settings
    from mri_recon_service.http.audit import described_job, open_audit, operator_line

    audit = open_audit(read_settings())

    def write(action: str, job: Job) -> None:
        if audit is None:
            return
        try:
            audit.write(operator_line(action, **described_job(job)))
        except OSError as error:
            if audit.refuses:
                raise ConfigError(
                    f"the {action} of job {job.id} is done, and its audit line cannot be written ({error.strerror}): "
                    "note it by hand"
                ) from error

    try:
        yield write
    finally:
        if audit is not None:
            audit.close()


def _statuses(names: Sequence[str] | None) -> list[Any]:
    from typing import get_args

    from mri_recon_service.job import Status

    valid = get_args(Status)
    for name in names or ():
        if name not in valid:
            raise ConfigError(
                f"expected one of the states {', '.join(valid)}, got {name[:40]!a}{did_you_mean(name, valid)}: choose "
                "one of them"
            )
    return list(names or ())


def _described(job: Job, data: Maintenance) -> dict[str, Any]:
    from mri_recon_service.job import document

    shown = document(job)
    fields = job.request.get("fields", {})
    return {
        **{name: shown[name] for name in ("id", "kind", "status")},
        "client": job.client,
        "method": fields.get("method") or fields.get("methods", ""),
        "input_sha256": {name: one["sha256"] for name, one in job.request.get("sources", {}).items()},
        **{name: shown[name] for name in ("created", "started", "finished", "expires", "position")},
        "expired": job.expired,
        "attempts": job.attempts,
        "bytes": data.files.size(job.id),
        "request_id": job.request_id,
        "progress": shown["progress"],
        "problem": None if job.problem is None else {name: job.problem[name] for name in ("code", "detail")},
        "delivery": shown["delivery"],
    }


def _line(identifier: str, state: str, age: str, size: str, client: str) -> str:
    return f"{identifier:<32}  {state:<9}  {age:>4}  {size:>8}  {client}".rstrip()


def _age(job: Job) -> str:
    from mri_recon_service import clock

    seconds = max(0.0, clock.now() - job.created)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"


def _size(num_bytes: int) -> str:
    size = float(num_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
