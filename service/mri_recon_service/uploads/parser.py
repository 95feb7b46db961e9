"""Run the process that opens uploaded files, without network or other files, in bounded memory and time.

The process is a template. It imports every reader, opens no user's file, and forks workers one after another. A worker
restricts itself (`isolation`), then reads files until a request is marked as the last, or a file cannot be read.
Whether a worker ends or fails, the next is a fork of the untouched template, ready within milliseconds.

Each message is one line of JSON. The parent writes requests. The worker writes one answer to each, once the arrays are
in `answer.safetensors` in its outbox. The template reports when a worker is ready and when it has ended. The parent,
`parser_pool.ParserPool`, validates every message.
"""

from __future__ import annotations

import codecs
import gc
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from mri_recon._system.files import Content
from mri_recon.errors import FormatError, MaskError, MriReconError
from mri_recon.io.loading import read
from mri_recon.io.masks import read_mask_array
from mri_recon.io.reading.limits import TooLargeError
from mri_recon.io.writers.hdf5 import hdf5_content
from mri_recon.masks.convert import drop_constant_axes
from mri_recon_service.heap import Heap
from mri_recon_service.uploads.isolation import die_with_parent, limit, limit_memory, limit_seconds, restrict
from mri_recon_service.uploads.protocol import (
    ANSWER_FILE,
    DTYPES,
    END_WORKER,
    NO_ROOM,
    NO_ROOM_STATUS,
    TOO_LARGE,
    ParserConfig,
    Request,
    write_arrays,
)

__all__ = ["answer", "main"]

_PARENT_IS_GONE = 3


def main() -> None:
    """Fork workers until the parent is gone. The configuration is the last argument of the command line, as JSON."""
    config = ParserConfig.model_validate_json(sys.argv[-1])
    try:
        _warm_up(config)
    except OSError:  # its small files cannot be written
        sys.exit(NO_ROOM_STATUS)
    gc.collect()
    gc.freeze()  # the collectors of workers leave the template's pages shared
    template, pid = os.getpid(), 0

    def end_worker(*_: object) -> None:
        if pid:  # not reaped yet, so the process id is still the worker's
            os.kill(pid, signal.SIGKILL)

    signal.signal(END_WORKER, end_worker)
    while True:
        pid = os.fork()
        if pid == 0:
            signal.signal(END_WORKER, signal.SIG_IGN)
            status = 1
            with suppress(BaseException):  # nobody reads this process's standard error
                status = _work(config, template)
            os._exit(status)
        # Reaped only once `pid` is 0: a signal in between would go to a process id that may be somebody else's.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        worker, pid = pid, 0
        _, status = os.waitpid(worker, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _PARENT_IS_GONE:
            return
        _send(config.events, {"ended": os.waitstatus_to_exitcode(status)})


def answer(request: Request, config: ParserConfig) -> dict[str, Any]:
    """Read the files of a request, write their arrays, and describe them. An error of the reader is an answer too."""
    try:
        raw = read(
            config.inbox / request.scan, axes=request.axes, variable=request.variable, max_bytes=request.max_bytes
        )
        arrays = {"kspace": raw.kspace.astype(np.complex64, order="C", copy=False)}
        if raw.target is not None:
            arrays["target"] = raw.target.astype(np.float32, order="C", copy=False)
        if raw.mask is not None:
            arrays["mask"] = _fitting(_native(raw.mask), raw.kspace.shape, FormatError)
        if request.mask is not None:
            array = _native(read_mask_array(config.inbox / request.mask))
            arrays["mask_file"] = _fitting(array, raw.kspace.shape, MaskError)
        try:
            write_arrays(config.outbox / ANSWER_FILE, arrays)
        except OSError:  # a full disk or a limit is no fault of the file
            return {"number": request.number, "error": NO_ROOM, "message": ""}
    except TooLargeError as error:
        return {"number": request.number, "error": TOO_LARGE, "message": str(error), "size": error.size}
    except FormatError as error:
        return {
            "number": request.number,
            "error": FormatError.__name__,
            "message": str(error),
            "argument": error.argument,
        }
    except MriReconError as error:
        return {"number": request.number, "error": type(error).__name__, "message": str(error)}
    except MemoryError:
        return {"number": request.number, "error": "MemoryError", "message": ""}
    return {
        "number": request.number,
        "name": raw.name,
        "meta": raw.meta,
        "padding": raw.padding,
        "recon_size": raw.recon_size,
        "target_source": raw.target_source,
    }


def _work(config: ParserConfig, template: int) -> int:
    die_with_parent()
    if os.getppid() != template:  # the template ended before the line above
        return _PARENT_IS_GONE
    mapped = limit(memory_bytes=config.memory_bytes, file_bytes=config.file_bytes)
    reached = restrict(readable=config.inbox, writable=config.outbox)
    _send(config.events, {"ready": asdict(reached)})
    os.close(config.events)
    heap = Heap(period=0.0)
    with os.fdopen(config.requests, "rb") as requests:
        for line in requests:
            request = Request.model_validate_json(line)
            limit_seconds(request.cpu_seconds)
            limit_memory(mapped + request.memory_bytes)
            found = answer(request, config)
            _send(config.answers, found)
            if request.last or "error" in found:
                return 0
            heap.trim()  # the worker may wait long for its next file
    return _PARENT_IS_GONE


def _send(descriptor: int, message: dict[str, Any]) -> None:
    rest = json.dumps(message).encode() + b"\n"
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _fitting(mask: npt.NDArray[Any], shape: tuple[int, ...], error: type[MriReconError]) -> npt.NDArray[Any]:
    """Reduce a mask to one slice of one coil. The parent checks its shape and numbers.

    A larger mask must be the same for all slices and coils.
    """
    readout, phase = shape[-2:]
    if mask.size > readout * phase:
        mask = drop_constant_axes(mask, (readout, phase))
    if mask.size > readout * phase:
        raise error(
            f"expected a mask ({phase},) or ({readout}, {phase}) for k-space of shape {shape}, got shape {mask.shape}: "
            "it belongs to another scan, or differs between slices or coils"
        )
    return mask


def _native(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert an array to this machine's byte order, C order, and a type that safetensors has."""
    wanted = array.dtype.newbyteorder("=")
    if wanted.name not in DTYPES:  # complex128, and long double if the machine has it
        wanted = np.dtype(np.complex64 if wanted.kind == "c" else np.float64)
    with np.errstate(over="ignore"):
        return array.astype(wanted, order="C", copy=False)


def _small_hdf5(name: str, array: npt.NDArray[Any]) -> Content:
    """Make a small HDF5 file in memory: on a full disk the HDF5 library would kill this process."""

    def fill(file: h5py.File) -> None:
        file.create_dataset(name, data=array, chunks=True, compression="gzip", shuffle=True)

    return hdf5_content(fill)


def _warm_up(config: ParserConfig) -> None:
    """Read one file of each format, so that every module is imported before the process can open no more files."""
    import scipy.io

    with suppress(ImportError):  # an extra: without it the reader of Siemens data asks for its installation
        import twixtools  # noqa: F401
    with suppress(ImportError):  # likewise, of MRD version 2
        import mrd  # noqa: F401

    for codec in ("ascii", "utf-8", "latin-1", "utf-16", "utf-32"):  # of texts in HDF5, MATLAB and XML
        codecs.lookup(codec)
    contents: dict[str, npt.NDArray[Any]] = {
        "mask": np.array([1, 0, 1], np.uint8),
        "kspace": np.ones((2, 3), np.complex64),
    }
    for suffix in (".npy", ".npz", ".mat", ".h5"):
        paths = {name: (config.inbox / name).with_suffix(suffix) for name in contents}
        for name, array in contents.items():
            path = paths[name]
            match suffix:
                case ".npy":
                    np.save(path, array)
                case ".npz":
                    np.savez_compressed(path, allow_pickle=False, **{name: array})
                case ".mat":
                    scipy.io.savemat(path, {name: array}, do_compression=True)
                case _:
                    path.write_bytes(_small_hdf5(name, array))
        request = Request(
            number=0,
            scan=paths["kspace"].name,
            mask=paths["mask"].name,
            axes=None,
            variable=None,
            last=False,
            max_bytes=1 << 20,
            memory_bytes=config.memory_bytes,
            cpu_seconds=60.0,
        )
        found = answer(request, config)
        for path in paths.values():
            path.unlink(missing_ok=True)
        if found.get("error") == NO_ROOM:
            raise OSError(NO_ROOM)
        if "error" in found:
            raise RuntimeError(found["message"])
