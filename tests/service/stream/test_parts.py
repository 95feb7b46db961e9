"""Parts of the streaming server by themselves: the wire, the sorting of readouts, the configuration, the example."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mri_recon.errors import FormatError
from mri_recon.io.formats.ismrmrd import Header
from mri_recon_service.stream.configuration import Choice, allowed_methods, read_choice
from mri_recon_service.stream.connection import Sink, Source
from mri_recon_service.stream.errors import Disconnected, SessionError
from mri_recon_service.stream.images import Images
from mri_recon_service.stream.messages import End, Message, Readout, ScanHeader
from mri_recon_service.stream.settings import StreamSettings
from mri_recon_service.stream.version1 import VersionOne
from tests.io.mrd_files import messages_of, mrd, readouts_of, xml
from tests.service.stream.conftest import Running
from tests.service.stream.scans import LAST_IN_MEASUREMENT, LAST_IN_SLICE, KspaceOf, header_of, scan_lines

pytest.importorskip("ismrmrd", reason="the library ismrmrd is not installed")

ROOT = Path(__file__).parents[3]
_CONDITIONS = (  # the library's own parser of headers asks for them
    "<experimentalConditions><H1resonanceFrequency_Hz>1</H1resonanceFrequency_Hz></experimentalConditions><encoding>"
)
NOISE, CALIBRATION, NAVIGATOR = 1 << 18, 1 << 19, 1 << 22


def _received(content: bytes, *, pieces: int = 1 << 20, most: int = 1 << 20) -> list[Message]:
    """The messages of version 1 in bytes that arrive piece by piece."""

    async def run() -> list[Message]:
        reader = asyncio.StreamReader(limit=1 << 16)
        for start in range(0, len(content), pieces):
            reader.feed_data(content[start : start + pieces])
        reader.feed_eof()
        sink: Any = None
        link = VersionOne(Source(reader, most_bytes=1 << 22), sink, max_message_bytes=most)
        return [one async for one in link.receive()]

    return asyncio.run(run())


def _session() -> bytes:
    from ismrmrd.serialization import ProtocolSerializer

    kspace = np.ones((1, 2, 5, 3), np.complex64)
    header = xml((5, 3, 1)).encode()
    buffer = io.BytesIO(b"\3\0" + len(header).to_bytes(4, "little") + header)
    buffer.seek(0, io.SEEK_END)
    with ProtocolSerializer(buffer) as session:
        for one in messages_of(readouts_of(kspace, center_sample=2), trajectory=2):
            session.serialize(one)
    return buffer.getvalue()


SESSION = _session()


@pytest.mark.parametrize("pieces", [1, 7, 400])
def test_messages_in_pieces(pieces: int) -> None:
    messages = _received(SESSION, pieces=pieces)
    assert [type(one) for one in messages] == [ScanHeader, Readout, Readout, Readout, End]
    header, *readouts, _ = messages
    assert isinstance(header, ScanHeader)
    assert b"".join(
        (header.preface, *(one.content for one in readouts if isinstance(one, Readout)), header.ending)
    ) == (SESSION)
    assert [one.line for one in readouts if isinstance(one, Readout)] == [0, 1, 2]


@given(st.binary(max_size=2000))
def test_any_bytes_are_messages_or_a_clear_error(content: bytes) -> None:
    with pytest.raises((SessionError, Disconnected, FormatError)):
        raise SessionError(str(_received(content)))


@given(st.lists(st.tuples(st.integers(0, len(SESSION) * 8 - 1)), min_size=1, max_size=8), st.integers(1, 10**6))
def test_damaged_sessions_are_messages_or_a_clear_error(flips: list[tuple[int]], length: int) -> None:
    content = bytearray(SESSION)
    for (bit,) in flips:
        content[bit // 8] ^= 1 << bit % 8
    with suppress(SessionError, Disconnected, FormatError):
        _received(bytes(content[:length]))


def test_what_is_written_can_be_read_by_the_library() -> None:
    from ismrmrd.serialization import ProtocolDeserializer

    class Writer:
        def __init__(self) -> None:
            self.content = b""

        def write(self, content: bytes) -> None:
            self.content += content

        async def drain(self) -> None: ...

    writer: Any = Writer()
    source: Any = None
    link = VersionOne(source, Sink(writer), max_message_bytes=1)

    async def talk() -> None:
        await link.tell("größer")
        await link.close(complete=True)

    asyncio.run(talk())
    assert list(ProtocolDeserializer(io.BytesIO(writer.content)).deserialize()) == ["größer"]


def _readout(line: int = 0, flags: int = 0, **counters: int) -> Readout:
    zero = dict.fromkeys(("encoding", "slice", "contrast", "phase", "repetition", "set", "partition", "average"), 0)
    return Readout(content=b"x", flags=flags, line=line, **{**zero, **counters})


def _complete_after(readouts: Sequence[Readout], header: Header, *, by_slice: bool = True) -> list[tuple[int, str]]:
    """After which readouts which images are complete; at the number of readouts, those left at the end."""
    images = Images(lambda number: header, by_slice=by_slice, most=100)
    found = []
    for number, one in enumerate(readouts):
        for image in images.add(one)[1]:
            found.append((number, image.name))
            images.making(image)
    return found + [(len(readouts), image.name) for image in images.unmade()]


LIMITED = Header(encoded_size=(8, 4), depth=1, limit_maximum=3, limit_center=2)


@pytest.mark.parametrize(
    ("readouts", "header", "expected"),
    [
        ([_readout(one) for one in range(4)], LIMITED, [(3, "slice 0")]),
        ([_readout(one) for one in (0, 1, 1, 3)], LIMITED, [(4, "slice 0")]),
        ([_readout(one) for one in range(4)], Header(), [(4, "slice 0")]),
        ([_readout(0), _readout(3, LAST_IN_SLICE)], LIMITED, [(1, "slice 0")]),
        (
            [_readout(0), _readout(0, slice=1), _readout(3, LAST_IN_MEASUREMENT)],
            LIMITED,
            [(2, "slice 0"), (2, "slice 1")],
        ),
        ([_readout(0), _readout(0, NOISE | LAST_IN_MEASUREMENT)], LIMITED, [(1, "slice 0")]),
        # Flags of lines that make no image do not count, nor do calibration lines that the image leaves out.
        ([_readout(0, CALIBRATION | LAST_IN_SLICE), _readout(1)], LIMITED, [(2, "slice 0")]),
        ([_readout(0, NAVIGATOR | LAST_IN_SLICE), _readout(1, contrast=2)], LIMITED, [(2, "slice 0, contrast 2")]),
        # The flag in every partition, from the last to the first; and in every average.
        (
            [_readout(0, LAST_IN_SLICE, partition=one) for one in (2, 1, 0)],
            Header(depth=3, limit_maximum=3),
            [(2, "slice 0")],
        ),
        (
            [_readout(one, LAST_IN_SLICE * one, average=two) for two in (0, 1) for one in (0, 1)],
            Header(limit_maximum=3, average_maximum=1),
            [(3, "slice 0")],
        ),
        # Lines after the last one wait for the end, however often they are flagged.
        ([_readout(0, LAST_IN_SLICE | LAST_IN_MEASUREMENT)] * 4, LIMITED, [(0, "slice 0"), (4, "slice 0")]),
    ],
)
def test_when_an_image_is_complete(readouts: list[Readout], header: Header, expected: list[tuple[int, str]]) -> None:
    assert _complete_after(readouts, header) == expected


def test_methods_that_look_at_all_slices_get_them_at_the_end() -> None:
    readouts = [_readout(0, LAST_IN_SLICE, slice=one, repetition=two) for two in (0, 1) for one in range(3)]
    found = _complete_after(readouts, LIMITED, by_slice=False)
    assert found == [(6, "all slices"), (6, "all slices, repetition 1")]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.sampled_from([0, LAST_IN_SLICE]))))
def test_every_line_is_in_an_image(several: list[tuple[int, int, int]]) -> None:
    """Whatever comes: no image is made more than twice, and none of its lines is forgotten."""
    found = _complete_after([_readout(line, flags, slice=number) for line, number, flags in several], LIMITED)
    names = [name for _, name in found]
    assert all(names.count(name) <= 2 for name in names)
    for number in {number for _, number, _ in several}:
        last = max(place for place, (_, other, _) in enumerate(several) if other == number)
        assert max(place for place, name in found if name == f"slice {number}") >= last


def test_memory_of_images_is_bounded() -> None:
    """Declared limits of 2^20 lines by 2^20 partitions: their places are not kept."""
    header = Header(depth=2**20, limit_maximum=2**20, partition_maximum=2**20)
    images = Images(lambda number: header, by_slice=True, most=5)
    for line in range(5000):
        image, _ = images.add(_readout(line, partition=65535))
        assert image is not None
        assert not image.places
        assert image.partitions < 2**4096
    for number in range(5):
        images.add(_readout(slice=number))
    many = Images(lambda number: header, by_slice=True, most=100)
    for number in range(16):
        many.add(_readout(encoding=number))
    with pytest.raises(SessionError, match="expected lines of at most 16 encodings"):
        many.add(_readout(encoding=16))
    with pytest.raises(SessionError, match="expected at most 5 slices"):
        images.add(_readout(slice=5))


def test_choices() -> None:
    methods = allowed_methods(())
    limits = {"max_iters": 100, "adapt": 5}

    def read(text: str, before: Choice | None = None) -> Choice:
        return read_choice(text, allowed=methods, limits=limits, before=before)

    assert read("cs-wavelet\n max_iters=5 ").fields == {"method": "cs-wavelet", "max_iters": "5"}
    assert read("cs-wavelet.xml").by_slice
    assert not read("auto").by_slice
    assert not read("unrolled adapt=2").by_slice
    assert not read("cg-sense check=holdout").by_slice
    assert str(read("cg-sense seed=3 key=secret")) == "cg-sense seed=3"
    assert read("max_iters=7 key=b", read("cg-sense max_iters=5 seed=1 key=a")) == Choice(
        {"method": "cg-sense", "max_iters": "7", "seed": "1"}, "b"
    )
    assert read("unet", read("cg-sense max_iters=5")).fields == {"method": "unet"}
    with pytest.raises(SessionError, match=r"expected at most 100, the limit of this service, got 101"):
        read("cs-wavelet max_iters=101")
    with pytest.raises(SessionError, match=r"expected some of the methods .*, got 'foo'"):
        allowed_methods(["foo"])


def test_names_of_the_operator() -> None:
    """A name stands for a configuration, also one that clients may not name themselves; options come on top."""
    given = StreamSettings(names="default: zero-filled; brain: cg-sense max_iters=5 seed=1;")  # type: ignore[arg-type]
    assert given.names == {"default": "zero-filled", "brain": "cg-sense max_iters=5 seed=1"}

    def read(text: str, before: Choice | None = None) -> Choice:
        return read_choice(text, allowed=("unet",), names=given.names, limits={}, before=before)

    assert read("default.xml").fields == {"method": "zero-filled"}
    assert read("brain seed=2").fields == {"method": "cg-sense", "max_iters": "5", "seed": "2"}
    assert read("seed=3", read("brain")).fields == {"method": "cg-sense", "max_iters": "5", "seed": "3"}
    assert read('{"parameters": {"config": "brain"}}').fields["method"] == "cg-sense"
    with pytest.raises(SessionError, match="expected one of the configurations default, brain, unet, got 'cg-sense'"):
        read("cg-sense")
    for wrong in ("brain", "a b: unet", ": unet", "brain:"):
        with pytest.raises(ValueError, match="expected NAME: CONFIGURATION, separated by semicolons"):
            StreamSettings(names=wrong)  # type: ignore[arg-type]


@given(st.text(max_size=60))
def test_any_text_is_a_choice_or_a_clear_error(text: str) -> None:
    with suppress(SessionError):
        assert read_choice(text, allowed=("zero-filled",), limits={}).fields["method"] == "zero-filled"


def test_the_example(server: Running, kspace: KspaceOf, tmp_path: Path) -> None:
    full = kspace(2, 1, 12, 10)
    path = mrd(tmp_path / "scan.h5", scan_lines(full), header_of(full).replace("<encoding>", _CONDITIONS))
    command = [sys.executable, "-W", "ignore", str(ROOT / "service" / "examples" / "mrd_client.py"), str(path)]
    command += [str(tmp_path / "images.h5"), "zero-filled", "127.0.0.1", str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "slice 1: (1, 1, 10, 12) complex64" in done.stdout
    assert done.stdout.strip().endswith("2 images of 20 readouts are sent")
