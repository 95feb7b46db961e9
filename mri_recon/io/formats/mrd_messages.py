"""Define the messages of an MRD session, version 1, as bytes: their numbers, headers and lengths.

A message is two bytes, its number; a part of fixed length; and a rest whose length the fixed part tells. All numbers
are little-endian. Source: https://ismrmrd.readthedocs.io, "MR Data Message Format".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from mri_recon.errors import FormatError

__all__ = [
    "ACQUISITION",
    "ACQUISITION_HEADER",
    "BYTE_ORDER_MARK",
    "CLOSE",
    "CONFIG_FILE",
    "CONFIG_TEXT",
    "HEADER",
    "IMAGE",
    "IMAGE_HEADER",
    "MESSAGES",
    "NUMBER_BYTES",
    "TEXT",
    "WAVEFORM",
    "WAVEFORM_HEADER",
    "Message",
    "text_of",
    "trajectory_bytes",
]

CONFIG_FILE, CONFIG_TEXT, HEADER, CLOSE, TEXT = 1, 2, 3, 4, 5
ACQUISITION, IMAGE, WAVEFORM = 1008, 1022, 1026
NUMBER_BYTES = 2
"""Length of the number in front of every message."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Mark that some programs put in front of a text in UTF-8."""

_COUNTERS = np.dtype(
    [
        ("kspace_encode_step_1", "<u2"), ("kspace_encode_step_2", "<u2"), ("average", "<u2"), ("slice", "<u2"),
        ("contrast", "<u2"), ("phase", "<u2"), ("repetition", "<u2"), ("set", "<u2"), ("segment", "<u2"),
        ("user", "<u2", 8),
    ]
)  # fmt: skip

ACQUISITION_HEADER = np.dtype(
    [
        ("version", "<u2"), ("flags", "<u8"), ("measurement_uid", "<u4"), ("scan_counter", "<u4"),
        ("acquisition_time_stamp", "<u4"), ("physiology_time_stamp", "<u4", 3), ("number_of_samples", "<u2"),
        ("available_channels", "<u2"), ("active_channels", "<u2"), ("channel_mask", "<u8", 16), ("discard_pre", "<u2"),
        ("discard_post", "<u2"), ("center_sample", "<u2"), ("encoding_space_ref", "<u2"),
        ("trajectory_dimensions", "<u2"), ("sample_time_us", "<f4"), ("position", "<f4", 3), ("read_dir", "<f4", 3),
        ("phase_dir", "<f4", 3), ("slice_dir", "<f4", 3), ("patient_table_position", "<f4", 3), ("idx", _COUNTERS),
        ("user_int", "<i4", 8), ("user_float", "<f4", 8),
    ]
)  # fmt: skip
"""Header of a readout, version 1."""

IMAGE_HEADER = np.dtype(
    [
        ("version", "<u2"), ("data_type", "<u2"), ("flags", "<u8"), ("measurement_uid", "<u4"),
        ("matrix_size", "<u2", 3), ("field_of_view", "<f4", 3), ("channels", "<u2"), ("position", "<f4", 3),
        ("read_dir", "<f4", 3), ("phase_dir", "<f4", 3), ("slice_dir", "<f4", 3),
        ("patient_table_position", "<f4", 3), ("average", "<u2"), ("slice", "<u2"), ("contrast", "<u2"),
        ("phase", "<u2"), ("repetition", "<u2"), ("set", "<u2"), ("acquisition_time_stamp", "<u4"),
        ("physiology_time_stamp", "<u4", 3), ("image_type", "<u2"), ("image_index", "<u2"),
        ("image_series_index", "<u2"), ("user_int", "<i4", 8), ("user_float", "<f4", 8),
        ("attribute_string_len", "<u4"),
    ]
)  # fmt: skip
"""Header of an image, version 1."""

WAVEFORM_HEADER = np.dtype(
    {
        "names": ["version", "flags", "measurement_uid", "scan_counter", "time_stamp", "number_of_samples", "channels",
                  "sample_time_us", "waveform_id"],
        "formats": ["<u2", "<u8", "<u4", "<u4", "<u4", "<u2", "<u2", "<f4", "<u2"],
        "offsets": [0, 8, 16, 20, 24, 28, 30, 32, 36],
        "itemsize": 40,
    }
)  # fmt: skip
"""Header of a waveform, with the gaps of the C structure."""

_PIXEL_BYTES = {1: 2, 2: 2, 3: 4, 4: 4, 5: 4, 6: 8, 7: 8, 8: 16}  # by data_type


class Message(NamedTuple):
    """Describe the bytes of a kind of message after its number.

    Attributes:
        name: name in messages to people.
        fixed: number of bytes of the fixed part.
        rest: function of the fixed part that returns the number of further bytes. It raises FormatError for a fixed
            part that cannot be.
    """

    name: str
    fixed: int
    rest: Callable[[bytes], int]


def trajectory_bytes(head: bytes) -> int:
    """Return the number of bytes between the header of a readout and its samples."""
    return (
        4
        * _whole(head, ACQUISITION_HEADER, "trajectory_dimensions")
        * _whole(head, ACQUISITION_HEADER, "number_of_samples")
    )


def text_of(content: bytes) -> str:
    """Decode a text, without a byte-order mark and without the zeros that end a C string.

    Raises:
        UnicodeDecodeError: not UTF-8.
    """
    # Not "utf-8-sig": Python loads that codec from the disk, which a sandboxed process may not do.
    return content.removeprefix(BYTE_ORDER_MARK).rstrip(b"\0").decode()


def _acquisition(head: bytes) -> int:
    samples = _whole(head, ACQUISITION_HEADER, "number_of_samples")
    channels = _whole(head, ACQUISITION_HEADER, "active_channels")
    return trajectory_bytes(head) + 8 * samples * channels


def _waveform(head: bytes) -> int:
    return 4 * _whole(head, WAVEFORM_HEADER, "number_of_samples") * _whole(head, WAVEFORM_HEADER, "channels")


def _image(head: bytes) -> int:
    (record,) = np.frombuffer(head, dtype=IMAGE_HEADER, count=1)
    kind = int(record["data_type"])
    if kind not in _PIXEL_BYTES:
        raise FormatError(f"expected an image of data type 1 to 8, got {kind}: the stream is damaged")
    pixels = math.prod(int(one) for one in record["matrix_size"]) * int(record["channels"])
    return int.from_bytes(head[IMAGE_HEADER.itemsize :], "little") + pixels * _PIXEL_BYTES[kind]


def _length(head: bytes) -> int:
    return int.from_bytes(head, "little")


def _whole(head: bytes, kind: np.dtype[np.void], name: str) -> int:
    fields = kind.fields
    assert fields is not None
    place = fields[name][1]
    return int.from_bytes(head[place : place + 2], "little")


MESSAGES: Mapping[int, Message] = MappingProxyType(
    {
        CONFIG_FILE: Message("name of a configuration", 1024, lambda _: 0),
        CONFIG_TEXT: Message("text of a configuration", 4, _length),
        HEADER: Message("header", 4, _length),
        CLOSE: Message("end", 0, lambda _: 0),
        TEXT: Message("text", 4, _length),
        ACQUISITION: Message("readout", ACQUISITION_HEADER.itemsize, _acquisition),
        IMAGE: Message("image", IMAGE_HEADER.itemsize + 8, _image),
        WAVEFORM: Message("waveform", WAVEFORM_HEADER.itemsize, _waveform),
    }
)
"""Every kind of message by its number."""
