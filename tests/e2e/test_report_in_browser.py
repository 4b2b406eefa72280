"""report.html in a real Chromium: sorting, pointing, keys, and nothing from outside."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from specmeasure.brief.figures import draw_figures
from tests.brief.reports import HOSTILE, html, kept_trace, kept_trial, rich, spell

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SPEED = "Speed against the target alone on the same prompts; above 1 is faster"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
FETCH = """async () => {
    const told = new Promise((resolve) => {
        document.addEventListener("securitypolicyviolation", (e) => resolve(e.violatedDirective));
    });
    fetch("https://example.invalid/").catch(() => {});
    return told;
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every figure, several prompts and arms, and hostile names."""
    trials = [
        kept_trial(prompt_id, arm)
        for prompt_id in ("p-017", HOSTILE)
        for arm in ("draft k=2", "draft k=4", "draft k=8")
    ]
    records = rich(category=HOSTILE)
    path = tmp_path_factory.mktemp("report") / "report.html"
    page = html(records, kept_trace(*trials), spell, figures=draw_figures(*records[1:]))
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: the report is not looked at")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def window(chromium: Browser) -> Page:
    opened = chromium.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(5_000)
    return opened


@pytest.fixture
def page(window: Page, report: Path) -> Iterator[Page]:
    """The report as it opens; whatever it says, asks for or pops up must be nothing."""
    said: list[str] = []
    listeners: dict[Any, Callable[[Any], None]] = {
        "console": lambda message: said.append(message.text),
        "pageerror": lambda error: said.append(str(error)),
        "request": lambda request: said.append(request.url),
        "dialog": lambda dialog: (said.append(dialog.message), dialog.dismiss()),
    }
    for event, listener in listeners.items():
        window.on(event, listener)
    window.goto(report.as_uri())
    yield window
    for event, listener in listeners.items():
        window.remove_listener(event, listener)
    assert [report.as_uri()] == said


def column(page: Page, name: str) -> list[str]:
    """The cells of one column of the table of speeds, as they stand."""
    table = page.get_by_role("table", name=SPEED)
    names = [text.split("\u00a0")[0] for text in table.locator("th").all_inner_texts()]
    cells = table.locator("tbody tr").all()
    return [row.locator("td").nth(names.index(name)).inner_text() for row in cells]


def test_columns_sort_by_their_numbers(page: Page):
    """Up, then down; what was not measured comes last both times."""
    button = page.get_by_role("table", name=SPEED).get_by_role("button", name="Decode speedup")
    button.click()
    rising = column(page, "Decode speedup")
    header = page.locator("th[aria-sort]")
    assert ["ascending"] == [one.get_attribute("aria-sort") for one in header.all()]
    button.click()
    falling = column(page, "Decode speedup")

    assert ["0.88", "1.003", "1.08", "1.31", "1.42"] == [cell.split("×")[0] for cell in rising]
    assert rising[::-1] == falling
    assert "descending" == header.get_attribute("aria-sort")


def test_unknown_cells_stay_last(page: Page):
    """A dash is no number: not the smallest, not the largest."""
    button = page.get_by_role("table", name=SPEED).get_by_role("button", name="Median prompt")
    for _ in range(2):
        button.click()

        assert "–" == column(page, "Median prompt")[-1]
        assert "–" != column(page, "Median prompt")[0]


def test_keys_sort_too(page: Page):
    """A column's name can be reached and pressed without a mouse; K = 2 comes before K = 8."""
    page.get_by_role("table", name=SPEED).get_by_role("button", name="Arm").focus()
    page.keyboard.press("Enter")

    assert ["baseline A/A", "draft k=2", "draft k=4", "draft k=8", "ngram k=8"] == column(
        page, "Arm"
    )


def test_pointing_at_a_token_tells_its_chances(page: Page):
    """Kind, both chances, block and place; of rejected drafts those that were judged."""
    tip = page.locator("#tip")
    page.locator("#answer .recovered").first.hover()
    assert "recovered: the target's, in place of a rejected draft" in tip.inner_text()
    assert "target 64 %, draft 50 %" in tip.inner_text()
    assert "token 4, block 1, position 3" in tip.inner_text()
    first, second = page.locator("#answer .rejected").all()
    first.hover()
    assert "rejected draft\ntarget 4 %, draft 61 %\nblock 1, draft 3 of 4" == tip.inner_text()
    second.hover()

    assert "target" not in tip.inner_text()
    assert "dropped draft: it stood behind a rejected one" in tip.inner_text()


def test_tokens_are_reached_by_keys(page: Page):
    """Tab enters the answer once, arrows move through it, and each token explains itself."""
    page.locator("#answer .token").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")

    assert " w3" == page.locator("#answer .token:focus").inner_text().replace("\xa0", " ")
    assert "token 3, block 1, draft 2 of 4" in page.locator("#tip").inner_text()
    assert 1 == page.locator("#answer .token[tabindex='0']").count()


def test_answers_are_chosen_by_prompt_and_arm(page: Page):
    """The arm of the headline comes first; another prompt keeps the arm; text stays text."""
    arm, prompt = page.get_by_label("Arm", exact=True), page.get_by_label("Prompt", exact=True)
    assert "draft k=4" == arm.locator("option:checked").inner_text()
    arm.select_option("draft k=8")
    prompt.select_option(index=1)

    assert "draft k=8" == arm.locator("option:checked").inner_text()
    assert prompt.locator("option:checked").inner_text().startswith(HOSTILE)
    assert HOSTILE[:60] in page.locator("#answer").inner_text()


def test_the_page_may_ask_for_nothing(window: Page, report: Path):
    """A script on the page that tries to reach the network is stopped by the page's policy."""
    window.goto(report.as_uri())

    assert "connect-src" == window.evaluate(FETCH)


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_runs_off_the_side(page: Page, width: int, scheme: str):
    """Wide tables scroll by themselves; the page does not."""
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 900})

    assert 0 == page.evaluate(OVERFLOW)


def test_it_fits_on_paper(page: Page):
    """A4 between its margins is 718 pixels wide; tables break their lines, nothing is cut."""
    page.set_viewport_size({"width": 718, "height": 1000})
    page.emulate_media(media="print")
    width = page.evaluate(OVERFLOW)
    page.emulate_media(media="screen")

    assert 0 == width
