"""The report and Data Docs in a real browser: they ask for nothing, complain of nothing, and fit the window."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from expectations.datadocs import self_contained
from expectations.report.page import render
from tests.expectations.reporting import HOSTILE, NOW, subjects
from tests.waiting import PATIENCE_S

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WAYS = [(width, theme) for width in (1280, 390) for theme in ("light", "dark")]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(subjects(), NOW), encoding="utf-8")
    return path


def chromium(path: Path, folder: Path, width: int, theme: str, script: str = "") -> tuple[list[str], str]:
    """Open a page: what it asked the network for, and what the console said."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("CI has no chromium: .ci/run must install it")
        pytest.skip("there is no chromium")
    log = folder / f"net-{width}-{theme}.json"
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--disable-background-networking", "--disable-component-update", "--no-first-run",
            f"--user-data-dir={folder / f'profile-{width}-{theme}'}", f"--window-size={width},1200",
            f"--blink-settings=preferredColorScheme={1 if theme == 'light' else 0}",
            "--enable-logging=stderr", f"--log-net-log={log}", "--virtual-time-budget=3000", "--dump-dom",
            *([f"--screenshot={folder / f'{width}-{theme}.png'}"] if not script else []),
            path.as_uri() + script,
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    asked = set(re.findall(r'"url":"((?:https?|wss?|ftp):[^"]+)"', log.read_text(errors="replace")))
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    ours = sorted(url for url in asked if not _of_the_browser_itself(url))
    return ours, "\n".join(complaints)


def _of_the_browser_itself(url: str) -> bool:
    """What a browser asks its maker, whatever page it shows."""
    host = re.sub(r"^\w+://([^/:]+).*", r"\1", url)
    return (
        host.endswith((".google.com", ".googleapis.com", ".gvt1.com", ".gstatic.com")) or host == "google.com"
    )


@pytest.mark.parametrize(("width", "theme"), WAYS)
def test_the_report_asks_for_nothing_and_complains_of_nothing(
    page: Path, tmp_path: Path, width: int, theme: str
) -> None:
    asked, complaints = chromium(page, tmp_path, width, theme)
    assert asked == []
    assert complaints == ""


@pytest.mark.parametrize(
    "element",
    [
        '<img src="https://dynalake.invalid/logo.png">',
        '<link rel="stylesheet" href="https://dynalake.invalid/a.css">',
        '<script>console.error("oops")</script>',
    ],
)
def test_a_page_that_asks_or_complains_is_caught(tmp_path: Path, element: str) -> None:
    path = tmp_path / "bad.html"
    path.write_text(f"<!doctype html><title>x</title>{element}")
    asked, complaints = chromium(path, tmp_path, 390, "light")
    assert asked or complaints


def test_a_phone_need_not_scroll_sideways(page: Path, tmp_path: Path) -> None:
    """Measured in the page itself, by a script that only this copy has."""
    copy = tmp_path / "measured.html"
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    text = text.replace(
        "</body>", "<script>console.log('WIDTH', document.documentElement.scrollWidth)</script></body>"
    )
    # Headless Chromium's window is 500 wide at least, so a narrow frame stands for the phone.
    copy.write_text(text)
    frame = tmp_path / "frame.html"
    frame.write_text(f'<iframe src="{copy.name}" style="width:390px;height:800px;border:0"></iframe>')
    _, said = chromium(frame, tmp_path, 800, "light")
    (width,) = re.findall(r"WIDTH (\d+)", said)
    assert int(width) <= 390


class _Attributes(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")
        ]


def test_names_from_the_data_stay_text(page: Path) -> None:
    found = _Attributes()
    found.feed(page.read_text())
    assert "script" not in found.tags
    assert "img" not in found.tags
    assert all(address.startswith(("#", "data:")) for address in found.addresses)
    assert HOSTILE not in page.read_text()


def test_every_pipeline_has_its_verdict_its_charts_and_what_to_do(page: Path) -> None:
    text = page.read_text()
    for verdict in ("all is well", "worth a look", "needs mending", "never checked"):
        assert verdict in text
    assert text.count("<svg ") == 3 * 4
    assert "dynalake repair payments" in text
    assert "dynalake check returns" in text
    assert not re.search(r"#0[0-9a-f]0[0-9a-f]0[0-9a-f]|#101112", text), "a colour that follows no theme"


def test_ids_are_unique(page: Path) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page.read_text())
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page.read_text())) <= set(ids)


def test_data_docs_lose_everything_remote(tmp_path: Path) -> None:
    html = """<html><head><link rel="stylesheet" href="https://cdn.example/a.css">
    <script src=//cdn.example/a.js></script>
    <style>@import url(https://cdn.example/b.css);</style></head><body onload="go()"><img src="https://x.example/logo?d=1">
    <a href="https://x.example/news">News</a><a href="other.html">kept</a><p style="background:url(https://y.example)">
    text</p><script>fetch("https://z.example")</script></body></html>"""
    clean = self_contained(html)
    assert "example" not in clean
    assert "News" in clean
    assert 'href="other.html"' in clean
    assert "text" in clean
    path = tmp_path / "docs.html"
    path.write_text(clean)
    assert chromium(path, tmp_path, 1280, "dark") == ([], "")


def test_what_great_expectations_publishes_asks_for_nothing(tmp_path: Path) -> None:
    import pandas as pd

    from expectations.suites import Plan, Rules, expected_of, judge

    frame = pd.DataFrame(
        {name: [0.5] for name in ("parity_ratio", "missing_ratio", "extra_ratio", "different_ratio")}
    )
    plan = Plan()
    plan.add("parity", "parity", frame, expected_of("parity", Rules()))
    outcomes = judge(plan, "orders", tmp_path / "docs")
    assert [each.status for each in outcomes].count("fail") == 4
    pages = sorted((tmp_path / "docs").rglob("*.html"))
    assert len(pages) == 3
    for number, each in enumerate(pages):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert chromium(each, folder, 1280, "light") == ([], ""), each
    index = _Attributes()
    index.feed((tmp_path / "docs" / "index.html").read_text())
    linked = {(tmp_path / "docs" / unquote(address)).resolve() for address in index.addresses}
    assert linked == {each.resolve() for each in pages} - {(tmp_path / "docs" / "index.html").resolve()}
