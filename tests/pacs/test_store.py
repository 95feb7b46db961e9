"""C-STORE against an application entity in this process, which answers what a test says."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mri_recon.cli import build_app
from mri_recon.errors import ConfigError, TransferError
from mri_recon.pacs import DicomTarget, Outcome, Retries, collect, echo, send
from tests.support.pacs import ENHANCED, IMPLICIT, entity

pydicom = pytest.importorskip("pydicom", reason="the extra 'pacs' is not installed")
pynetdicom = pytest.importorskip("pynetdicom", reason="the extra 'pacs' is not installed")

NOW = Retries(2, first=0)


def states(outcomes: list[Outcome]) -> list[str]:
    return [one.state for one in outcomes]


def test_statuses_of_each_instance(written: Callable[..., Path]) -> None:
    found = collect([written("a.dcm.zip")])
    comment = pydicom.Dataset()
    comment.Status, comment.ErrorComment = 0xC001, "no such patient"
    with entity([0xB000, comment, 0x0000]) as (target, stored):
        seen: list[Outcome] = []
        outcomes = send(target, found.instances, on_outcome=seen.append)
    assert outcomes == seen
    assert states(outcomes) == ["warning", "failed", "stored"]
    assert [one.stored for one in outcomes] == [True, False, True]
    assert outcomes[0].reason == "Coercion of Data Elements (0xB000)"
    assert outcomes[1].reason == "Cannot Understand (0xC001): no such patient"
    assert [data.SOPInstanceUID for data in stored] == [
        found.instances[0].sop_instance,
        found.instances[2].sop_instance,
    ]


@pytest.mark.parametrize("busy", [1, 2, 3])
def test_out_of_resources_is_repeated_and_nothing_else(busy: int, written: Callable[..., Path]) -> None:
    found = collect([written("a.dcm")])
    waits: list[float] = []
    with entity([*[0xA700] * busy, 0], classes=(ENHANCED,)) as (target, stored):
        (outcome,) = send(target, found.instances, retries=Retries(2, first=1, sleep=waits.append))
    assert waits == [1, 2][:busy]
    assert (outcome.state, len(stored)) == (("failed", 0) if busy > 2 else ("stored", 1))
    if busy > 2:
        assert outcome.reason.endswith("(0xA700)")
    with entity([0x0122, 0], classes=(ENHANCED,)) as (target, stored):
        (outcome,) = send(target, found.instances, retries=NOW)
    assert (outcome.state, outcome.reason) == ("failed", "Refused: SOP Class Not Supported (0x0122)")
    assert stored == []


def test_a_pacs_of_implicit_vr_gets_the_same_values(written: Callable[..., Path]) -> None:
    found = collect([written("a.dcm")])
    with entity([], classes=(ENHANCED,), syntaxes=(IMPLICIT,)) as (target, stored):
        assert states(send(target, found.instances)) == ["stored"]
    ours, (theirs,) = found.instances[0].dataset(), stored
    assert theirs.file_meta.TransferSyntaxUID == IMPLICIT
    for element in ours:
        assert element.tag == 0x7FE00010 or theirs[element.tag].value == element.value
    assert theirs.PixelData == ours.PixelData


def test_a_kind_of_image_that_the_pacs_does_not_take(written: Callable[..., Path]) -> None:
    single, several = written("a.dcm.zip"), written("b.dcm")
    found = collect([several, single])
    with entity([]) as (target, stored):
        outcomes = send(target, found.instances, retries=NOW)
    assert states(outcomes) == ["failed", "stored", "stored", "stored"]
    assert "does not take Enhanced MR Image Storage" in outcomes[0].reason
    assert outcomes[0].reason.endswith("send the series (.dcm.zip) instead")
    assert len(stored) == 3
    with entity([], classes=(ENHANCED,)) as (target, stored):
        outcomes = send(target, collect([single]).instances, retries=NOW)
    assert states(outcomes) == ["failed"] * 3
    with entity([], syntaxes=("1.2.840.10008.1.2.4.70",)) as (target, stored):  # it takes compressed images alone
        assert states(send(target, collect([single]).instances, retries=NOW)) == ["failed"] * 3


def test_an_association_that_is_aborted_is_opened_again(written: Callable[..., Path]) -> None:
    found = collect([written("a.dcm.zip")])

    def abort(event: Any) -> int:
        event.assoc.abort()
        return 0xA700

    with entity([0, abort]) as (target, stored):
        assert states(send(target, found.instances, retries=NOW)) == ["stored"] * 3
    assert len({data.SOPInstanceUID for data in stored}) == 3
    with entity([0, abort, abort, abort, abort]) as (target, stored):
        outcomes = send(target, found.instances, retries=NOW)
    assert states(outcomes) == ["stored", "unsent", "unsent"]
    assert "PACS@127.0.0.1" in outcomes[1].reason
    with (
        entity([abort] * 9) as (target, _),
        pytest.raises(TransferError, match="aborted the association|closed the connection"),
    ):
        send(target, found.instances, retries=NOW)


def test_rejections(written: Callable[..., Path]) -> None:
    found = collect([written("a.dcm")])
    with entity([], require_calling_aet=["ELSE"]) as (target, _):
        with pytest.raises(TransferError, match="does not know the calling AE title 'MRI-RECON': have it registered"):
            send(target, found.instances)
        known = DicomTarget("PACS", target.host, target.port, calling_aet="ELSE")
        assert echo(known) == f"{known} answers"
        with pytest.raises(TransferError, match="is not called 'OTHER': check the called AE title"):
            send(DicomTarget("OTHER", target.host, target.port, calling_aet="ELSE"), found.instances)


def test_an_overloaded_pacs_is_asked_again(written: Callable[..., Path]) -> None:
    """It takes one association at once, which is held until the third attempt."""
    found = collect([written("a.dcm")])
    with entity([], classes=(ENHANCED,), maximum_associations=1) as (target, stored):
        holder = pynetdicom.AE(ae_title="HOLDER")
        holder.add_requested_context("1.2.840.10008.1.1")
        held = holder.associate(target.host, target.port, ae_title="PACS")
        assert held.is_established
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                held.release()
            time.sleep(0.05)

        with pytest.raises(TransferError, match="it is overloaded: try again later"):
            send(target, found.instances, retries=Retries(0))
        outcomes = send(target, found.instances, retries=Retries(10_000, first=0.5, longest=0.5, sleep=sleep))
    assert states(outcomes) == ["stored"]
    assert waits[:2] == [0.5, 0.5]
    assert len(stored) == 1


def test_nobody_listens(written: Callable[..., Path]) -> None:
    import socket

    found = collect([written("a.dcm")])
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    waits: list[float] = []
    with pytest.raises(TransferError, match="connection refused: nobody listens there") as refused:
        send(DicomTarget("PACS", "127.0.0.1", port), found.instances, retries=Retries(3, sleep=waits.append))
    assert waits == [1, 2, 4]
    assert refused.value.later
    with pytest.raises(TransferError, match="its host name is not known"):
        echo(DicomTarget("PACS", "nobody.invalid", 104))


def test_a_silent_pacs(written: Callable[..., Path]) -> None:
    import socket

    found = collect([written("a.dcm")])
    with socket.create_server(("127.0.0.1", 0)) as server:  # it accepts and says nothing
        silent = DicomTarget("PACS", "127.0.0.1", server.getsockname()[1], timeout=0.5)
        with pytest.raises(TransferError, match="or does not speak DICOM there"):
            send(silent, found.instances, retries=Retries(0))


def test_an_echo_that_is_refused() -> None:
    with entity([], answers_echo=False) as (target, _), pytest.raises(TransferError, match="accepts no C-ECHO"):
        echo(target)


def test_the_verb_ends_with_status_1_where_an_instance_was_refused(written: Callable[..., Path]) -> None:
    path = written("a.dcm.zip")
    with entity([0, 0xC000, 0xB007]) as (target, _):
        result = CliRunner().invoke(build_app(), ["send", str(path), "--dicom", str(target)])
    assert result.exit_code == 1
    first, second, third, total = result.stdout.splitlines()
    assert first.startswith("stored 2.25.")
    assert second.startswith("failed 2.25.")
    assert second.endswith("a.dcm.zip:DICOM/IM000002: Cannot Understand (0xC000)")
    assert third.startswith("warning 2.25.")
    assert total == f"2 of 3 instances in 1 series stored by {target}, 1 with a warning"
    assert "1 instances were not stored: see above; to send all again is safe" in result.stderr


def test_a_file_that_changes_or_goes_while_others_are_sent(written: Callable[..., Path]) -> None:
    folder = written("a/")
    found = collect([folder])
    first, second, third = sorted(one for one in folder.rglob("*") if one.is_file())
    second.unlink()
    third.write_bytes(first.read_bytes())
    with entity([]) as (target, stored):
        outcomes = send(target, found.instances)
    assert states(outcomes) == ["stored", "failed", "failed"]
    assert "cannot be read any more" in outcomes[1].reason
    assert "has changed since it was checked" in outcomes[2].reason
    assert len(stored) == 1


def test_stopping_releases_the_association(written: Callable[..., Path]) -> None:
    found = collect([written("a.dcm.zip")])

    def stop(_: Outcome) -> None:
        raise KeyboardInterrupt

    with entity([]) as (target, stored):
        with pytest.raises(KeyboardInterrupt):
            send(target, found.instances, on_outcome=stop)
        assert len(stored) == 1
        assert states(send(target, found.instances)) == ["stored"] * 3  # nothing keeps the entity busy


def test_certificates_that_are_none(tmp_path: Path) -> None:
    from mri_recon.pacs import Tls

    (tmp_path / "a.pem").write_text("no certificate")
    target = DicomTarget("PACS", "127.0.0.1", 104, use_tls=True, tls=Tls(ca_file=tmp_path / "a.pem"))
    with pytest.raises(ConfigError, match="expected certificates and a key without password, in PEM"):
        echo(target)
