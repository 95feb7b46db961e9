"""The picture of docs/service/viewer.md: the embedded sample at 4x by the default methods, in a real browser.

    python docs/make_viewer_picture.py [FILE]

Needs Playwright (extra `dev`) and Debian's Chromium.
"""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from mri_recon_service.app import create_app
from mri_recon_service.settings import Settings


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/viewer.png")
    listener = socket.create_server(("127.0.0.1", 0))
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder)))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.05)
        try:
            _take(f"http://127.0.0.1:{listener.getsockname()[1]}", target)
        finally:
            server.should_exit = True
            thread.join()
    # Few gray levels and fewer colours: a palette keeps the file small.
    Image.open(target).convert("RGB").quantize(256).save(target, optimize=True)


def _take(address: str, target: Path) -> None:
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1366, "height": 768}).new_page()
        page.goto(address)
        expect(page.locator("input[name=method]")).not_to_have_count(0, timeout=60_000)
        page.locator("#welcome-sample").click()
        expect(page.locator("#metrics")).to_be_visible(timeout=300_000)
        expect(page.locator("#overall")).to_be_hidden()
        page.wait_for_timeout(500)
        page.screenshot(path=target)
        browser.close()


if __name__ == "__main__":
    main()
