"""An S3 server for the tests, in a process of its own: moto's. It keeps everything in its memory."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import uuid
from typing import Any

import httpx
import pytest

from tests.support.patience import PATIENCE

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "geheim",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class S3Server:
    """A server on a free loopback port."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self._process.poll() is None
            try:
                httpx.get(self.address, trust_env=False)
                return
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def client(self) -> Any:
        """Make an independent client."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.address,
            aws_access_key_id="tests",
            aws_secret_access_key="geheim",
            region_name="us-east-1",
        )

    def bucket(self) -> str:
        """Make an empty bucket, and return its name."""
        name = f"b{uuid.uuid4().hex}"
        client = self.client()
        client.create_bucket(Bucket=name)
        client.close()
        return name

    def stop(self) -> None:
        """Stop the server."""
        self._process.terminate()
        self._process.wait(PATIENCE)


def skip_without_s3() -> None:
    """Skip a test, with the reason, where the extra `cluster` or the server is missing."""
    pytest.importorskip("obstore", reason="needs the extra `cluster`")
    for name in ("moto", "flask_cors", "boto3"):
        pytest.importorskip(name, reason="needs moto's S3 server, of the extra `dev`")
