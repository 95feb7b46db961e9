"""A real PACS stores, finds and returns what was sent, by C-STORE and by STOW-RS."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from mri_recon.cli import build_app
from mri_recon.io import convert
from tests.io.scanner_files import lines_of, twix_ve
from tests.support.certificates import Certificates, make_certificates, needs_openssl
from tests.support.oblique import oblique
from tests.support.orthanc import PASSWORD, USER, Orthanc, needs_orthanc, orthanc
from tests.support.tls_relay import tls_relay

pydicom = pytest.importorskip("pydicom", reason="the extra 'pacs' is not installed")
nibabel = pytest.importorskip("nibabel", reason="the extra 'pacs' is not installed")

pytestmark = needs_orthanc

PAGE = Path(__file__).parents[2] / "docs" / "using" / "pacs.md"
FORMS = ("a.dcm", "a.dcm.zip", "a/", "a.h5", "a.npz")


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> None:
    if "pacs" in request.fixturenames:
        request.getfixturevalue("pacs").empty()


def send(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), ["send", *map(str, arguments)])


def address(pacs: Orthanc, protocol: str) -> list[str]:
    return ["--stow", pacs.web] if protocol == "stow" else ["--dicom", pacs.entity]


def parsed(contents: list[bytes]) -> dict[str, Any]:
    read = [pydicom.dcmread(io.BytesIO(content)) for content in contents]
    return {data.SOPInstanceUID: data for data in read}


def sent_files(path: Path) -> dict[str, Any]:
    """What a DICOM result has, by SOP Instance UID."""
    if path.is_dir():
        return parsed([one.read_bytes() for one in sorted(path.rglob("*")) if one.is_file()])
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            return parsed([archive.read(name) for name in archive.namelist()])
    return parsed([path.read_bytes()])


def affine_of(series: list[Any]) -> np.ndarray:
    """Affine (RAS, mm) of single-frame images, from DICOM PS3.3 C.7.6.2.1.1; its axes are row, column, slice."""
    series = sorted(series, key=lambda data: int(data.InstanceNumber))
    along_row, along_column = np.reshape(np.asarray(series[0].ImageOrientationPatient, float), (2, 3))
    places = np.array([data.ImagePositionPatient for data in series], float)
    down, right = (float(one) for one in series[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3] = np.stack([along_column * down, along_row * right, places[1] - places[0], places[0]], axis=1)
    return np.diag([-1, -1, 1, 1]) @ affine


def same(ours: Any, theirs: Any) -> None:
    np.testing.assert_array_equal(ours.pixel_array, theirs.pixel_array)
    for keyword in (
        *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"),
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "PatientID"),
        *("ImageComments", "DerivationDescription", "SeriesDescription", "ContributingEquipmentSequence"),
        *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "InstanceNumber"),
    ):
        assert ours.get(keyword) == theirs.get(keyword), keyword
    assert "not for diagnosis" in theirs.ImageComments


@pytest.mark.parametrize("protocol", ["stow", "dicom"])
@pytest.mark.parametrize("name", FORMS[:3])
@pytest.mark.parametrize("placed", [True, False])
def test_orthanc_returns_what_was_sent(
    protocol: str, name: str, placed: bool, pacs: Orthanc, written: Callable[..., Path]
) -> None:
    path = written(name, geometry=oblique(3) if placed else None)
    result = send(path, *address(pacs, protocol))
    assert result.exit_code == 0, result.output
    ours, theirs = sent_files(path), parsed(pacs.files())
    assert ours.keys() == theirs.keys()
    for uid, data in ours.items():
        same(data, theirs[uid])
        assert f"stored {uid} " in result.stdout
        (found,) = pacs.find("Instance", SOPInstanceUID=uid)
        assert found["MainDicomTags"]["SOPInstanceUID"] == uid
    (study,) = pacs.find("Study", PatientID="p-1")
    assert study["MainDicomTags"]["StudyInstanceUID"] == next(iter(ours.values())).StudyInstanceUID


@pytest.mark.parametrize("protocol", ["stow", "dicom"])
@pytest.mark.parametrize("name", ["a.h5", "a.npz"])
@pytest.mark.parametrize("num_slices", [1, 3])
def test_results_of_arrays_become_the_series_of_dcm_zip(
    protocol: str, name: str, num_slices: int, pacs: Orthanc, written: Callable[..., Path]
) -> None:
    path = written(name, geometry=oblique(num_slices), num_slices=num_slices, trust=True)
    zipped = written("b.dcm.zip", geometry=oblique(num_slices), num_slices=num_slices, trust=True)
    assert send(path, *address(pacs, protocol)).exit_code == 0
    theirs = parsed(pacs.files())
    assert len(theirs) == 2 * num_slices

    def content(data: Any) -> tuple[Any, ...]:
        return (data.SeriesDescription, int(data.InstanceNumber), list(data.ImagePositionPatient), data.PixelData)

    assert sorted(map(content, theirs.values())) == sorted(map(content, sent_files(zipped).values()))
    assert len({data.SeriesInstanceUID for data in theirs.values()}) == 2
    assert len({data.StudyInstanceUID for data in theirs.values()}) == 1


@pytest.mark.parametrize("name", FORMS)
def test_sending_again_by_either_protocol_changes_nothing(
    name: str, pacs: Orthanc, written: Callable[..., Path]
) -> None:
    path = written(name)
    for protocol in ("stow", "dicom", "stow"):
        result = send(path, *address(pacs, protocol))
        assert result.exit_code == 0, result.output
        assert len(pacs.instances()) == (1 if name == "a.dcm" else 3)


@pytest.mark.parametrize("protocol", ["stow", "dicom"])
def test_nifti_has_the_affine_of_what_orthanc_returns(
    protocol: str, pacs: Orthanc, written: Callable[..., Path]
) -> None:
    path = written("a.h5")
    convert(path, path.with_name("a.nii.gz"))
    assert send(path, *address(pacs, protocol)).exit_code == 0
    nifti = nibabel.load(path.with_name("a.nii.gz"))
    series = list(parsed(pacs.files()).values())
    np.testing.assert_allclose(nifti.affine, affine_of(series), atol=1e-4)
    for data in series:
        ours = np.asarray(nifti.dataobj)[..., int(data.InstanceNumber) - 1]
        np.testing.assert_allclose(data.pixel_array * float(data.RescaleSlope), ours, atol=1e-4)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="Debian's dicom3tools is not installed")
@pytest.mark.parametrize("protocol", ["stow", "dicom"])
@pytest.mark.parametrize("name", ["a.dcm", "a.h5"])
@pytest.mark.parametrize("placed", [True, False])
def test_dciodvfy_finds_no_error_in_what_orthanc_returns(
    protocol: str, name: str, placed: bool, pacs: Orthanc, written: Callable[..., Path], tmp_path: Path
) -> None:
    path = written(name, geometry=oblique(3) if placed else None, trust=name == "a.h5")
    assert send(path, *address(pacs, protocol)).exit_code == 0
    for number, content in enumerate(pacs.files()):
        (tmp_path / f"{number}.dcm").write_bytes(content)
        done = subprocess.run(
            ["dciodvfy", str(tmp_path / f"{number}.dcm")], capture_output=True, text=True, check=False
        )
        told = done.stderr.splitlines()
        assert any(line.endswith("Image") for line in told), told  # the kind that it recognised
        assert not [line for line in told if line.startswith("Error")]


def test_the_walk_of_the_page(
    pacs: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Siemens file as `tests/io/scanner_files.py` packs it, and the four commands of docs/using/pacs.md."""
    _walk(pacs, _twix(tmp_path / "meas.dat"), monkeypatch, capsys)


