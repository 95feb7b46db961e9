"""k-space and files as other programs write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

Complex = npt.NDArray[np.complex64]
WriteFastMRI = Callable[..., Path]

# The layout of a knee file's header: namespaced, an empty element, limits that leave padded columns on both sides.
HEADER = """<?xml version="1.0" encoding="utf-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xmlns:xs="http://www.w3.org/2001/XMLSchema" xsi:schemaLocation="http://www.ismrm.org/ISMRMRD ismrmrd.xsd">
  <studyInformation><studyTime>12:47:56</studyTime></studyInformation>
  <measurementInformation><measurementID>1</measurementID><patientPosition>HFS</patientPosition></measurementInformation>
  <acquisitionSystemInformation><receiverChannels>{coils}</receiverChannels></acquisitionSystemInformation>
  <experimentalConditions><H1resonanceFrequency_Hz>123255074</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace>
      <matrixSize><x>{readout}</x><y>{phase}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>280</x><y>161</y><z>4.5</z></fieldOfView_mm>
    </encodedSpace>
    <reconSpace>
      <matrixSize><x>{h}</x><y>{w}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>140</x><y>140</y><z>4.5</z></fieldOfView_mm>
    </reconSpace>
    <trajectory>cartesian</trajectory>
    <encodingLimits>
      <kspace_encoding_step_1><minimum>0</minimum><maximum>{maximum}</maximum><center>{center}</center></kspace_encoding_step_1>
      <slice><minimum>0</minimum><maximum>0</maximum><center>0</center></slice>
    </encodingLimits>
  </encoding>
  <sequenceParameters><TR>2750</TR><TE>27</TE><TI>100</TI></sequenceParameters>
</ismrmrdHeader>
"""


def header(
    readout: int, phase: int, h: int, w: int, *, coils: int = 1, maximum: int | None = None, center: int | None = None
) -> str:
    """An ISMRMRD header with limits of every column unless told otherwise."""
    return HEADER.format(
        readout=readout,
        phase=phase,
        h=h,
        w=w,
        coils=coils,
        maximum=phase - 1 if maximum is None else maximum,
        center=phase // 2 if center is None else center,
    )


@pytest.fixture(scope="session")
def make_header() -> Callable[..., str]:
    return header


@pytest.fixture
def noise() -> Callable[..., Complex]:
    """Complex white noise of a shape: every sample is there."""

    def make(*shape: int, seed: int = 0) -> Complex:
        rng = np.random.default_rng(seed)
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)

    return make


@pytest.fixture
def write_fastmri(tmp_path: Path) -> WriteFastMRI:
    """A fastMRI file written with plain h5py."""

    def write(
        kspace: npt.NDArray[Any], *, name: str = "file.h5", attrs: dict[str, Any] | None = None, **arrays: Any
    ) -> Path:
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            file["kspace"] = kspace
            for key, value in arrays.items():
                file[key] = value
            file.attrs.update(attrs or {})
        return path

    return write
