"""Damaged files of every format: only errors of the design, no crash, no hang.

    python -m benchmarks.io.fuzz_readers [--files 500] [--seed 0] [--formats mrd,twix]

Each format gets one small file, of which copies are cut short, have bits flipped, or bytes of one place put into
another. Every copy is loaded in a process of its own kind (one per format), which is killed after a minute without an
answer. A row names the copies that loaded, were refused, ended in another exception, or ended the process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mri_recon.errors import MriReconError
from mri_recon.io import convert, load, load_mask, load_noise, save, save_scan
from mri_recon.io.geometry import Geometry
from mri_recon.io.writers.dicom_like import read_tags
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.reconstruction import reconstruct
from mri_recon_data.magnitudes.images import read_images
from tests.io.mrd_files import NOISE as NOISE_FLAG
from tests.io.mrd_files import Readout, mrd, readouts_of, stream_header, write_session, write_stream, xml
from tests.io.scanner_files import Block, fid, lines_of, pfile, twix_vb, twix_ve
from tests.io.test_same_values import write_mat73

_PATIENCE = 60.0  # seconds without an answer
_MAX_BYTES = 2**28
_RNG = np.random.default_rng(0)
KSPACE = np.round(99 * (_RNG.standard_normal((2, 2, 12, 10)) + 1j * _RNG.standard_normal((2, 2, 12, 10)))).astype("c8")
NOISE = [Block(KSPACE[number, :, 0], ("NOISEADJSCAN",), {"Lin": number}) for number in range(2)]
GEOMETRY = Geometry((1.0, 2.0, 3.0), ((0.0, 0.0, 0.0), (0.0, 0.0, 3.0)), ((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)), "HFS")


def _fastmri(folder: Path) -> Path:
    save_scan(folder / "a.h5", KSPACE, target=np.ones((2, 12, 10)), geometry=GEOMETRY, acquisition="T1")
    return folder / "a.h5"


def _converted(suffix: str, source: Callable[[Path], Path] = _fastmri) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        convert(source(folder), folder / f"b{suffix}")
        return folder / f"b{suffix}"

    return make


def _bart_header(folder: Path) -> Path:
    return _converted(".cfl")(folder).with_suffix(".hdr")


def _mat73(folder: Path) -> Path:
    return write_mat73(folder / "a.mat", kspace=KSPACE.transpose(2, 3, 1, 0))


def _result(folder: Path) -> Path:
    scan, mask = load(_fastmri(folder)), random_mask(10, 2, num_low_frequencies=2)
    save(folder / "r.h5", reconstruct(undersample(scan.kspace, mask), mask, method="zero-filled"), scan, mask)
    return folder / "r.h5"


def _mask_file(folder: Path) -> Path:
    np.save(folder / "mask.npy", np.arange(10) % 2 == 0)
    return folder / "mask.npy"


def _load(path: Path) -> None:
    load(path, max_bytes=_MAX_BYTES)


def _noise(path: Path) -> None:
    load_noise(path, max_bytes=_MAX_BYTES)


def _magnitudes(path: Path) -> None:
    read_images(path, max_bytes=_MAX_BYTES)


_MRD_LINES = [Readout(KSPACE[0, :, 0], NOISE_FLAG, fields={"sample_time_us": 4.0}), *readouts_of(KSPACE)]


class Format(NamedTuple):
    """Make a small file of a format, of which copies are damaged, and read one; `beside` is read in its place."""

    make: Callable[[Path], Path]
    read: Callable[[Path], None] = _load
    beside: str = ""


FORMATS: dict[str, Format] = {
    "fastmri": Format(_fastmri),
    "npy": Format(_converted(".npy")),
    "npz": Format(_converted(".npz")),
    "mat": Format(_converted(".mat")),
    "mat73": Format(_mat73),
    "bart": Format(_bart_header),
    "bart-cfl": Format(_converted(".cfl")),
    "mrd-written": Format(_converted(".mrd")),
    "mrd": Format(lambda folder: mrd(folder / "a.h5", _MRD_LINES, xml((12, 10, 1), fov=(9, 9, 9)))),
    "mrd-noise": Format(lambda folder: mrd(folder / "a.h5", _MRD_LINES, xml((12, 10, 1))), _noise),
    "mrd2": Format(lambda folder: write_stream(folder / "a.mrd", _MRD_LINES, stream_header((12, 10, 1)))),
    "mrd2-noise": Format(lambda folder: write_stream(folder / "a.mrd", _MRD_LINES, stream_header((12, 10, 1))), _noise),
    "mrd-session": Format(
        lambda folder: write_session(folder / "a.mrd", readouts_of(KSPACE), xml((12, 10, 1), fov=(9, 9, 9)))
    ),
    "twix-ve": Format(lambda folder: twix_ve(folder / "a.dat", [*NOISE], lines_of(KSPACE))),
    "twix-vb": Format(lambda folder: twix_vb(folder / "a.dat", [*NOISE, *lines_of(KSPACE)])),
    "twix-ve-noise": Format(lambda folder: twix_ve(folder / "a.dat", [*NOISE], lines_of(KSPACE)), _noise),
    "twix-vb-noise": Format(lambda folder: twix_vb(folder / "a.dat", [*NOISE, *lines_of(KSPACE)]), _noise),
    "pfile": Format(lambda folder: pfile(folder / "a.7", KSPACE, tables=(6.0, 2.0, {0: (3, 1, 4), 1: (3, 9, 4)}))),
    "fid": Format(lambda folder: fid(folder / "fid", KSPACE)),
    "procpar": Format(
        lambda folder: fid(folder / "fid", KSPACE, lro="2", lpe="2", thk="1").parent / "procpar", beside="fid"
    ),
    "mask": Format(_mask_file, lambda path: void(load_mask(path))),
    "result": Format(_result, lambda path: void(convert(path, path.with_name("out.nii"), max_bytes=_MAX_BYTES))),
    "like": Format(_converted(".dcm", _result), lambda path: void(read_tags(path))),
    "nifti": Format(_converted(".nii", _result), _magnitudes),
    "nifti-gz": Format(_converted(".nii.gz", _result), _magnitudes),
    "dicom": Format(_converted(".dcm", _result), _magnitudes),
}


def void(_: object) -> None:
    """Take a value and forget it."""


def damaged(whole: bytes, count: int, rng: np.random.Generator) -> Iterator[bytes]:
    """Yield copies: a third cut short, a third with one to eight bits flipped, a third with a block moved."""
    for number in range(count):
        copy = bytearray(whole)
        match number % 3:
            case 0:
                yield whole[: int(rng.integers(len(whole)))]
                continue
            case 1:
                for _ in range(int(rng.integers(1, 9))):
                    copy[int(rng.integers(len(copy)))] ^= 1 << int(rng.integers(8))
            case _:
                length = int(rng.integers(1, 64))
                source, target = rng.integers(max(1, len(copy) - length), size=2)
                copy[target : target + length] = whole[source : source + length]
        yield bytes(copy)


def _work(name: str, count: int, seed: int, answers: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        kind = FORMATS[name]
        path = kind.make(Path(folder))
        read_from = path.with_name(kind.beside) if kind.beside else path
        whole = path.read_bytes()
        for content in damaged(whole, count, np.random.default_rng(seed)):
            path.write_bytes(content)
            try:
                kind.read(read_from)
                answers.put("loaded")
            except MriReconError:
                answers.put("refused")
            except BaseException as error:  # what this looks for
                answers.put(f"OTHER {type(error).__name__}: {str(error)[:80]}")
    answers.put(None)


def run(name: str, count: int, seed: int) -> Counter[str]:
    """Load `count` damaged copies of a format's file; return how each ended."""
    found: Counter[str] = Counter()
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_work, args=(name, count, seed, answers))
    process.start()
    deadline = time.monotonic() + 2 * _PATIENCE
    while True:
        try:
            answer = answers.get(timeout=0.2)
        except Exception:
            if not process.is_alive() and answers.empty():
                found[f"PROCESS ENDED {process.exitcode}"] += 1
                break
            if time.monotonic() > deadline:
                found["HANG"] += 1
                process.kill()
                break
            continue
        if answer is None:
            break
        found[answer] += 1
        deadline = time.monotonic() + _PATIENCE
    process.join()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", default=",".join(FORMATS))
    chosen = parser.parse_args()
    bad = 0
    for name in chosen.formats.split(","):
        start = time.monotonic()
        found = run(name, chosen.files, chosen.seed)
        bad += sum(count for what, count in found.items() if what not in ("loaded", "refused"))
        print(f"{name:12s} {dict(found)}, {time.monotonic() - start:.0f} s", flush=True)
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
