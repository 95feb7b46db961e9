"""The attack corpus, against the processes that read uploads and against the service."""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mri_recon.io import Scan
from mri_recon_service.problems import Problem
from mri_recon_service.settings import Settings
from mri_recon_service.uploads.parser_pool import ParserPool
from tests.service.attacks.corpus import ATTACKS, MASK_ATTACKS, MAX_DECODED, Attack, Canary, noise, sound_files

FLIPS, CUTS = 30, 20  # of each of seven files


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ParserPool]:
    folder = tmp_path_factory.mktemp("uploads")
    one = ParserPool(
        Settings(
            upload_dir=folder,
            max_decoded_bytes=MAX_DECODED,
            parser_processes=1,
            parser_timeout_seconds=20,
            parser_memory_bytes=1 << 28,
        )
    )
    one.start()
    yield one
    one.close()
    assert not any(folder.iterdir())


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return Canary(tmp_path / "machine")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    np.save(tmp_path / "sound.npy", noise(24, 20))
    return tmp_path / "sound.npy"


def attempt(pool: ParserPool, path: Path) -> Scan | Problem:
    try:
        return pool.load(path).scan
    except Problem as problem:
        return problem


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
def test_hostile_scans(
    pool: ParserPool, canary: Canary, sound: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, attack: Attack
) -> None:
    caplog.set_level(logging.DEBUG)
    path = attack.write(tmp_path, canary)
    before, template = resident(), pool.pids
    if attack.says:
        with pytest.raises(Problem) as caught:
            pool.load(path, variable=attack.variable)
        assert caught.value.code == "invalid-file"
        assert attack.says in caught.value.detail
        assert not canary.leaks_into(caught.value.detail.encode())
    else:
        scan = pool.load(path, variable=attack.variable).scan
        assert scan.kspace.shape[-2:] == (24, 20)
        assert not canary.leaks_into(scan.kspace.numpy().tobytes())
    assert resident() - before < 2 * MAX_DECODED
    assert not canary.leaks_into(caplog.text.encode())
    assert not list(tmp_path.rglob("executed*"))
    assert pool.load(sound).scan.kspace.shape == (1, 1, 24, 20)
    assert pool.pids == template  # nothing was so bad that the process had to be ended


@pytest.mark.parametrize("attack", MASK_ATTACKS, ids=[attack.name for attack in MASK_ATTACKS])
def test_hostile_masks(pool: ParserPool, canary: Canary, sound: Path, tmp_path: Path, attack: Attack) -> None:
    with pytest.raises(Problem) as caught:
        pool.load(sound, mask_file=attack.write(tmp_path, canary, stem="mask"))
    assert caught.value.kind.status == 422
    assert attack.says in caught.value.detail
    assert not canary.leaks_into(caught.value.detail.encode())
    assert not list(tmp_path.rglob("executed*"))


@pytest.mark.slow  # some hundred files, each with a fresh worker after it
@pytest.mark.parametrize("number", range(7))
def test_cut_and_flipped(pool: ParserPool, tmp_path: Path, number: int) -> None:
    (tmp_path / "sound").mkdir()
    original = sound_files(tmp_path / "sound")[number]
    content, rng = original.read_bytes(), np.random.default_rng(number)
    offsets = [0, 1, *rng.integers(2, len(content), CUTS - 3), len(content) - 1]
    damaged = [content[:offset] for offset in offsets]
    for _ in range(FLIPS):
        flipped = bytearray(content)
        # Mostly in the first bytes, where the structure is.
        within = len(content) if rng.random() < 0.4 else min(len(content), 4096)
        for place in rng.integers(0, within, rng.integers(1, 4)):
            flipped[place] ^= 1 << rng.integers(8)
        damaged.append(bytes(flipped))
    refused, before = 0, resident()
    path = tmp_path / f"upload{original.suffix}"
    for one in damaged:
        path.write_bytes(one)
        outcome = attempt(pool, path)
        if isinstance(outcome, Problem):
            assert (outcome.code, outcome.kind.status) == ("invalid-file", 422), outcome.detail
            refused += 1
        else:
            assert outcome.kspace.numel() * 8 <= MAX_DECODED
            assert np.isfinite(outcome.kspace.numpy()).all()
    assert refused >= CUTS - 1
    assert resident() - before < 4 * MAX_DECODED
    path.write_bytes(content)
    assert pool.load(path).scan.kspace.shape == (1, 2, 24, 20)


# ---------------------------------------------------------------------------------------------- over HTTP