@pytest.mark.parametrize("file", ["siemens-16ch-sphere/2024-02-06-160052.dat", "siemens-2ch-qa/gre.dat"])
def test_the_walk_with_a_file_of_a_scanner(
    file: str,
    pacs: Orthanc,
    real_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "meas.dat").symlink_to(real_data / "raw" / "phantoms" / file)
    _walk(pacs, tmp_path / "meas.dat", monkeypatch, capsys)


def _walk(pacs: Orthanc, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(file.parent)
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    commands = block.replace("127.0.0.1:4242", f"127.0.0.1:{pacs.dicom}").replace(":8042", f":{pacs.http}").splitlines()
    assert len(commands) == 4
    returned = []
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "mri-recon"
        result = CliRunner().invoke(build_app(), arguments)
        assert result.exit_code == 0, result.output
        returned.append(parsed(pacs.files()))
    assert not returned[1]
    for theirs in returned[2:]:
        ours = sent_files(Path("head.dcm.zip"))
        assert ours.keys() == theirs.keys()
        for uid, data in ours.items():
            same(data, theirs[uid])
            assert data.SOPClassUID.name == "MR Image Storage"
            assert "SIDES UNVERIFIED" in data.SeriesDescription
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(compile(example.replace("4242", str(pacs.dicom)), "pacs.md", "exec"), {})
    assert capsys.readouterr().out == "True\n"
    # By STOW-RS alone, the same.
    pacs.empty()
    assert CliRunner().invoke(build_app(), shlex.split(commands[3])[1:]).exit_code == 0
    assert parsed(pacs.files()).keys() == returned[2].keys()


def _twix(path: Path) -> Path:
    rng = np.random.default_rng(0)
    kspace = (rng.normal(size=(3, 2, 28, 20)) + 1j * rng.normal(size=(3, 2, 28, 20))).astype(np.complex64)
    kspace += 50 * np.exp(-((np.arange(28)[:, None] - 14) ** 2 + (np.arange(20) - 10) ** 2) / 8).astype(np.complex64)
    half = np.deg2rad(20) / 2
    blocks = [
        replace(one, place=(1.0, 2.0, 3.0 + 7 * one.counters["Sli"], np.cos(half), 0.0, 0.0, np.sin(half)))
        for one in lines_of(kspace)
    ]
    text = "\n".join(
        f"sSliceArray.asSlice[0].{key}\t = \t{value}"
        for key, value in {"dThickness": 5.0, "dPhaseFOV": 120.0, "dReadoutFOV": 168.0}.items()
    )
    return twix_ve(path, blocks, protocol=f'{text}\n<ParamString."tPatientPosition">  {{ "HFS"  }}')


def test_a_dry_run_and_an_echo_store_nothing(pacs: Orthanc, written: Callable[..., Path]) -> None:
    path = written("a.dcm.zip")
    for protocol in ("stow", "dicom"):
        result = send(path, *address(pacs, protocol), "--dry-run")
        assert (result.exit_code, result.stdout.count("would send 2.25.")) == (0, 3)
        assert "3 instances in 1 series would be sent to" in result.stdout
        result = send("--echo", *address(pacs, protocol))
        assert (result.exit_code, result.stdout.strip().endswith(" answers")) == (0, True)
    assert pacs.instances() == []


def test_json_lists_every_instance(pacs: Orthanc, written: Callable[..., Path]) -> None:
    path = written("a.dcm.zip")
    assert send(path, *address(pacs, "dicom"), "--json", path.with_name("out.json")).exit_code == 0
    document = json.loads(path.with_name("out.json").read_bytes())
    assert {row["sop_instance"] for row in document["instances"]} == sent_files(path).keys()
    assert {row["state"] for row in document["instances"]} == {"stored"}
    assert document["target"] == pacs.entity
    piped = send(path, *address(pacs, "stow"), "--json", "-")
    assert len(json.loads(piped.stdout)["instances"]) == 3
    assert "3 of 3 instances" in piped.stderr


def test_a_wrong_title_port_or_address(pacs: Orthanc, written: Callable[..., Path]) -> None:
    path = written("a.dcm.zip")
    for arguments, told in (
        (["--dicom", f"WRONG@localhost:{pacs.dicom}"], "rejected the association, it is not called 'WRONG'"),
        (
            ["--dicom", f"ORTHANC@localhost:{pacs.http}", "--timeout", "5"],
            "aborted the association, or does not speak DICOM",
        ),
        (["--stow", f"http://localhost:{pacs.http}"], "has no STOW-RS there (HTTP 405): give the base address"),
        (["--stow", f"http://localhost:{pacs.http}/nothing"], "has no STOW-RS there (HTTP 404): give the base address"),
        (["--stow", f"https://localhost:{pacs.http}/dicom-web"], "the other side does not speak TLS there"),
        (["--stow", f"http://localhost:{pacs.dicom}/dicom-web"], "the other side closed the connection"),
    ):
        result = send(path, *arguments, "--retries", "0")
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        assert told in result.stderr
    assert pacs.instances() == []


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@needs_openssl
def test_tls_and_credentials(
    certificates: Certificates, tmp_path: Path, written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written("a.dcm.zip")
    own = certificates
    settings = {
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(own.server),
        "DicomTlsPrivateKey": str(own.server_key),
        "DicomTlsTrustedCertificates": str(own.authority),
        "DicomTlsRemoteCertificateRequired": True,
    }
    with (
        orthanc(tmp_path / "orthanc", **settings) as pacs,
        tls_relay(pacs.http, own.server, own.server_key) as port,
        tls_relay(pacs.http, own.server, own.server_key, authority=own.authority) as strict_port,
    ):
        stow = ["--stow", f"https://localhost:{port}/dicom-web", "--retries", "0"]
        entity = ["--dicom", pacs.entity, "--tls", "--timeout", "10", "--retries", "0"]
        trust = ["--ca-file", own.authority]
        identity = ["--certificate", own.client, "--key", own.client_key]

        def fails(*arguments: object) -> str:
            result = send(path, *arguments)
            assert (result.exit_code, result.stdout) == (2, ""), result.output
            assert PASSWORD not in result.output
            return result.stderr

        assert "its certificate is not trusted" in fails(*stow)
        assert "wants credentials (HTTP 401): set MRI_RECON_PACS_USER" in fails(*stow, *trust)
        monkeypatch.setenv("MRI_RECON_PACS_USER", USER)
        monkeypatch.setenv("MRI_RECON_PACS_PASSWORD", "wrong")
        assert "refuses these credentials (HTTP 401)" in fails(*stow, *trust)
        assert "refuses these credentials (HTTP 401)" in send("--echo", *stow, *trust).stderr
        monkeypatch.setenv("MRI_RECON_PACS_PASSWORD", PASSWORD)
        by_address = ["--stow", f"https://127.0.0.1:{port}/dicom-web"]
        assert "call it by the name in its certificate" in fails(*by_address, *trust)
        assert send(path, *stow, *trust).exit_code == 0
        strict = ["--stow", f"https://localhost:{strict_port}/dicom-web", "--retries", "0"]
        assert "https://localhost" in fails(*strict, *trust)  # without a certificate of this side
        assert send(path, *strict, *trust, *identity).exit_code == 0
        # An authority of the environment does not replace the named one.
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(own.other_authority))
        assert send(path, *stow, *trust).exit_code == 0
        assert "its certificate is not trusted" in fails(*stow)

        assert "its certificate is not trusted" in fails(*entity)
        assert "ORTHANC@localhost" in fails(*entity, *trust)  # without a certificate of this side
        assert "aborted" in fails("--dicom", pacs.entity, "--timeout", "10", "--retries", "0")
        pacs.empty()
        result = send(path, *entity, *trust, *identity)
        assert result.exit_code == 0, result.output
        assert parsed(pacs.files()).keys() == sent_files(path).keys()
        assert send("--echo", *entity, *trust, *identity).exit_code == 0


def test_a_pacs_that_does_not_know_this_side(tmp_path: Path, written: Callable[..., Path]) -> None:
    path = written("a.dcm.zip")
    known = {"us": {"AET": "KNOWN", "Host": "127.0.0.1", "Port": 104}}
    strict = {"DicomAlwaysAllowStore": False, "DicomAlwaysAllowEcho": False, "DicomModalities": known}
    with orthanc(tmp_path / "orthanc", DicomCheckModalityHost=False, **strict) as pacs:
        result = send(path, "--dicom", pacs.entity, "--retries", "0")
        assert result.exit_code != 0
        assert pacs.instances() == []
        told = send(path, "--dicom", pacs.entity, "--aet", "KNOWN")
        assert told.exit_code == 0, told.output


def test_a_pacs_killed_between_two_instances(tmp_path: Path, written: Callable[..., Path]) -> None:
    """What was not stored is told, the status is 1, and sending again completes it."""
    from mri_recon.pacs import DicomTarget, Outcome, Retries, collect
    from mri_recon.pacs import send as run

    path = written("a.dcm.zip")
    found = collect([path])
    with orthanc(tmp_path / "orthanc") as pacs:
        target = DicomTarget("ORTHANC", "localhost", pacs.dicom, timeout=10)
        outcomes: list[Outcome] = []

        def after(outcome: Outcome) -> None:
            outcomes.append(outcome)
            if len(outcomes) == 1:
                pacs.kill()

        assert run(target, found.instances, retries=Retries(1, first=0), on_outcome=after) == outcomes
        assert [one.state for one in outcomes] == ["stored", "unsent", "unsent"]
        assert "ORTHANC@localhost" in outcomes[1].reason
    with orthanc(tmp_path / "orthanc") as again:
        assert len(again.instances()) == 1
        assert send(path, "--dicom", again.entity).exit_code == 0
        assert parsed(again.files()).keys() == sent_files(path).keys()
