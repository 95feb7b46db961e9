"""Server-sent events, in whatever pieces they come."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mri_recon_service.client.sse import Decoder, Message

STREAM = (
    ": a comment\r\n\r\n"
    "id: 1\r\nevent: status\r\ndata: {}\r\n\r\n"
    "event: progress\ndata:one\ndata:  two\n\n"
    "data\r\rid: 7\rretry: 3\rdata: \u2028é\r\r"
    "event: lost\n\n"
    "data: unfinished"
).encode()
MESSAGES = [
    Message("status", "{}", "1"),
    Message("progress", "one\n two", "1"),
    Message("message", "", "1"),
    Message("message", "\u2028é", "7"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_pieces_make_no_difference(places: list[int]) -> None:
    decoder, bounds = Decoder(), [0, *sorted(places), len(STREAM)]
    found = [one for start, end in itertools.pairwise(bounds) for one in decoder.feed(STREAM[start:end])]
    assert found == MESSAGES


def test_a_byte_at_a_time() -> None:
    decoder = Decoder()
    assert [one for byte in STREAM for one in decoder.feed(bytes([byte]))] == MESSAGES
