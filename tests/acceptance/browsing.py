"""A real browser: Chromium as Debian has it, driven by Selenium."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from foreign.servers import needed
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--window-size=1280,900")  # fmt: skip


@contextmanager
def browser() -> Iterator[Chrome]:
    """Give a browser with a profile of its own."""
    options = ChromeOptions()
    options.binary_location = needed("chromium", "chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for option in _OPTIONS:
        options.add_argument(option)
    chrome = Chrome(options=options, service=Service(needed("chromedriver", "chromium-driver")))
    try:
        yield chrome
    finally:
        chrome.quit()


def emulate(chrome: Chrome, scheme: str) -> None:
    """Let the pages be shown `dark` or `light`."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
