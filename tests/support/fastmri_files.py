"""Files in fastMRI's layout, written with plain h5py."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

_HEADER = """<?xml version="1.0" encoding="UTF-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
 <experimentalConditions><H1resonanceFrequency_Hz>63890000</H1resonanceFrequency_Hz></experimentalConditions>
 <encoding>
  <encodedSpace><matrixSize><x>{readout}</x><y>{phase}</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>400</x><y>200</y><z>5</z></fieldOfView_mm></encodedSpace>
  <reconSpace><matrixSize><x>{rows}</x><y>{columns}</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>200</x><y>200</y><z>5</z></fieldOfView_mm></reconSpace>
  <encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum><center>{centre}</center>
  </kspace_encoding_step_1></encodingLimits>
 </encoding>
</ismrmrdHeader>"""


def write_fastmri(
    path: Path,
    *,
    shape: tuple[int, int, int, int] = (2, 3, 40, 24),
    recon: tuple[int, int] = (20, 24),
    patient: str = "",
    seed: int = 0,
) -> Path:
    """A multi-coil file as fastMRI writes it: smooth blobs, `shape` is (slice, coil, readout, phase)."""
    rng = np.random.default_rng(seed)
    slices, coils, readout, phase = shape
    y, x = np.mgrid[-1 : 1 : readout * 1j, -1 : 1 : phase * 1j]
    blobs = sum(
        rng.uniform(0.3, 1) * np.exp(-(((y - a) / 0.2) ** 2 + ((x - b) / 0.4) ** 2))
        for a, b in rng.uniform(-0.3, 0.3, size=(4, 2))
    )
    maps = np.exp(1j * rng.uniform(-3, 3, (coils, 1, 1))) * (1 + 0.4 * rng.normal(size=(coils, 1, 1)) * x)
    images = blobs * maps * rng.uniform(0.5, 1, (slices, 1, 1, 1))
    noise = rng.normal(size=(*images.shape, 2)).view(np.complex128)[..., 0] * 1e-3
    axes = (-2, -1)
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images + noise, axes), norm="ortho"), axes)
    rss = np.sqrt((np.abs(images + noise) ** 2).sum(1))
    rows, columns = (slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in zip((readout, phase), recon, strict=True))
    header = _HEADER.format(
        readout=readout, phase=phase, rows=recon[0], columns=recon[1], last=phase - 1, centre=phase // 2
    )
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace.astype(np.complex64)
        file["reconstruction_rss"] = rss[:, rows, columns].astype(np.float32)
        file["ismrmrd_header"] = header
        file.attrs["acquisition"] = "TEST"
        file.attrs["patient_id"] = patient or path.stem
        file.attrs["max"] = rss.max()
        file.attrs["norm"] = np.linalg.norm(rss)
    return path


def write_folder(folder: Path) -> Path:
    """Five files of four persons, for training on a user's own data."""
    folder.mkdir()
    for person in range(4):
        write_fastmri(folder / f"file{person}.h5", patient=f"person{person}", seed=person)
    # A second visit: it must follow its person.
    write_fastmri(folder / "file0-visit2.h5", patient="person0", seed=9)
    return folder
