"""BART, SigPy and this project behind one interface, each in a process of its own with the same number of threads.

    bart = Bart(threads=2);  sigpy = Worker("sigpy", threads=2);  ours = Worker("ours", threads=2)

`python benchmarks/classical/peers.py sigpy` (or `ours`) is the process behind a `Worker`: JSON lines in, JSON
lines out. All of them solve

    P(x) = 1/2 ||A x - y||^2 + lambda ||W x||_1

with the same A, y and lambda, each with its own wavelet transform W: BART's is dau2 with symmetric extension, SigPy's
db4 with zero extension, ours db4 periodised. So each has its own objective, which is evaluated in float64.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

BART_STEP = 1.0
"""The largest allowed for normalised maps, where ||A|| = 1; BART's own 0.95 needs about 5 % more iterations."""

_LAUNCHER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


@dataclass(frozen=True)
class Problem:
    """One problem: k-space `(slice, coil, h, w)`, zero outside the columns `lines`, and maps `(coil, h, w)`."""

    kspace: npt.NDArray[np.complex64]
    lines: npt.NDArray[np.bool_]
    maps: npt.NDArray[np.complex64]

    def save(self, path: Path) -> None:
        np.savez(path, kspace=self.kspace, lines=self.lines, maps=self.maps)

    @staticmethod
    def load(path: str) -> Problem:
        with np.load(path) as stored:
            return Problem(stored["kspace"], stored["lines"], stored["maps"])


def write_cfl(path: str, array: npt.NDArray[Any]) -> None:
    """BART's format: a text header, and complex64 with the first axis fastest."""
    dims = " ".join(str(n) for n in array.shape + (1,) * (16 - array.ndim))
    Path(path + ".hdr").write_text(f"# Dimensions\n{dims}\n", encoding="ascii")
    array.astype(np.complex64).ravel(order="F").tofile(path + ".cfl")


def read_cfl(path: str, shape: Sequence[int] | None = None) -> npt.NDArray[np.complex64]:
    """The array as `shape`; without it as the header says, less trailing axes of 1."""
    if shape is None:
        dims = [int(n) for n in Path(path + ".hdr").read_text(encoding="ascii").splitlines()[1].split()]
        while len(dims) > 1 and dims[-1] == 1:
            dims.pop()
        shape = dims
    return np.fromfile(path + ".cfl", dtype=np.complex64).reshape(shape, order="F").copy()


def data_term(problem: Problem, image: npt.NDArray[Any]) -> float:
    """`1/2 ||A x - y||^2` of the first slice in float64, with NumPy alone."""
    coil_images = problem.maps.astype(np.complex128) * image.astype(np.complex128)
    axes = (-2, -1)
    full = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(coil_images, axes=axes), norm="ortho"), axes=axes)
    return 0.5 * float((np.abs(full * problem.lines - problem.kspace[0]) ** 2).sum())


# ---------------------------------------------------------------------------------------------------------------- BART


class Bart:
    """BART's `pics` on one problem: `-S -w 1`, so that lambda has the units of the k-space, `-n`: no random shifts."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)

    @staticmethod
    def available() -> bool:
        return shutil.which("bart") is not None

    def version(self) -> str:
        self._run("version")
        return "BART " + self._output.strip()

    def load(self, problem: Problem) -> None:
        """Write the first slice."""
        self._problem = problem
        write_cfl(self._path("kspace"), problem.kspace[0].transpose(1, 2, 0)[:, :, None, :])
        write_cfl(self._path("maps"), problem.maps.transpose(1, 2, 0)[:, :, None, :])
        write_cfl(self._path("pattern"), np.broadcast_to(problem.lines, problem.kspace.shape[-2:]))

    def solve(self, lam: float, iterations: int) -> float:
        """Wall time of the whole call in seconds: start-up, reading and writing included."""
        return self._run(*self._pics(lam, iterations))

    def objective(self, lam: float, iterations: int) -> tuple[float, float]:
        """P after `iterations` gradients: after one more thresholding, and of what `pics` returned.

        Its FISTA thresholds first and steps second. Thresholded once more, the output is the iterate of that number
        in the usual order; as returned it stands far above the minimum, whatever the number.
        """
        self.solve(lam, iterations)
        self._run("threshold", "-W", lam * BART_STEP, "image", "thresholded")
        return self._objective("thresholded", lam), self._objective("image", lam)

    def default(self, weight: float, iterations: int) -> tuple[float, npt.NDArray[np.complex64]]:
        """Wall time of `pics` as it is by default, random shifts and own scaling included, and its image."""
        pics = ("pics", "-S", "-i", iterations, "-R", f"W:3:0:{weight!r}", "-p", "pattern", "kspace", "maps", "image")
        seconds = self._run(*pics)
        return seconds, read_cfl(self._path("image"), self._problem.kspace.shape[-2:])

    def ecalib(self) -> float:
        return self._run("ecalib", "-m1", "-r", "24", "kspace", "espirit")

    def start_up(self) -> float:
        return self._run("version")

    def peak_memory(self, lam: float, iterations: int) -> float:
        """Peak resident memory in MB; never below that of the small Python which starts it, about 10."""
        return self._memory(*self._pics(lam, iterations))

    def close(self) -> None:
        self._folder.cleanup()

    def _pics(self, lam: float, iterations: int) -> list[str]:
        options = f"pics -S -w 1 -n -s {BART_STEP} -i {iterations} -R W:3:0:{lam!r} -p pattern kspace maps image"
        return options.split()

    def _objective(self, name: str, lam: float) -> float:
        self._run("wavelet", "-D", 3, name, "coefficients")
        norm = float(np.abs(read_cfl(self._path("coefficients")).astype(np.complex128)).sum())
        image = read_cfl(self._path(name), self._problem.kspace.shape[-2:])
        # BART's centred transform leaves out a constant phase: -1 for an axis whose half is odd.
        return min(data_term(self._problem, sign * image) for sign in (1, -1)) + lam * norm

    def _memory(self, *arguments: object) -> float:
        # Linux hands the peak of the parent on to the child at exec: a small parent in between keeps Python's out.
        command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, "bart", *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=self._folder.name, env=_environment(self._threads)
        )
        return float(done.stdout)

    def _run(self, *arguments: object) -> float:
        command = ["bart", *map(str, arguments)]
        start = time.perf_counter()
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=self._folder.name, env=_environment(self._threads)
        )
        seconds = time.perf_counter() - start
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}: {done.stdout}{done.stderr}")
        self._output = done.stdout
        return seconds

    def _path(self, name: str) -> str:
        return str(Path(self._folder.name, name))


# ------------------------------------------------------------------------------------------------------------- workers


class Worker:
    """A process that holds one Python package and one problem, and answers calls by name."""

    def __init__(self, package: str, threads: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), package, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(threads),
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments: self._call(name, *arguments)

    def load(self, problem: Problem) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "problem.npz")
            problem.save(path)
            self._call("load", str(path))

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def _call(self, name: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process behind {name!r} ended: its message is above")
        return json.loads(answer)


def _environment(threads: int) -> dict[str, str]:
    return {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}


def _high_water() -> float:
    """Peak resident memory of this process in MB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("expected VmHWM in /proc/self/status: memory is measured on Linux only")


class SigPy:
    """`sigpy.mri.app.L1WaveletRecon` with its defaults, but the step 1 that normalised maps allow.

    Its own step takes 30 power iterations first, and comes to 1.00 as well.
    """

    def __init__(self, threads: int) -> None:
        import sigpy
        import sigpy.mri.app

        self._sigpy = sigpy
        self._app = sigpy.mri.app

    def version(self) -> str:
        return f"SigPy {self._sigpy.__version__}"

    def load(self, path: str) -> None:
        self._problem = Problem.load(path)

    def solve(self, lam: float, iterations: int) -> dict[str, float]:
        """Seconds of the set-up, and of the `update` calls."""
        start = time.perf_counter()
        algorithm = self._start(lam, iterations)
        middle = time.perf_counter()
        for _ in range(iterations):
            algorithm.update()
        return {"set_up": middle - start, "seconds": time.perf_counter() - middle}

    def trace(self, lam: float, marks: list[int]) -> list[float]:
        """P at the iterations `marks`, increasing."""
        transform = self._sigpy.linop.Wavelet(self._problem.maps.shape[1:], wave_name="db4")
        algorithm = self._start(lam, marks[-1])
        values = []
        for iteration in range(1, marks[-1] + 1):
            algorithm.update()
            if iteration in marks:
                norm = float(np.abs(transform(algorithm.x.astype(np.complex128))).sum())
                values.append(data_term(self._problem, algorithm.x) + lam * norm)
        return values

    def espirit(self) -> float:
        start = time.perf_counter()
        self._app.EspiritCalib(self._problem.kspace[0], calib_width=24, show_pbar=False).run()
        return time.perf_counter() - start

    def peak_memory(self, lam: float, iterations: int) -> float:
        self.solve(lam, iterations)
        return _high_water()

    def _start(self, lam: float, iterations: int) -> Any:
        y, maps = self._problem.kspace[0], self._problem.maps
        return self._app.L1WaveletRecon(y, maps, lam, alpha=1, max_iter=iterations, show_pbar=False).alg


