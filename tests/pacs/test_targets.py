"""Addresses, titles and credentials as people type them, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mri_recon.errors import ConfigError
from mri_recon.pacs import DicomTarget, Retries, StowTarget, Tls, parse_dicom, parse_stow
from mri_recon.pacs.targets import read_credentials


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ORTHANC@127.0.0.1:4242", ("ORTHANC", "127.0.0.1", 4242)),
        ("MY PACS@pacs.example.org:104", ("MY PACS", "pacs.example.org", 104)),
        ("A@B@host:11112", ("A@B", "host", 11112)),
        ("PACS@[::1]:104", ("PACS", "::1", 104)),
    ],
)
def test_application_entities(text: str, expected: tuple[str, str, int]) -> None:
    assert parse_dicom(text) == expected
    assert str(DicomTarget(*expected)) == text


@pytest.mark.parametrize(
    "text",
    ["", "ORTHANC", "ORTHANC@host", "host:104", "A@host:", "A@:104", "A@host:x", "A@::1:104", "A@ho st:1", "A@h:1²"],
)
def test_what_is_no_application_entity(text: str) -> None:
    with pytest.raises(ConfigError, match="expected AET@HOST:PORT, e.g. ORTHANC@127.0.0.1:4242, got"):
        parse_dicom(text)


def test_impossible_ports_and_titles() -> None:
    for port in ("0", "65536", "99999"):
        with pytest.raises(ConfigError, match="expected a port from 1 to 65535, got"):
            parse_dicom(f"A@host:{port}")
    for title in ("", "  ", "SEVENTEEN LETTERS", "A\\B", "Ä", "A\n"):
        with pytest.raises(ConfigError, match="expected a called AE title of 1 to 16 ASCII characters"):
            DicomTarget(title, "host", 104)
        with pytest.raises(ConfigError, match="expected a calling AE title of 1 to 16 ASCII characters"):
            DicomTarget("A", "host", 104, calling_aet=title)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://pacs.example.org/dicom-web/", "https://pacs.example.org/dicom-web"),
        ("http://127.0.0.1:8042/dicom-web", "http://127.0.0.1:8042/dicom-web"),
        ("https://[::1]:8443", "https://[::1]:8443"),
    ],
)
def test_addresses(text: str, expected: str) -> None:
    assert parse_stow(text) == expected
    assert str(StowTarget(expected)) == expected


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "it begins with https"),
        ("pacs.example.org", "it begins with https"),
        ("ftp://pacs.example.org", "it begins with https"),
        ("https://", "name a host"),
        ("https://ho st/", "name a host"),
        ("https://host/?a=1", "no spaces, no \\? and no #"),
        ("https://host/#a", "no spaces, no \\? and no #"),
        ("https://host/a b", "no spaces, no \\? and no #"),
        ("https://host:99999/", "its port is a number"),
        ("https://host:0/", "name a host"),
        ("https://host/web/studies", "leave /studies out"),
        ("https://us:geheim@host/", "leave the user and the password out of it"),
        ("https://us@host/", "leave the user and the password out of it"),
        ("ftp://us:geheim@host/", "it begins with https"),
    ],
)
def test_what_is_no_address(text: str, advice: str) -> None:
    with pytest.raises(ConfigError, match=advice) as error:
        parse_stow(text)
    assert str(error.value).startswith("expected the base address of a DICOMweb service")
    assert "geheim" not in str(error.value)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_an_error(text: str) -> None:
    for parse in (parse_stow, parse_dicom):
        try:
            found = parse(text)
        except ConfigError:
            continue
        if isinstance(found, tuple):
            assert 1 <= found[2] <= 65535
        else:
            assert parse_stow(found) == found


def test_credentials_of_the_environment() -> None:
    prefix = "MRI_RECON_PACS_"
    assert not read_credentials({})
    assert not read_credentials({f"{prefix}USER": "", f"{prefix}PASSWORD": ""})
    found = read_credentials({f"{prefix}USER": "us", f"{prefix}PASSWORD": "geheim"})
    assert (found.user, found.password, bool(found)) == ("us", "geheim", True)
    assert "geheim" not in f"{found} {found!r}"
    assert read_credentials({f"{prefix}TOKEN": "abc"}).token == "abc"
    for environment, told in (
        ({"USER": "us"}, "expected MRI_RECON_PACS_PASSWORD with MRI_RECON_PACS_USER"),
        ({"PASSWORD": "geheim"}, "expected MRI_RECON_PACS_USER with MRI_RECON_PACS_PASSWORD"),
        ({"USER": "us", "PASSWORD": "geheim", "TOKEN": "geheim"}, "got both: unset one of them"),
        ({"USER": "u:s", "PASSWORD": "geheim"}, "expected no colon in MRI_RECON_PACS_USER"),
        ({"USER": "us", "PASSWORD": "geheim\n"}, "no control characters"),
        ({"TOKEN": "geheim geheim"}, "expected a token of ASCII characters without spaces"),
        ({"TOKEN": "geheim\r\nX: y"}, "expected a token of ASCII characters without spaces"),
    ):
        with pytest.raises(ConfigError, match=told) as error:
            read_credentials({prefix + name: value for name, value in environment.items()})
        assert "geheim" not in str(error.value)


def test_certificate_files(tmp_path: Path) -> None:
    (tmp_path / "a.pem").touch()
    Tls(tmp_path / "a.pem", tmp_path / "a.pem", tmp_path / "a.pem")
    with pytest.raises(ConfigError, match="expected a CA file in PEM, found no file at .*: check the path"):
        Tls(tmp_path / "b.pem")
    with pytest.raises(ConfigError, match="expected a certificate in PEM, found no file"):
        Tls(certificate=tmp_path)
    with pytest.raises(ConfigError, match="expected a certificate with the key"):
        Tls(key=tmp_path / "a.pem")
    with pytest.raises(ConfigError, match="expected --tls where certificates are given"):
        DicomTarget("A", "host", 104, tls=Tls(tmp_path / "a.pem"))


def test_waits_double_up_to_the_longest_and_follow_the_other_side() -> None:
    waits: list[float] = []
    plan = Retries(9, first=2, longest=10, sleep=waits.append)
    for number in range(1, 5):
        plan.wait(number, None)
    plan.wait(1, 60.0)
    assert waits == [2, 4, 8, 10, 60]
    with pytest.raises(ConfigError, match="expected 0 or more repetitions"):
        Retries(-1)
