"""Compile loops with Numba; imported only by modules of such loops, where Numba is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["compiled", "inner"]

_F = TypeVar("_F", bound=Callable[..., Any])


def compiled(*fastmath: str) -> Callable[[_F], _F]:
    """Make a decorator that compiles a function, kept between processes where a folder for it can be written.

    The machine code releases the interpreter lock and divides as NumPy does.

    Args:
        fastmath: LLVM's flags, what the compiler may do to sums and products.
    """
    options: dict[str, Any] = {"fastmath": set(fastmath), "error_model": "numpy", "nogil": True}

    def compile_(function: _F) -> _F:
        try:
            return cast(_F, numba.njit(**options, cache=True)(function))
        except RuntimeError:  # neither the package's folder nor the user's cache can be written
            return cast(_F, numba.njit(**options)(function))

    return compile_


def inner(*fastmath: str) -> Callable[[_F], _F]:
    """Make a decorator that compiles a function which only compiled functions call and that makes no array.

    The caller keeps every array alive, so that no references need counting (`_nrt`), which took a quarter of the time.
    """
    options: dict[str, Any] = {"fastmath": set(fastmath), "error_model": "numpy"}
    options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False}

    def compile_(function: _F) -> _F:
        return cast(_F, numba.njit(**options)(function))

    return compile_
