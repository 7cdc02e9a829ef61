"""The pages in a real browser: what people do with them, for whom they are readable, and what is printed."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from browsing import browser, emulate
from installation import Installation, wait_until
from npm_packages import install_packages
from ports import free_port
from pypdf import PdfReader
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from showcase import CLINIC, SHOWN, start, write

PASSWORD = "a long password"
PAGES = ("/", "/?patient=nobody", "/?date=2001-01-01", "/items/1", "/sources", "/scanners?scanner=CT1&patient=P-100",
         "/scanners?scanner=CT1&patient=nobody", "/nothing")  # fmt: skip
WCAG = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']"


class Person:
    """Somebody before a browser."""

    def __init__(self, chrome: Chrome, base: str, installation: Installation) -> None:
        self.chrome = chrome
        self.base = base
        self.installation = installation

    def visit(self, path: str) -> None:
        self.chrome.get(self.base + path)

    def read(self) -> str:
        return self.chrome.find_element(By.TAG_NAME, "body").text

    def fill_in(self, **fields: str) -> None:
        """Fill in the form of the page and send it."""
        form = self.chrome.find_element(By.CSS_SELECTOR, "main form")
        for name, value in fields.items():
            field = form.find_element(By.NAME, name)
            field.clear()
            field.send_keys(value)
        self.follow(form.find_element(By.TAG_NAME, "button"))

    def follow(self, element: WebElement) -> None:
        """Click on a link or button, and wait until the next page has taken this one's place."""
        self.chrome.execute_script("window.isLeft = true")
        element.click()
        is_there = "return !window.isLeft && document.readyState === 'complete'"
        wait_until(lambda: self.chrome.execute_script(is_there), "the next page is shown")

    def follow_link(self, text: str) -> None:
        self.follow(self.chrome.find_element(By.PARTIAL_LINK_TEXT, text))

    def log_in(self, password: str = PASSWORD) -> None:
        self.fill_in(user="anna", password=password)

    def look_again(self) -> None:
        """Come back to the page: it brings itself up to date, as it does every half minute."""
        self.chrome.execute_script("document.dispatchEvent(new Event('visibilitychange'))")

    def shows_after_a_look(self, text: str) -> bool:
        self.look_again()
        return text in self.read()

    def texts(self, selector: str) -> list[str]:
        """What parts of the page say, at one moment: it may bring itself up to date at any."""
        script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText)"
        return list(self.chrome.execute_script(script, selector))


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    installation = Installation(tmp_path_factory.mktemp("browser"))
    installation.environment["ANNA_PASSWORD"] = PASSWORD
    port = free_port()
    try:
        start(installation, port=port, users={"anna": {"password_env": "ANNA_PASSWORD"}})
        with browser() as chrome:
            somebody = Person(chrome, f"http://127.0.0.1:{port}", installation)
            somebody.visit("/")
            somebody.log_in()
            yield somebody
        assert installation.terminate() == 0
    finally:
        installation.close()


