"""Clients that err, vanish, wait or attack: each gets one clear text, and the server goes on."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mri_recon.io.formats.mrd_messages import ACQUISITION, ACQUISITION_HEADER, IMAGE, IMAGE_HEADER, WAVEFORM
from mri_recon_service.settings import Settings
from mri_recon_service.stream.jobs import EngineJobs
from tests.io.mrd_files import Readout, messages_of, stream_header, write_session, write_stream, xml
from tests.service.stream.conftest import Running
from tests.service.stream.scans import KspaceOf, header_of, scan_lines, undersampled
from tests.support.mrd_client import Answer, Client, converse, hold_session
from tests.support.patience import PATIENCE
from tests.support.service import until

pytest.importorskip("ismrmrd", reason="the library ismrmrd is not installed")


def _number(value: int) -> bytes:
    return value.to_bytes(2, "little")


def _still_works(running: Running, kspace: KspaceOf) -> None:
    full = kspace(1, 1, 12, 10)
    answer = hold_session(running.port, "zero-filled", header_of(full), messages_of(scan_lines(full)))
    assert answer.closed
    assert len(answer.images) == 1


def _refusal(running: Running, talk: Callable[[Client], None]) -> str:
    """The one error with which the server ends a session."""
    with Client(running.port) as client:
        talk(client)
        answer = client.wait()
    assert answer.closed, "the error is followed by CLOSE"
    (error,) = [text for text in answer.texts if text.startswith("error: ")]
    return error


@pytest.mark.usefixtures("left_nothing")
@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        (
            "foo",
            "expected one of the configurations zero-filled, cg-sense, cs-wavelet, unet, unrolled, auto, got 'foo'",
        ),
        ("../../etc/passwd", "expected one of the configurations"),
        ("<configuration><gadget>x</gadget></configuration>", "got '<configuration><gadget>x</gadget></configurat"),
        ("import os", "expected a method and options as NAME=VALUE, got 'os': write e.g. 'cs-wavelet max_iters=50'"),
        ("", "expected one of the configurations"),
        ("cs-wavelet max_iters=many", "option 'max_iters'"),
        ("cs-wavelet max_iters=5 max_iters=6", "expected the option 'max_iters' once, got it twice: leave one out"),
        (
            "cs-wavelet nope=1",
            "mask_kind, check of cs-wavelet, got 'nope': name one",
        ),
        ("unrolled model=/tmp/weights.safetensors", "expected one of the models"),
        ("zero-filled mask=file", "expected one of the options combination"),
        ("zero-filled acceleration=x", "acceleration: "),
        ("unet adapt=5", "expected at most 0, the limit of this service, got 5"),
        ('{"parameters": {"config": ["cs-wavelet"]}}', "expected a JSON object with an object 'parameters'"),
        ('{"parameters": 3}', "expected a JSON object with an object 'parameters'"),
        ("{" * 5000, "expected a JSON object with an object 'parameters'"),
    ],
)
def test_a_configuration_that_is_refused(server: Running, configuration: str, message: str) -> None:
    assert message in _refusal(server, lambda client: (client.configure(text=configuration), client.send([]))[0])


def _head(kind: np.dtype[Any], **values: int) -> bytes:
    record = np.zeros(1, kind)
    for name, value in values.items():
        record[name] = value
    return record.tobytes()


_HUGE = _head(ACQUISITION_HEADER, number_of_samples=65535, active_channels=65535)
_BIG_IMAGE = _head(IMAGE_HEADER, data_type=7, channels=65535) + (2**64 - 1).to_bytes(8, "little")
_GOOD = xml((12, 10, 1))


@pytest.mark.usefixtures("left_nothing")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            _number(7),
            "expected a message of MRD (1, 2, 3, 4, 5, 1008, 1022, 1026), got number 7: the stream is damaged",
        ),
        (b"GET / HTTP/1.1\r\n\r\n", "got number 17735: the stream is damaged, or of another protocol"),
        (_number(3) + b"\xff" * 4, "expected a header of at most 4194304 bytes, got one that announces 4294967295"),
        (_number(2) + b"\xff" * 4, "expected a text of a configuration of at most 65536 bytes"),
        (_number(5) + b"\xff" * 4, "expected a text of at most 1048576 bytes"),
        (_number(ACQUISITION) + _HUGE, "expected a readout of at most 1048576 bytes, got one that announces 343586"),
        (_number(IMAGE) + _BIG_IMAGE, "expected a image of at most 1048576 bytes"),
        (_number(IMAGE) + _head(IMAGE_HEADER, data_type=9) + bytes(8), "expected an image of data type 1 to 8, got 9"),
        (_number(WAVEFORM) + b"\xff" * 40, "expected a waveform of at most 1048576 bytes"),
        (_number(3) + (3).to_bytes(4, "little") + b"<a>", "expected an ISMRMRD header in XML in the stream"),
        (_number(3) + (2).to_bytes(4, "little") + b"\xff\xfe", "expected a header in UTF-8, got other bytes"),
        (_number(1) + b"\xff" * 1024, "expected a name of a configuration in UTF-8, got other bytes"),
        (_number(3) + (19).to_bytes(4, "little") + b"<!DOCTYPE a><a></a>", "without DOCTYPE and ENTITY"),
    ],
)
def test_messages_that_are_refused_before_memory_is_taken(server: Running, content: bytes, message: str) -> None:
    assert message in _refusal(server, lambda client: client.raw(content))


@pytest.mark.usefixtures("left_nothing")
def test_the_order_of_messages(server: Running, kspace: KspaceOf) -> None:
    full = kspace(1, 1, 12, 10)
    lines, header = messages_of(scan_lines(full)), header_of(full)

    def readout_first(client: Client) -> None:
        client.configure(text="zero-filled")
        client.send(lines[:1])

    def two_headers(client: Client) -> None:
        client.header(header)
        client.header(header)
        client.send([])

    def late_configuration(client: Client) -> None:
        client.header(header)
        client.configure(text="zero-filled")
        client.send([])

    assert "expected the header before the first readout" in _refusal(server, readout_first)
    assert "expected one header in a session, got another" in _refusal(server, two_headers)
    assert "expected readouts after the header, got a configuration" in _refusal(server, late_configuration)


@pytest.mark.usefixtures("left_nothing")
def test_a_name_and_then_options(server: Running, kspace: KspaceOf) -> None:
    full = kspace(1, 1, 12, 10)
    with Client(server.port) as client:
        client.configure(name="cg-sense", text="max_iters=3")
        client.header(header_of(full))
        client.send(messages_of(scan_lines(full)))
        answer = client.finish()
    assert answer.texts[0].startswith("mri-recon: cg-sense max_iters=3. ")
    assert len(answer.images) == 1


@pytest.mark.usefixtures("left_nothing")
def test_nothing_is_sent(server: Running) -> None:
    with Client(server.port) as client:
        answer = client.finish()
    assert (answer.closed, answer.texts) == (True, ["0 images of 0 readouts are sent"])


@pytest.mark.usefixtures("left_nothing")
def test_a_slice_that_cannot_be_reconstructed_does_not_keep_the_others(server: Running, kspace: KspaceOf) -> None:
    full = kspace(3, 1, 12, 10)
    lines = scan_lines(full)
    lines = [
        Readout(one.data * (np.nan if one.idx["slice"] == 1 else 1), one.flags, one.idx, one.fields) for one in lines
    ]
    answer = hold_session(server.port, "zero-filled", header_of(full), messages_of(lines))
    assert [one.slice for one in answer.images] == [0, 2]
    assert any(text.startswith("error: slice 1: ") for text in answer.texts)
    assert answer.texts[-1] == f"2 images of {len(lines)} readouts are sent; 1 failed"
    spiral = header_of(full).replace("cartesian", "spiral")
    answer = hold_session(server.port, "zero-filled", spiral, messages_of(scan_lines(full[:1])))
    assert "expected a Cartesian trajectory in scan.mrd, got 'spiral'" in answer.texts[1]


@pytest.mark.usefixtures("left_nothing")
def test_an_image_that_is_longer_than_the_format_counts(server: Running) -> None:
    long = np.ones((1, 1, 1400, 4), np.complex64)
    header = header_of(long).replace("<x>1400</x>", "<x>70000</x>")
    answer = hold_session(server.port, "zero-filled", header, messages_of(scan_lines(long)))
    assert answer.images == []
    assert "error: slice 0: cannot write MRD images: they count to 65535 along each axis" in answer.texts[1]
    assert answer.texts[-1] == "0 images of 4 readouts are sent; 1 failed"


@pytest.mark.usefixtures("left_nothing")
def test_limits_of_a_session(server: Running, kspace: KspaceOf, streaming: Callable[..., Any]) -> None:
    full = kspace(1, 1, 12, 10)
    one = scan_lines(full)[0]
    many = [Readout(one.data, 0, {"slice": number}, one.fields) for number in range(41)]

    def images(client: Client) -> None:
        client.header(header_of(full))
        client.send(messages_of(many))

    assert "expected at most 40 slices, contrasts, repetitions and so on, got more" in _refusal(server, images)
    with streaming(max_session_bytes=5000) as running:

        def too_much(client: Client) -> None:
            client.header(header_of(full))
            client.send(messages_of([one] * 30))

        assert "expected at most 5000 bytes in a session, got more" in _refusal(running, too_much)
        until(running.idle)


def test_more_clients_than_places(streaming: Callable[..., Any], kspace: KspaceOf) -> None:
    with streaming(max_clients=2) as running:
        with Client(running.port), Client(running.port):
            until(lambda: running.server.num_sessions == 2)
            with Client(running.port) as third:
                answer = third.wait()
            assert answer.texts == ["error: 2 clients are connected, as many as this server takes: try again later"]
            assert answer.closed
        until(lambda: running.server.num_sessions == 0)
        _still_works(running, kspace)


def test_a_client_of_another_address_is_not_answered(streaming: Callable[..., Any]) -> None:
    with streaming(clients="10.0.0.0/8,192.0.2.7") as running, Client(running.port) as client:
        answer = client.wait()
        assert answer == Answer()
    with streaming(clients="127.0.0.1") as running, Client(running.port) as client:
        assert client.finish().closed


def test_a_key_where_keys_are_required(streaming: Callable[..., Any], kspace: KspaceOf) -> None:
    full = kspace(1, 1, 12, 10)
    lines, header = messages_of(scan_lines(full)), header_of(full)
    with streaming(owner=lambda key: "a" if key == "right" else None) as running:
        for configuration in (None, "zero-filled", "zero-filled key=wrong"):
            answer = hold_session(running.port, configuration, header, [])
            assert "expected an API key of this service, got none or an unknown one" in answer.texts[0]
        answer = hold_session(running.port, "zero-filled key=right", header, lines)
        assert len(answer.images) == 1
        assert "right" not in "".join(answer.texts)
        with Client(running.port) as client:
            client.configure(name="zero-filled", text='{"parameters": {"key": "right"}}')
            client.header(header)
            client.send(lines)
            assert len(client.finish().images) == 1


def test_silent_clients_are_ended(streaming: Callable[..., Any], kspace: KspaceOf) -> None:
    """A client that says nothing; one that stops between two readouts, or within one; and one that takes nothing."""
    full = kspace(1, 1, 12, 10)
    lines, header = messages_of(scan_lines(full)), header_of(full)
    big = kspace(6, 1, 700, 700)
    many = messages_of(scan_lines(big))
    with streaming(idle_seconds=1) as running:
        with Client(running.port) as silent:
            assert silent.wait() == Answer()
        for rest in (b"", lines[1].to_bytes()[:100]):
            with Client(running.port) as client:
                client.configure(text="zero-filled")
                client.header(header)
                client.send(lines[:1])
                client.raw(rest)
                answer = client.wait()
            assert answer.closed
            assert "error: expected the next message within 1 s, got nothing" in answer.texts[-1]
        with Client(running.port, read=False) as deaf:
            deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.configure(text="zero-filled")
            deaf.header(header_of(big))
            deaf.send(many)
            deaf.raw(_number(4))
            until(lambda: running.server.num_sessions == 0)
        until(running.idle)
        _still_works(running, kspace)


def test_a_session_that_takes_too_long(streaming: Callable[..., Any], kspace: KspaceOf) -> None:
    with streaming(session_seconds=1) as running, Client(running.port) as client:
        client.header(header_of(kspace(1, 1, 12, 10)))
        client.send([])
        deadline = time.monotonic() + PATIENCE
        while client.answer.closed is False and time.monotonic() < deadline:  # texts keep the session from being idle
            try:
                client.send(["still here"])
            except OSError:
                break
            time.sleep(0.05)
        assert any("expected a session of at most 1 s, got a longer one" in text for text in client.wait().texts)


def test_a_client_that_leaves_cancels_its_jobs(streaming: Callable[..., Any], kspace: KspaceOf) -> None:
    full = kspace(8, 4, 96, 96)
    lines = messages_of(scan_lines(full, undersampled(96)))
    with streaming(max_jobs=3) as running:
        with Client(running.port) as client:
            client.configure(text="cs-wavelet max_iters=900 gap_tol=1e-9")
            client.header(header_of(full))
            client.send(lines[: len(lines) // 2])
            until(lambda: running.engine.runner.running > 0)
        until(running.idle)
        _still_works(running, kspace)


def test_a_client_that_leaves_when_it_has_its_image_leaves_no_job(
    streaming: Callable[..., Any], kspace: KspaceOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session ends between an image and the deletion of its job."""
    cancel = EngineJobs.cancel

    async def late(self: EngineJobs, job: str) -> None:
        await asyncio.sleep(0.3)
        await cancel(self, job)

    monkeypatch.setattr(EngineJobs, "cancel", late)
    full = kspace(2, 1, 12, 10)
    with streaming() as running:
        with Client(running.port) as client:
            client.configure(text="zero-filled")
            client.header(header_of(full))
            lines = messages_of(scan_lines(full))
            client.send(lines[: len(lines) // 2])
            until(lambda: len(client.answer.images) == 1)
        until(running.idle)


def test_a_reset_connection(server: Running, kspace: KspaceOf, left_nothing: None) -> None:
    full = kspace(2, 1, 12, 10)
    with Client(server.port, read=False) as client:
        client.header(header_of(full))
        client.send(messages_of(scan_lines(full)))
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.file.close()
        client.socket.close()
    _still_works(server, kspace)


def test_back_pressure_holds_the_jobs_of_a_session(streaming: Callable[..., Any], kspace: KspaceOf) -> None:
    full = kspace(10, 2, 40, 40)
    found = []
    with streaming(max_jobs=2) as running:
        submit = running.server._jobs.submit

        async def counted(*given: Any, **named: Any) -> str:
            found.append(running.engine.store.queued() + running.engine.runner.running)
            return await submit(*given, **named)

        running.server._jobs.submit = counted  # type: ignore[method-assign]
        lines = messages_of(scan_lines(full, undersampled(40)))
        answer = hold_session(running.port, "cs-wavelet max_iters=15", header_of(full), lines)
    assert len(answer.images) == 10
    assert max(found) <= 2


def test_a_full_queue_makes_the_client_wait(streaming: Callable[..., Any], kspace: KspaceOf) -> None:
    full = kspace(6, 2, 40, 40)
    lines = messages_of(scan_lines(full, undersampled(40)))
    with streaming(settings=Settings(max_queued_jobs=1)) as running:
        answer = hold_session(running.port, "cs-wavelet max_iters=15", header_of(full), lines)
    assert len(answer.images) == 6
    assert answer.texts[-1].startswith("6 images")


def test_a_full_disk(streaming: Callable[..., Any], kspace: KspaceOf, monkeypatch: pytest.MonkeyPatch) -> None:
    full = kspace(1, 1, 12, 10)

    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with streaming() as running:
        monkeypatch.setattr("mri_recon_service.stream.spool.Spool._write", full_disk)
        answer = hold_session(running.port, "zero-filled", header_of(full), messages_of(scan_lines(full)))
        assert answer.texts[-1].startswith("error: the work cannot be stored")
        monkeypatch.undo()
        until(running.idle)
        _still_works(running, kspace)


def test_an_unexpected_error(streaming: Callable[..., Any], kspace: KspaceOf, monkeypatch: pytest.MonkeyPatch) -> None:
    full = kspace(1, 1, 12, 10)
    with streaming() as running:
        monkeypatch.setattr("mri_recon_service.stream.session.image_sets", lambda result: 1 / 0)
        answer = hold_session(running.port, "zero-filled", header_of(full), messages_of(scan_lines(full)))
        assert answer.closed
        assert answer.texts[-1].startswith(
            "error: an unexpected error occurred: the operator finds it in the log under"
        )
        monkeypatch.undo()
        until(running.idle)
        _still_works(running, kspace)


def test_stopping_ends_sessions_with_a_text(streaming: Callable[..., Any], kspace: KspaceOf) -> None:
    full = kspace(1, 1, 12, 10)
    with streaming(stop_seconds=0.2) as running, Client(running.port) as client:
        client.header(header_of(full))
        client.send([])
        until(lambda: len(client.answer.texts) == 1)
        running.stop()
        answer = client.wait()
        assert answer.closed
        assert answer.texts[-1] == "error: the server stops: send the scan again later"
        running.thread.join(PATIENCE)
        assert running.idle()


def test_stopping_lets_a_session_end(streaming: Callable[..., Any], kspace: KspaceOf) -> None:
    full = kspace(2, 1, 12, 10)
    with streaming(stop_seconds=PATIENCE) as running, Client(running.port) as client:
        client.configure(text="zero-filled")
        client.header(header_of(full))
        client.send([])
        until(lambda: len(client.answer.texts) == 1)
        running.stop()
        client.send(messages_of(scan_lines(full)))
        answer = client.finish()
        assert answer.closed
        assert len(answer.images) == 2


def _damaged(whole: bytes, count: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        copy = bytearray(whole)
        if number % 3 == 0:
            del copy[int(rng.integers(len(copy))) :]
        elif number % 3 == 1:
            for _ in range(int(rng.integers(1, 9))):
                copy[int(rng.integers(len(copy)))] ^= 1 << int(rng.integers(8))
        else:
            length = int(rng.integers(1, 64))
            source, target = rng.integers(len(copy) - length, size=2)
            copy[target : target + length] = whole[source : source + length]
        found.append(bytes(copy))
    return found


@pytest.mark.usefixtures("left_nothing")
@pytest.mark.parametrize("version", [1, 2])
def test_damaged_streams(
    server: Running, kspace: KspaceOf, tmp_path: Path, version: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Cut short, with flipped bits or moved blocks: nothing unexpected is logged, and the server goes on."""
    full = kspace(2, 2, 12, 10)
    lines = scan_lines(full)
    if version == 1:
        path = write_session(tmp_path / "a", lines, header_of(full), waveforms=1, images=1, texts=1)
        whole = b"\2\0\x0b\0\0\0zero-filled" + path.read_bytes()
    else:
        mrd = pytest.importorskip("mrd", reason="the extra 'scanners' is not installed")
        header = stream_header((12, 10, 1))
        header.user_parameters = mrd.UserParametersType(
            user_parameter_string=[mrd.UserParameterStringType(name="mri-recon", value="zero-filled")]
        )
        whole = write_stream(tmp_path / "a", lines, header, waveform=True).read_bytes()
    for content in _damaged(whole, 60):
        converse(server.port, content)
    assert not [one for one in caplog.records if one.levelname in ("ERROR", "CRITICAL")]
    _still_works(server, kspace)


@pytest.mark.usefixtures("left_nothing")
def test_version_two_lengths_take_no_memory(server: Running, kspace: KspaceOf, tmp_path: Path) -> None:
    """Sizes of 2^40 samples, an endless number, and items of other kinds: refused at once, without an answer."""
    pytest.importorskip("mrd", reason="the extra 'scanners' is not installed")
    full = kspace(1, 1, 12, 10)
    whole = write_stream(tmp_path / "a", scan_lines(full), stream_header((12, 10, 1))).read_bytes()
    samples = np.ascontiguousarray(full[0, :, :, 0]).tobytes()
    place = whole.index(samples)
    assert whole[place - 2 : place] == b"\x01\x0c"
    begun = whole[: whole.index(samples) - 2]
    for content in (
        begun + b"\x80\x80\x80\x80\x80\x20\x01" + bytes(1000),
        begun + b"\xff" * 100_000,
        begun + b"\x80\x80\x01\x80\x80\x01" + bytes(1 << 21),
    ):
        assert converse(server.port, content) == b""
    _still_works(server, kspace)


def test_a_method_that_the_operator_does_not_allow(streaming: Callable[..., Any], kspace: KspaceOf) -> None:
    full = kspace(1, 1, 12, 10)
    with streaming(methods="zero-filled", configuration="zero-filled") as running:
        answer = hold_session(running.port, "unrolled", header_of(full), [])
        assert "expected one of the configurations zero-filled, got 'unrolled'" in answer.texts[0]
        _still_works(running, kspace)
