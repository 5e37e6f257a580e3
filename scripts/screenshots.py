"""Makes docs/calls.png and docs/call.png: the pages inside of mitmweb, with records made up."""

import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from live.harness import (  # noqa: E402 - they stand in the tests
    WEB_PASSWORD,
    Gateway,
    Provider,
    config_for,
)
from made import log  # noqa: E402
from pages import samples  # noqa: E402

SIZE = {"width": 1180, "height": 720}
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Start a gateway over the records, look at its pages, and end it."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        sys.exit("screenshots: no Chromium here; install the package chromium")
    with tempfile.TemporaryDirectory() as name:
        folder, provider = Path(name), Provider()
        (folder / "log").mkdir(mode=0o700)
        now = time.time()
        records = [*samples.day(now - 700), *samples.missed(now - 200)]
        log(folder / "log" / "records.jsonl", records)
        gateway = Gateway(folder, config_for(provider.url), program="mitmweb")
        try:
            found = re.search(r"calls: (\S+)", gateway.output)
            assert found, gateway.output
            take(program, found[1], records[-1].id)
        finally:
            gateway.stop()
            provider.stop()


def take(program: str, address: str, call: str) -> None:
    """The two pictures, from the address of the list."""
    from playwright.sync_api import sync_playwright

    headers = {"Authorization": f"Bearer {WEB_PASSWORD}"}
    flags = "--no-sandbox --disable-gpu --disable-background-networking --disable-sync".split()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        context = browser.new_context(
            viewport=SIZE, device_scale_factor=1.5, color_scheme="light", extra_http_headers=headers
        )
        page = context.new_page()
        whole(page, address)
        page.screenshot(path=ROOT / "docs" / "calls.png")
        page.goto(f"{address}/{call}")
        page.screenshot(path=ROOT / "docs" / "call.png")
        browser.close()


def whole(page: Any, address: str) -> None:
    """Wait until the log is read."""
    page.goto(address)
    while page.locator("[data-ready=no]").count():
        time.sleep(0.2)
        page.goto(address)


if __name__ == "__main__":
    main()