@pytest.fixture(scope="module")
def axe() -> str:
    packages = install_packages(Path(__file__).with_name("axe"))
    return (packages / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def violations(chrome: Chrome, axe: str) -> list[Any]:
    chrome.execute_script(axe)
    found = chrome.execute_async_script(
        f"axe.run({{runOnly: {WCAG}}}).then((result) => arguments[0](result.violations), (error) => arguments[0]([String(error)]))"
    )
    return [(one["id"], [node["html"] for node in one["nodes"]]) if isinstance(one, dict) else one for one in found]


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_every_page_is_accessible(person: Person, axe: str, scheme: str) -> None:
    emulate(person.chrome, scheme)
    for path in PAGES:
        person.visit(path)
        assert violations(person.chrome, axe) == [], path
    problems = [entry["message"] for entry in person.chrome.get_log("browser") if "404" not in entry["message"]]
    assert problems == []


def test_large_type_never_has_to_be_scrolled_sideways(person: Person) -> None:
    person.chrome.set_window_size(500, 900)
    for path in PAGES:
        person.visit(path)
        too_wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert person.chrome.execute_script(too_wide) <= 0, path
        # A very long ID is not broken, but what to do is always in sight.
        edges = "return [...document.querySelectorAll('.advice')].map((one) => one.getBoundingClientRect().right)"
        assert all(edge <= 500 for edge in person.chrome.execute_script(edges)), path
    person.chrome.set_window_size(1280, 900)


def test_login_and_the_way_back_to_where_one_wanted_to_go(person: Person, axe: str) -> None:
    person.visit("/")
    person.follow(person.chrome.find_element(By.CSS_SELECTOR, "header form button"))
    assert "Log in" in person.read()
    person.visit("/?patient=P-100")
    person.log_in("wrong")
    assert "not the right user and password" in person.read()
    assert violations(person.chrome, axe) == []
    person.log_in()
    assert person.chrome.current_url == f"{person.base}/?patient=P-100"
    assert "Lovelace, Ada" in person.read()
    assert "Curie, Marie" not in person.read()


def test_from_the_day_by_a_filter_to_the_history_of_an_item(person: Person) -> None:
    person.visit("/")
    assert all(patient in person.read() for patient in SHOWN)
    person.fill_in(patient="curie*")
    assert "Lovelace" not in person.read()
    person.follow_link("Curie")
    text = person.read()
    assert "Knee right differs" in text
    assert "source clinic says Knee left" in text or "clinic says Knee left, research says Knee right" in text
    person.follow_link("The whole day")
    assert "Lovelace" in person.read()


def test_why_a_patient_is_not_on_a_scanner(person: Person) -> None:
    person.visit("/scanners")
    person.fill_in(scanner="CT1", patient="P-100")
    assert "does not appear on CT1" in person.read()
    assert "wants CT, the item has MR" in person.read()
    person.fill_in(scanner="MR1", patient="P-100")
    assert "appears on MR1" in person.read()


def test_a_source_that_breaks_and_recovers_while_one_looks(person: Person) -> None:
    person.visit("/sources")
    wait_until(lambda: person.shows_after_a_look("All is well"), person.read)
    person.chrome.execute_script("window.isStillThisPage = true; document.querySelector('header a').focus()")
    (person.installation.folder / "clinic.csv").unlink()
    wait_until(lambda: person.shows_after_a_look("It is tried again by itself"), person.read)
    assert [row.split()[0] for row in person.texts("tr.changed th")] == ["clinic"]
    write(person.installation, "clinic.csv", [*CLINIC, "A9,P-900,New^Patient,1990-01-01,F,{day},16:00,Hip,MR1"])
    wait_until(lambda: person.shows_after_a_look("All is well"), person.read)
    assert person.chrome.execute_script("return window.isStillThisPage && document.activeElement.tagName === 'A'")


def test_who_is_new_on_the_list_is_marked_and_an_answer_that_fails_is_told(person: Person) -> None:
    person.visit("/?modality=MR")
    write(person.installation, "clinic.csv", [*CLINIC, "A10,P-910,Late^Comer,1990-01-01,F,{day},16:30,Hip,MR1"])

    def marked() -> bool:
        person.look_again()
        return any("Late, Comer" in row and "new" in row for row in person.texts("tr.changed"))

    wait_until(marked, person.read)
    person.chrome.execute_script("window.fetch = () => Promise.reject(new Error('no network'))")
    person.look_again()
    wait_until(lambda: "Not up to date" in person.read(), person.read)
    assert "Late, Comer" in person.read()


def test_printed_it_is_a_sheet_per_scanner_and_no_id_is_broken(person: Person) -> None:
    person.visit("/")
    pdf = PdfReader(BytesIO(base64.b64decode(person.chrome.print_page())))
    sheets = [page.extract_text() for page in pdf.pages]
    assert len(sheets) == 2
    assert [sheet.lstrip().split()[0] for sheet in sheets] == ["MR1", "MR2"]
    assert all(any(patient in sheet for sheet in sheets) for patient in SHOWN)
    assert "Sources" not in sheets[0]


def test_without_javascript_everything_works(person: Person) -> None:
    person.chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        person.visit("/")
        person.fill_in(patient="P-100")
        assert "Lovelace, Ada" in person.read()
        assert "Curie, Marie" not in person.read()
        person.visit("/sources")
        assert "Refused records" in person.read()
    finally:
        person.chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
