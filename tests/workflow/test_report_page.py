"""The report as a reader sees it: opened in Chromium and clicked through."""

import os
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1600,1000",
]
SECONDS = 60


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium with a fresh profile."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Debian's chromium and chromium-driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Selenium would ask a network for a driver if it were not given one.
    service = webdriver.ChromeService(executable_path=driver, env=os.environ | {"SE_OFFLINE": "true"})
    session = webdriver.Chrome(options=options, service=service)
    yield session
    session.quit()


class Report:
    """The report's page, and what a reader does with it."""

    def __init__(self, browser, address: str):
        self.browser, self.address = browser, address

    def open(self) -> None:
        self.browser.switch_to.default_content()
        self.browser.get(self.address)
        self.wait(lambda: self.browser.find_elements(By.LINK_TEXT, "Workflow"))

    def wait(self, condition):
        return WebDriverWait(self.browser, SECONDS).until(lambda _: condition())

    def open_category(self, name: str) -> None:
        self.open()
        self.browser.find_element(By.LINK_TEXT, name).click()
        self.wait(self.entries)

    def entries(self) -> list[str]:
        """What the open category lists."""
        return [cell.text for cell in self.browser.find_elements(By.CSS_SELECTOR, "nav tbody tr td:first-child")]

    def buttons(self, entry: str) -> list:
        """The two buttons of an entry: see it, and what it is."""
        (row,) = [
            row for row in self.browser.find_elements(By.CSS_SELECTOR, "nav tbody tr") if row.text.strip() == entry
        ]
        return row.find_elements(By.TAG_NAME, "a")

    def see(self, entry: str) -> None:
        self.buttons(entry)[0].click()

    def caption(self, entry: str) -> str:
        self.buttons(entry)[1].click()
        return self.wait(lambda: self.browser.find_element(By.CSS_SELECTOR, "nav .prose").text)

    def image_size(self) -> tuple[int, int]:
        # The navigation shows a logo.
        chosen = "img[src^='data:image/svg']:not(nav img)"
        image = self.wait(lambda: self.browser.find_element(By.CSS_SELECTOR, chosen))
        self.wait(lambda: self.browser.execute_script("return arguments[0].complete", image))
        return tuple(
            self.browser.execute_script("return [arguments[0].naturalWidth, arguments[0].naturalHeight]", image)
        )

    def enter_page(self) -> None:
        """Go into the page that is shown."""
        frame = self.wait(lambda: self.browser.find_element(By.TAG_NAME, "iframe"))
        self.browser.switch_to.frame(frame)
        self.wait(lambda: self.browser.find_elements(By.TAG_NAME, "h1") or self.cells())

    def cells(self) -> list[list[str]]:
        """The first table of the page, row by row."""
        tables = self.browser.find_elements(By.TAG_NAME, "table")
        if not tables:
            return []
        return [
            [cell.text for cell in row.find_elements(By.CSS_SELECTOR, "th, td")]
            for row in tables[0].find_elements(By.TAG_NAME, "tr")
        ]

    def text(self) -> str:
        return self.browser.find_element(By.TAG_NAME, "body").text


@pytest.fixture
def page(browser, report) -> Report:
    """The report, opened again; its scripts must have logged no error when the test ends."""
    page = Report(browser, report.as_uri())
    page.open()
    yield page
    errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []


def test_the_report_lists_its_categories(page):
    links = [link.text for link in page.browser.find_elements(By.CSS_SELECTOR, "nav li a")]
    links = [link for link in links if link]  # one is an image
    assert links == ["Workflow", "Statistics", "About", "Configuration", "Figures", "Row curves", "Row logs", "Tables"]


def test_the_front_page_names_rows_seeds_and_precision(page):
    assert "all rows of rows.yaml, with seed 123, in float32." in page.text()


def test_a_figure_opens(page):
    page.open_category("Figures")
    assert "Test accuracy of all rows" in page.entries() and len(page.entries()) == 5
    page.see("Test accuracy of all rows")
    assert min(page.image_size()) > 100


def test_a_row_s_curves_open_under_what_the_row_changes(page):
    page.open_category("Row curves")
    assert page.entries() == ["1: defaults", "2: all layers"]
    page.see("2: all layers")
    assert min(page.image_size()) > 100


def test_the_table_opens_as_a_table(page, report):
    page.open_category("Tables")
    assert page.entries() == ["Interpretation", "Published and reproduced", "Table"]
    page.see("Table")
    page.enter_page()
    cells = page.cells()
    assert cells[0][1:3] == ["Model", "Weights"] and cells[0][-1] == "CPU/GPU"
    written = (report.parent / "table.md").read_text().splitlines()
    assert cells[1] == [cell.strip() for cell in written[2].strip("|").split("|")]
    assert "|" not in page.text()


@pytest.mark.parametrize(
    ("entry", "heading"),
    [("Published and reproduced", "Published and reproduced"), ("Interpretation", "What the runs say")],
)
def test_the_other_tables_open(page, entry, heading):
    page.open_category("Tables")
    page.see(entry)
    page.enter_page()
    assert page.browser.find_element(By.TAG_NAME, "h1").text == heading
    assert len(page.cells()) > 1 and "|" not in page.text() and "##" not in page.text()


def test_a_row_s_log_opens(page):
    page.open_category("Row logs")
    page.see("2: all layers")
    page.enter_page()
    assert "Row 2: all layers" in page.text() and "epoch 1, step 0: training loss" in page.text()


def test_the_configuration_opens_with_what_was_overridden(page):
    page.open_category("Configuration")
    page.see(*page.entries())
    page.enter_page()
    assert "messages.tsv" in page.text() and "trainable_layers: all" in page.text() and "n_embd: 8" in page.text()


@pytest.mark.parametrize("category", ["Configuration", "Figures", "Row curves", "Row logs", "Tables"])
def test_every_entry_has_a_caption(page, category):
    page.open_category(category)
    for entry in page.entries():
        page.open_category(category)
        assert len(page.caption(entry)) > 20
