"""Send a scan to a running `mri-recon serve`: python python_client.py http://127.0.0.1:8000 scan.h5 4."""

import io
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np

service, path, acceleration = sys.argv[1:4]
query = f"method=cs-wavelet&acceleration={acceleration}&filename=scan{Path(path).suffix}"
headers = {"Content-Type": "application/octet-stream", "Accept": "application/x-npy"}
with urlopen(Request(f"{service}/v1/reconstructions?{query}", Path(path).read_bytes(), headers)) as answer:
    print(np.load(io.BytesIO(answer.read())).shape, answer.headers["X-Mask-Receipt"])