class Ours:
    """`mri_recon.methods.cs_wavelet.cs_wavelet`; the time is that of the whole call."""

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._torch = torch
        from mri_recon.masks import convert as masks
        from mri_recon.methods import cs_wavelet as classical
        from mri_recon.operators import sense as operators
        from mri_recon.transforms import wavelets

        self._classical, self._masks, self._operators, self._wavelets = classical, masks, operators, wavelets

    def version(self) -> str:
        return f"mri-recon {metadata.version('mri-recon')}, torch {self._torch.__version__}"

    def load(self, path: str) -> None:
        problem = Problem.load(path)
        self._kspace = self._torch.from_numpy(problem.kspace)
        self._maps = self._torch.from_numpy(problem.maps)
        self._mask = self._masks.as_mask(problem.lines, problem.kspace.shape)

    def lambda_max(self) -> float:
        """`max |W A^H y|` over the slices."""
        size = (self._kspace.shape[-2], self._kspace.shape[-1])
        levels = self._wavelets.default_levels(*size)
        padded = self._wavelets.padded_size(*size, levels)
        operator = self._operators.SenseOperator(self._mask.tensor(), self._maps, padded)
        transform = self._wavelets.WaveletTransform("db4", levels, padded)
        return float(transform.forward(operator.adjoint(self._kspace)).abs().max())

    def run(self, lam: float, gap_tol: float, max_iters: int) -> tuple[Any, dict[str, Any], float]:
        """The one place that knows our interface: the minimiser, its info, the seconds of the call."""
        start = time.perf_counter()
        image, info = self._classical.cs_wavelet(
            self._kspace,
            self._mask,
            self._maps,
            prior="orthonormal",
            reg_weight=lam,
            sigma=1.0,
            gap_tol=gap_tol,
            max_iters=max_iters,
            final_step=False,
        )
        return image, info, time.perf_counter() - start

    def solve(self, lam: float, iterations: int) -> dict[str, float]:
        return {"seconds": self.run(lam, 0.0, iterations)[2]}

    def certified(self, lam: float, gap_tol: float) -> dict[str, float]:
        """Run to the certificate: seconds, iterations, objective, relative gap."""
        _, info, seconds = self.run(lam, gap_tol, 5000)
        return {
            "seconds": seconds,
            "iterations": info["iterations"],
            "objective": info["objective"],
            "relative_gap": info["relative_gap"],
        }

    def trace(self, lam: float, marks: list[int]) -> list[float]:
        return [self._objective(lam, *self.run(lam, 0.0, mark)[:2]) for mark in marks]

    def espirit(self) -> float | None:
        try:
            from mri_recon.coils.espirit import espirit_maps
        except ImportError:
            return None
        start = time.perf_counter()
        espirit_maps(self._kspace[:1], self._mask)
        return time.perf_counter() - start

    def peak_memory(self, lam: float, iterations: int) -> float:
        self.solve(lam, iterations)
        return _high_water()

    def _objective(self, lam: float, image: Any, info: dict[str, Any]) -> float:
        """P of one slice in float64; as reported where the unknown is larger than the image."""
        torch = self._torch
        size = (image.shape[-2], image.shape[-1])
        if len(image) > 1 or tuple(info["padded_size"]) != size:
            return float(info["objective"])
        operator = self._operators.SenseOperator(self._mask.tensor(), self._maps.to(torch.complex128))
        transform = self._wavelets.WaveletTransform(info["wavelet"], info["levels"], size)
        x = image[0].to(torch.complex128)
        residual = operator.forward(x) - self._kspace[0]
        return 0.5 * float((residual.abs() ** 2).sum()) + lam * float(transform.forward(x).abs().sum())


def _serve(package: str, threads: int) -> None:
    worker: SigPy | Ours = {"sigpy": SigPy, "ours": Ours}[package](threads)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        sys.stdout.write(json.dumps(getattr(worker, name)(*arguments)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
