"""Define the verb `send`: images to a PACS."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mri_recon._system.text import printable
from mri_recon.cli.messages import say, warn
from mri_recon.cli.options import JsonOption, LikeOption
from mri_recon.cli.outputs import JSON_SUFFIXES, claim, files_read, tell
from mri_recon.cli.progress import working
from mri_recon.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mri_recon.pacs import Instance, Outcome, Target

__all__ = ["send"]

_PACS = "PACS"


def send(
    context: typer.Context,
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folder of DICOM, .dcm, .dcm.zip, or a result in .h5 or .npz, which becomes a series as in .dcm.zip",
            metavar="RESULT...",
            show_default=False,
        ),
    ] = None,
    stow: Annotated[
        str | None,
        typer.Option(help="Base address of a DICOMweb service (STOW-RS), e.g. https://HOST/dicom-web", metavar="URL"),
    ] = None,
    dicom: Annotated[
        str | None,
        typer.Option(help="Application entity (C-STORE), e.g. ORTHANC@127.0.0.1:4242", metavar="AET@HOST:PORT"),
    ] = None,
    aet: Annotated[
        str | None, typer.Option(help="AE title of this side for --dicom; default MRI-RECON", metavar="AET")
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt the connection of --dicom")] = False,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file", help="Certificates of authorities (PEM) to trust in place of the usual ones", metavar="FILE"
        ),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", help="Certificate (PEM) of this side", metavar="FILE")
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Its key (PEM, without password)", metavar="FILE")] = None,
    credentials_over_http: Annotated[
        bool,
        typer.Option("--credentials-over-http", help="Send credentials over http:// to another machine, unencrypted"),
    ] = False,
    like: LikeOption = None,
    foreign: Annotated[bool, typer.Option("--foreign", help="Send DICOM that mri-recon did not write, too")] = False,
    retries: Annotated[
        int,
        typer.Option(help="Repetitions of what may succeed later: a busy or silent PACS", min=0, max=100, metavar="N"),
    ] = 3,
    timeout: Annotated[
        float,
        typer.Option(
            help="Longest wait for a connection and for each answer, in seconds", min=0.1, max=3600, metavar="S"
        ),
    ] = 60.0,
    echo: Annotated[
        bool, typer.Option("--echo", help="Only ask whether the PACS answers: C-ECHO, or a search by QIDO-RS")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be sent; nothing is connected")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Send RESULTs as DICOM to a PACS, by DICOMweb (--stow) or C-STORE (--dicom).

    User and password, or token, of --stow: MRI_RECON_PACS_USER and MRI_RECON_PACS_PASSWORD, or MRI_RECON_PACS_TOKEN,
    in the environment.

    Exit status 0: all stored; 1: an instance was refused or not sent; 2: nothing could be sent.

    Example: mri-recon send knee.dcm.zip --dicom ORTHANC@127.0.0.1:4242
    """
    work = context.with_resource(working("starting"))
    target = _target(
        stow, dicom, aet=aet, tls=tls, files=(ca_file, certificate, key), plain=credentials_over_http, timeout=timeout
    )
    given = results or []
    if echo:
        if given or dry_run or json is not None:
            raise ConfigError("expected --echo with an address alone, got more: leave the rest out")
        from mri_recon.pacs import echo as ask

        work.step(f"asking {target}")
        answer = ask(target)
        work.end()
        tell(answer)
        return
    if not given:
        raise ConfigError(
            "expected at least one RESULT to send, got none: name a DICOM file, a folder of them, or a result"
        )
    read = [("a RESULT", path) for path in given] + files_read(like=like)
    piped = claim({"--json": json}, read, suffixes={"--json": JSON_SUFFIXES})
    from mri_recon.pacs import Retries, collect
    from mri_recon.pacs import send as run

    work.step("reading")
    found = collect(given, like=like, foreign=foreign)
    outcomes: list[Outcome] = []
    if not dry_run:

        def on_outcome(outcome: Outcome) -> None:
            outcomes.append(outcome)
            work.step(f"sending to {target}", len(outcomes), len(found.instances))

        try:
            run(target, found.instances, retries=Retries(retries), on_outcome=on_outcome)
        finally:
            work.end()
            _tell_outcomes(outcomes, err=piped)
    work.end()
    for note in found.notes:
        warn(note)
    if dry_run:
        for one in found.instances:
            tell(f"would send {one.sop_instance} {one.name}", err=piped)
    if json is not None:
        _write_json(None if piped else json, target, found.instances, outcomes)
    _tell_sum(target, found.instances, outcomes, dry_run=dry_run, err=piped)
    if not dry_run and not all(one.stored for one in outcomes):
        raise typer.Exit(1)


