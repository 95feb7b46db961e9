"""Send a scan to a running `mri-recon serve`: python python_client.py http://127.0.0.1:8000 scan.h5 4."""

import io
import json
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np

service, path, acceleration = sys.argv[1:4]
fields = {"method": "cs-wavelet", "acceleration": acceleration, "seed": 0, "filename": path}
headers = {"Content-Type": "application/octet-stream", "Accept": "application/x-npy"}
url = f"{service}/v1/reconstructions?{urllib.parse.urlencode(fields)}"
request = urllib.request.Request(url, Path(path).read_bytes(), headers)
with urllib.request.urlopen(request) as answer:
    image = np.load(io.BytesIO(answer.read()))
    mask = json.loads(answer.headers["X-Mask-Receipt"])
print(f"{image.dtype} image of shape {image.shape}, {mask['num_lines']} of {mask['support_width']} columns")
