"""The service's parts that hold bytes and NumPy arrays load without PyTorch, the processes that read uploads too."""

from __future__ import annotations

import subprocess
import sys

PARTS = [
    *("answers.bundle", "answers.png", "answers.rendering", "schemas", "cli", "routes.masks", "routes.sample"),
    *("http.keys", "http.logs", "http.middleware", "http.negotiation", "http.openapi", "http.prometheus"),
    *("client", "storage.files", "storage.sqlite", "uploads.parser", "uploads.parser_pool", "uploads.receive"),
]


def test_parts_that_need_no_tensor() -> None:
    imports = "\n".join(f"import mri_recon_service.{part}" for part in PARTS)
    found = f"{imports}\nimport sys\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", found], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
