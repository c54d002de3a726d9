"""The site: whole, and a browser that reads it asks nobody else for anything."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from page_blocks import PAGES, ROOT
from playwright.sync_api import Request, expect, sync_playwright
from tools import PLACES, program

ELSEWHERE = re.compile(r"(?:https?:)?//[\w$]", re.IGNORECASE)
LOADING = {"src", "srcset", "data", "poster", "background", "action", "manifest", "ping"}
"""Attributes that a browser follows by itself; `href` does so in `link`, `image` and `use`, but not in `a`."""
FOLLOWED = {"link", "image", "use", "base"}
NAMESPACES = {"http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def built(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [program("mkdocs", "make install"), "build", "--strict", *arguments]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PATH": PLACES}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    done = built("--site-dir", str(folder))
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(?!INFO).*\S.*$", done.stdout + done.stderr, re.MULTILINE) == []
    return folder


def loads(html: str) -> list[str]:
    """Addresses elsewhere that a browser asks for when it shows a page."""
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            for name, value in attrs:
                followed = name in LOADING or (name in ("href", "xlink:href") and tag in FOLLOWED)
                if followed and ELSEWHERE.match((value or "").strip()):
                    found.append(f"{tag} {name}={value}")
                if name == "style":
                    found.extend(styled(value or ""))

        def handle_data(self, data: str) -> None:
            if self.cdata_elem == "style":
                found.extend(styled(data))
            if self.cdata_elem == "script":
                found.extend(scripted(data))

    Reader().feed(html)
    return found


def styled(css: str) -> list[str]:
    """Those that a style sheet asks for."""
    text = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    addresses = re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s;]+)", text)
    return [address for address in addresses if ELSEWHERE.match(address)]


def scripted(code: str) -> list[str]:
    """Those that a script could ask for: addresses that stand at the beginning of a text."""
    text = re.sub(r"/\*.*?\*/", "", code, flags=re.DOTALL)
    return [
        address
        for address in re.findall(r"[\"'`]((?:https?://|//[\w-]+\.)[^\"'`\s]+)", text)
        if address not in NAMESPACES
    ]


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    found = {path.name: loads(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    assert len(found) > len(PAGES)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_styles_pictures_and_scripts_load_nothing_from_elsewhere(site: Path) -> None:
    readers = {"*.css": styled, "*.js": scripted, "*.svg": lambda text: loads(text) + styled(text)}
    found = {
        path.name: read(path.read_text(encoding="utf-8"))
        for pattern, read in readers.items()
        for path in site.rglob(pattern)
    }
    assert any("bundle" in name for name in found)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_nobody_is_asked_for_versions_or_figures(site: Path) -> None:
    page = (site / "index.html").read_text(encoding="utf-8")
    configuration = re.search(r'<script id="__config" type="application/json">(.*?)</script>', page)
    assert configuration
    assert not json.loads(configuration[1]).get("version")
    assert 'data-md-component="source"' not in page


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://example.org/a.js"></script>',
        '<link rel="stylesheet" href="//example.org/a.css">',
        '<link rel="preconnect" href="https://example.org" crossorigin>',
        '<img src="http://example.org/a.png">',
        '<p style="background: url(https://example.org/a.png)">',
        '<style>@import "https://example.org/a.css";</style>',
        '<svg><use href="https://example.org/a.svg#b"/></svg>',
        "<script>fetch(`https://example.org/${name}`)</script>",
        '<iframe src="https://example.org"></iframe>',
    ],
)
def test_what_a_browser_loads_is_seen(html: str) -> None:
    assert loads(html)


@pytest.mark.parametrize(
    "html",
    [
        '<a href="https://example.org">x</a>',
        "<pre>curl https://example.org</pre>",
        '<svg xmlns="http://www.w3.org/2000/svg"></svg>',
        '<img src="flow.svg">',
    ],
)
def test_what_one_clicks_or_reads_is_fine(html: str) -> None:
    assert not loads(html)


def test_the_reference_is_in_its_pages(site: Path) -> None:
    for name in ("models", "build-repo", "exit-codes", "formats", "networks"):
        page = (site / "reference" / f"{name}.html").read_text(encoding="utf-8")
        assert "<table>" in page
        assert "made:" not in page


def test_files_of_the_repository_that_pages_link_to_are_there(site: Path) -> None:
    assert (site / "repository" / "examples" / "nginx" / "triton.conf").read_bytes() == (
        ROOT / "examples" / "nginx" / "triton.conf"
    ).read_bytes()
    assert "<h1" in (site / "advisories.html").read_text(encoding="utf-8")


def test_a_link_that_leads_nowhere_ends_the_build(tmp_path: Path) -> None:
    """A small site by this one's settings."""
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[0]
    settings = re.sub(r"^(hooks|watch|extra_css): .*$", "", settings, flags=re.MULTILINE)
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "index.md"
    for target in ("no.md", "#no", "../README.md"):
        page.write_text(f"# Page\n\n[x]({target})\n", encoding="utf-8")
        done = built(folder=tmp_path)
        assert done.returncode == 1
        assert f"contains a link '{target}'" in done.stderr
    page.write_text("# Page\n\n[x](#page)\n", encoding="utf-8")
    assert built(folder=tmp_path).returncode == 0


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing: what was asked for, the browser tells."""


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join(timeout=30)
    server.server_close()


@pytest.mark.browser
def test_a_browser_asks_nobody_else_and_finds_what_is_searched(address: str) -> None:
    found = program("chromium chromium-browser google-chrome", "apt-get install chromium", "browser")
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", note)
        for name in ("index.html", "reference/build-repo.html", "kubernetes.html"):
            page.goto(address + name, wait_until="networkidle")
        page.get_by_placeholder("Search").click()
        page.get_by_placeholder("Search").press_sequentially("quarantine")
        expect(page.locator(".md-search-result__item").first).to_be_visible()
        browser.close()
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []
