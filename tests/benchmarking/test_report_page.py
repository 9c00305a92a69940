"""The report's page in a real browser: quiet, alone, sortable, and within the screen."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmark_grid import write_grid
from benchmark_results import make_suite
from browser import ABSENT, PROGRAM, Page, browser

import pretrainrl

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=ABSENT)
COLUMN = "[...document.querySelectorAll('#scores tbody tr:not([hidden])')].map(row => row.cells[{}].textContent)"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    tasks = {
        "bc": {"agent": "bc", "preset": "short", "length": 2, "dataset": "pretrainrl/atari/{game}-expert-v0"},
        "rainbow": {"agent": "rainbow", "preset": "short", "length": 96},
    }
    games = {"id": ["boxing", "breakout", "asteroids"], "near_ood": ["pong"], "far_ood": ["klax"]}
    suite = make_suite(tasks=tasks, games=games, evaluation={"episodes": 4, "max_episode_steps": 9})
    suite.write(folder / "mine.toml")
    write_grid(folder, suite, [f"{name}.impala_atari8" for name in ("curl", "atc", "bc", "cql_m", "dt")], seeds=2)
    return pretrainrl.report(folder, suite=folder / "mine.toml").page


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as opened:
        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_it_fits_and_is_quiet_and_alone(page: Page, report: Path, width: int, scheme: str, tmp_path: Path) -> None:
    page.open(report, width=width, scheme=scheme)
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.complaints == [] and page.requests == [report.resolve().as_uri()]
    assert page.picture(tmp_path / "page.png", height=900).stat().st_size > 10_000
    paper = page.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) > 380) == (scheme == "light")


def test_headings_sort_by_mouse_and_keyboard(page: Page, report: Path) -> None:
    page.open(report)
    best = page.run("[...document.querySelectorAll('#scores thead th')].findIndex(one => one.textContent === 'cql_m')")
    page.run(f"document.querySelectorAll('#scores thead button')[{best}].click()")
    values = [float(value) for value in page.run(COLUMN.format(best)) if value[0].isdigit()]
    assert len(values) == 8 and values == sorted(values, reverse=True)
    assert page.run(f"document.querySelectorAll('#scores thead th')[{best}].getAttribute('aria-sort')") == "descending"
    page.run("document.querySelectorAll('#scores thead button')[0].focus()")
    page.press("Enter", "\r")
    names = page.run(COLUMN.format(0))
    assert names == sorted(names) and page.run("document.querySelectorAll('#scores [aria-sort]').length") == 1
    page.press("Enter", "\r")
    assert page.run(COLUMN.format(0)) == sorted(names, reverse=True)


def test_the_table_filters(page: Page, report: Path) -> None:
    page.open(report)
    choose = (
        "{{ const form = document.getElementById('filters'); form.{}.value = '{}'; form.dispatchEvent(new Event('input')); }}"
    )
    page.run(choose.format("game", "bo"))
    assert page.run(COLUMN.format(0)) == ["Boxing", "Boxing"]
    page.run(choose.format("task", "rainbow"))
    assert page.run(COLUMN.format(1)) == ["rainbow"] and "1 of 10 rows" in page.run("document.body.innerText")
    before = page.run(COLUMN.format(8))
    page.run(choose.format("scale", "r"))
    assert page.run(COLUMN.format(8)) != before
    assert page.complaints == []


def test_an_encoder_is_marked_in_all_figures(page: Page, report: Path) -> None:
    page.open(report)
    page.run("[...document.querySelectorAll('.legend button')].find(one => one.textContent === 'atc').focus()")
    page.press("Space", " ")
    assert page.run("document.querySelectorAll('.lit').length") > 10
    assert page.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert page.run("new Set([...document.querySelectorAll('tr.lit > th')].map(one => one.textContent)).size") == 1
    page.press("Space", " ")
    assert page.run("document.querySelectorAll('.lit').length") == 0


def test_a_screen_reader_finds_names(page: Page, report: Path) -> None:
    page.open(report)
    nodes = [node for node in page.call("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]
    roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes]
    named = {"image", "button", "link", "combobox", "searchbox", "region", "group", "table", "heading"}
    assert {"image", "button", "table", "heading", "region", "searchbox"} <= {role for role, _ in roles}
    nameless = [role for role, name in roles if role in named and not name.strip()]
    assert [role for role in nameless if role not in ("group", "table")] == []
    page.press("Tab")
    assert page.run("document.activeElement.textContent") == "Skip to the results"


CONTRAST = """
(() => {
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = color => {
    const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map(v => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b + .05;
  };
  const paper = light(getComputedStyle(document.body).backgroundColor), words = [];
  for (const one of document.querySelectorAll("main :is(p, th, td, small, button, span, figcaption, dt, dd)")) {
    const ink = light(getComputedStyle(one).color);
    if (one.innerText && Math.max(ink / paper, paper / ink) < 4.5) words.push(one.innerText);
  }
  return words;
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(page: Page, report: Path, scheme: str) -> None:
    page.open(report, scheme=scheme)
    assert page.run(CONTRAST) == []
