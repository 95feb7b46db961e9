"""Send DICOM images to a PACS: by DICOMweb (STOW-RS) or by DICOM's own protocol (C-STORE).

`collect` finds the instances in results, `send` transfers them to a `StowTarget` or a `DicomTarget`, `echo` asks
whether one answers. Needs the extra `pacs`.

DICOM PS3.18 2024e section 10.5 (STOW-RS), PS3.4 2024e annex B (C-STORE), annex A (C-ECHO).
"""

from __future__ import annotations

from mri_recon.pacs.instances import Collected, Instance, collect
from mri_recon.pacs.outcome import Outcome
from mri_recon.pacs.sending import Retries, echo, send
from mri_recon.pacs.targets import Credentials, DicomTarget, StowTarget, Target, Tls, parse_dicom, parse_stow

__all__ = [
    "Collected",
    "Credentials",
    "DicomTarget",
    "Instance",
    "Outcome",
    "Retries",
    "StowTarget",
    "Target",
    "Tls",
    "collect",
    "echo",
    "parse_dicom",
    "parse_stow",
    "send",
]
