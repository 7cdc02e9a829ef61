"""Makes the pictures of the web pages: `make pictures`. Needs Debian's chromium and chromium-driver."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "acceptance")]

from browsing import browser, emulate
from installation import Installation
from ports import free_port
from showcase import start

PICTURES = {
    "worklist": ("/", "light"),
    "item": ("/items/1", "light"),
    "sources": ("/sources", "dark"),
    "scanners": ("/scanners?scanner=CT1&patient=P-100", "light"),
}


def main() -> None:
    """Start an installation, look at it, and save what is seen."""
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Path(folder))
        port = free_port()
        try:
            start(installation, port=port)
            (installation.folder / "research.csv").unlink()
            installation.wait_for_health("degraded")
            with browser() as chrome:
                chrome.set_window_size(1240, 860)
                for name, (path, scheme) in PICTURES.items():
                    emulate(chrome, scheme)
                    chrome.get(f"http://127.0.0.1:{port}{path}")
                    chrome.save_screenshot(str(HERE / f"{name}.png"))
        finally:
            installation.close()


if __name__ == "__main__":
    main()