def _target(
    stow: str | None,
    dicom: str | None,
    *,
    aet: str | None,
    tls: bool,
    files: tuple[Path | None, Path | None, Path | None],
    plain: bool,
    timeout: float,
) -> Target:
    from mri_recon.pacs import DicomTarget, StowTarget, Tls, parse_dicom, parse_stow
    from mri_recon.pacs.targets import CALLING_AET, read_credentials

    if (stow is None) == (dicom is None):
        raise ConfigError(f"expected --stow URL or --dicom AET@HOST:PORT, got {'both' if stow else 'none'}: give one")
    certificates = Tls(*files)
    if dicom is not None:
        if plain:
            raise ConfigError("expected --credentials-over-http with --stow, got it with --dicom: leave it out")
        title, host, port = parse_dicom(dicom)
        return DicomTarget(title, host, port, CALLING_AET if aet is None else aet, tls, certificates, timeout)
    if aet is not None or tls:
        raise ConfigError(
            "expected --aet and --tls with --dicom, got them with --stow: https:// encrypts, leave them out"
        )
    return StowTarget(parse_stow(stow or ""), read_credentials(os.environ), certificates, plain, timeout)


def _tell_outcomes(outcomes: Sequence[Outcome], *, err: bool) -> None:
    for one in outcomes:
        remark = f": {one.reason}" if one.reason else ""
        tell(f"{one.state} {one.instance.sop_instance} {one.instance.name}{remark}", err=err)


def _tell_sum(
    target: Target, instances: Sequence[Instance], outcomes: Sequence[Outcome], *, dry_run: bool, err: bool
) -> None:
    series = dict.fromkeys(one.series for one in instances)
    what = f"{len(instances)} instances in {len(series)} series"
    if dry_run:
        tell(f"{what} would be sent to {target}; nothing was sent", err=err)
        return
    stored = sum(one.stored for one in outcomes)
    warnings = sum(one.state == "warning" for one in outcomes)
    remark = f", {warnings} with a warning" if warnings else ""
    tell(f"{stored} of {what} stored by {target}{remark}", err=err)
    if stored < len(instances):
        say(f"{len(instances) - stored} instances were not stored: see above; to send all again is safe")


def _write_json(path: Path | None, target: Target, instances: Sequence[Instance], outcomes: Sequence[Outcome]) -> None:
    import json

    from mri_recon._system.files import write_atomically
    from mri_recon.notice import RESEARCH_ONLY

    by_uid = {one.instance.sop_instance: one for one in outcomes}
    rows: list[dict[str, Any]] = []
    for one in instances:
        outcome = by_uid.get(one.sop_instance)
        rows.append(
            {
                "file": printable(one.name),
                "study": one.study,
                "series": one.series,
                "sop_class": one.sop_class,
                "sop_instance": one.sop_instance,
                "state": "not sent" if outcome is None else outcome.state,
                "reason": "" if outcome is None else outcome.reason,
            }
        )
    document = {"target": str(target), "instances": rows, "research_only": RESEARCH_ONLY}
    text = json.dumps(document, indent=2) + "\n"
    if path is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(path, text.encode())