@pytest.fixture(scope="module")
def http(serve: Callable[[Settings], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = Settings(
        upload_dir=tmp_path_factory.mktemp("uploads"),
        max_upload_bytes=1 << 24,
        max_decoded_bytes=MAX_DECODED,
        parser_memory_bytes=1 << 28,
    )
    with serve(settings) as client:
        yield client


@pytest.fixture
def send(
    http: httpx.Client, canary: Canary, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> Iterator[Callable[..., httpx.Response]]:
    """Post files and fields; every answer is a sound one or a problem, and nothing of the machine is in it."""
    caplog.set_level(logging.DEBUG)

    def post(file: Path, mask: Path | None = None, **fields: str) -> httpx.Response:
        files = {"file": (file.name, file.read_bytes())}
        if mask is not None:
            files["mask"] = (mask.name, mask.read_bytes())
        else:
            fields = {"acceleration": "2"} | fields
        answer = http.post("/v1/reconstructions", files=files, data={"method": "zero-filled"} | fields)
        checked(answer, canary)
        return answer

    np.save(tmp_path / "sound.npy", noise(24, 20))
    assert post(tmp_path / "sound.npy").status_code == 200  # what a first request loads is no growth
    before = resident()
    yield post
    assert resident() - before < 8 * MAX_DECODED
    assert not canary.leaks_into(caplog.text.encode())
    assert not list(tmp_path.rglob("executed*"))
    assert post(tmp_path / "sound.npy").status_code == 200


def checked(answer: httpx.Response, canary: Canary) -> None:
    """An answer is sound, or a problem document of the client's, and holds nothing of the machine."""
    head = "".join(f"{name}: {value}\n" for name, value in answer.headers.items()).encode()
    assert not canary.leaks_into(head + answer.content)
    if answer.status_code != 200:
        assert 400 <= answer.status_code < 500, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
        assert str(canary.folder.parent) not in answer.text


@pytest.mark.slow  # the whole corpus again, bombs and all
def test_the_corpus_over_http(send: Callable[..., httpx.Response], canary: Canary, tmp_path: Path) -> None:
    for attack in ATTACKS:
        fields = {} if attack.variable is None else {"variable": attack.variable}
        answer = send(attack.write(tmp_path, canary), **fields)
        assert (answer.status_code == 200) == (not attack.says), (attack.name, answer.text)
        if attack.says:
            assert attack.says in answer.json()["detail"], attack.name


def test_hostile_masks_over_http(
    send: Callable[..., httpx.Response], canary: Canary, sound: Path, tmp_path: Path
) -> None:
    for attack in MASK_ATTACKS:
        answer = send(sound, attack.write(tmp_path, canary, stem="mask"))
        assert answer.status_code == 422
        assert attack.says in answer.json()["detail"], attack.name


def test_damaged_files_over_http(send: Callable[..., httpx.Response], tmp_path: Path) -> None:
    (tmp_path / "sound").mkdir()
    rng = np.random.default_rng(0)
    for original in sound_files(tmp_path / "sound"):
        content = original.read_bytes()
        path = tmp_path / f"upload{original.suffix}"
        for _ in range(3):
            path.write_bytes(content[: rng.integers(1, len(content))])
            assert send(path).status_code == 422
            flipped = bytearray(content)
            flipped[rng.integers(0, min(len(content), 2048))] ^= 1 << rng.integers(8)
            path.write_bytes(flipped)
            send(path)


@pytest.mark.parametrize(
    "name",
    [
        b"../../executed.npy",
        b"..\\..\\executed.npy",
        b"/executed.npy",
        b"C:\\executed.npy",
        b"executed\x00.h5.npy",
        b"executed.npy/",
        b"%2e%2e%2fexecuted.npy",
        "\u202eyp.n.npy".encode(),
        b"\xff\xfe.npy",
        b"x" * 4000 + b".npy",
        b".npy",
        b"..",
        b"executed.py",
        b"CON.npy",
    ],
)
def test_names_of_files_are_not_used(
    http: httpx.Client, canary: Canary, sound: Path, tmp_path: Path, name: bytes
) -> None:
    part = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + name.replace(b"\\", b"\\\\") + b'"\r\n\r\n'
    )
    fields = b"".join(
        b'\r\n--b\r\nContent-Disposition: form-data; name="' + field + b'"\r\n\r\n' + value
        for field, value in ((b"method", b"zero-filled"), (b"acceleration", b"2"))
    )
    answer = http.post(
        "/v1/reconstructions",
        content=part + sound.read_bytes() + fields + b"\r\n--b--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    checked(answer, canary)
    assert "executed" not in answer.text
    assert "executed" not in "".join(answer.headers.values())
    assert not list(tmp_path.parent.rglob("executed*"))
    assert not Path("/executed.npy").exists()
