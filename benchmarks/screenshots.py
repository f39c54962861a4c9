"""The two pictures of a page in docs/: on a desktop and on a phone.

    duygu compare src/duygu/data/demo/news --model tiny --seeds 13,42,87 --set epochs=4 --out OUT
    python benchmarks/screenshots.py OUT/report.html --out docs

Writes page-desktop.png (light) and page-phone.png (dark), with headless Chromium. A phone is narrower than a window of
Chromium may be, so there the page stands in a frame.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = (1280, 1700), (390, 1700)
ROOM = 55  # on either side of the phone
FRAME = '<!DOCTYPE html><body style="margin:0;background:#888"><iframe src="{}" style="display:block;margin:0 {}px;'
SIZE = 'width:{}px;height:{}px;border:0"></iframe>'


def shoot(browser: str, address: str, width: int, height: int, out: Path, dark: bool) -> None:
    """Write the first ``width`` x ``height`` pixels of a page as PNG."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--window-size={width},{height}", f"--screenshot={out}", "--allow-file-access-from-files"]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    subprocess.run([*command, address], check=True, capture_output=True, timeout=60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"no browser: install one of {', '.join(BROWSERS)}")
    address = options.page.resolve().as_uri()
    shoot(browser, address, *DESKTOP, options.out / "page-desktop.png", dark=False)
    width, height = PHONE
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder) / "phone.html"
        frame.write_text(FRAME.format(address, ROOM) + SIZE.format(width, height), encoding="utf-8")
        shoot(browser, frame.as_uri(), width + 2 * ROOM, height, options.out / "page-phone.png", dark=True)


if __name__ == "__main__":
    main()
