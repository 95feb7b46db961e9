"""Names of files on a terminal and in documents, whatever bytes they hold."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mri_recon._system.text import printable, storable

names = st.binary(max_size=40).map(os.fsdecode) | st.text(max_size=40)


@given(names)
def test_what_is_printed_cannot_control_a_terminal(name: str) -> None:
    shown = printable(name)
    assert all(one.isprintable() or one in "\u00a0\u3000" for one in shown)
    shown.encode("utf-8")
    assert printable(shown) == shown


@given(st.text(st.characters(categories=("L", "M", "N", "P", "S")), max_size=40))
def test_ordinary_names_are_printed_as_they_are(name: str) -> None:
    assert printable(name) == name
    assert storable(name) == name


@given(names)
def test_what_is_stored_is_text(name: str) -> None:
    stored = storable(name)
    assert json.loads(json.dumps(stored, ensure_ascii=False).encode("utf-8")) == stored
    assert "\0" not in stored


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (os.fsdecode(b"k\xffx.npy"), "k\\xffx.npy"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("two\nlines\t", "two\\nlines\\t"),
        ("\u202etxt.exe", "\\u202etxt.exe"),
        ("\x9b31m", "\\x9b31m"),
        ("scan [copy].npy", "scan [copy].npy"),
        ("späte 脳 Ж.h5", "späte 脳 Ж.h5"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_escapes(name: str, shown: str) -> None:
    assert printable(name) == shown
