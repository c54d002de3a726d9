"""What mkdocs does beside turning pages into HTML: the reference is made, and links out of docs/ find their files."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

import reference
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
ROOT_PAGES = {"README.md": "index.md"} | {f"{name}.md": f"{name.lower()}.md" for name in ("CONTRIBUTING", "CHANGELOG")}
ROOT_PAGES |= {"SECURITY.md": "advisories.md"}  # docs/security.md is another page
"""Pages that stay where GitHub looks for them, and their places in the site."""
MARK = re.compile(r"^<!-- made: (\S+) ?(.*?) -->$", re.MULTILINE)
LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)")
FETCHED = re.compile(r"https://(?:unpkg\.com|api\.github\.com|\$\{e\}/api/v4)/[^\"`']*")
"""What the theme's script would load for features that are not used here."""
SCRIPTS = "assets/javascripts/*.js"


def on_files(files: Files, config: Any) -> Files:
    """Pages of the top folder, and the files of the repository that pages link to."""
    for name, uri in ROOT_PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / name)))
    for path in sorted({path for page in files.documentation_pages() for path in _linked(page)}):
        files.append(File.generated(config, f"repository/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    made = MARK.sub(lambda mark: reference.MADE[mark[1]](*mark[2].split()), markdown)
    return LINK.sub(lambda link: link[1] + _in_site(link[2], page.file), made)


def on_post_build(config: Any) -> None:
    for script in Path(config.site_dir).glob(SCRIPTS):
        text = script.read_text(encoding="utf-8")
        script.write_text(FETCHED.sub("about:blank", text), encoding="utf-8")


def _linked(page: File) -> set[str]:
    """The repository's files, outside of docs/, that a page links to."""
    found = {_in_repository(target, page) for _, target in LINK.findall(page.content_string)}
    return {path for path in found if path not in ROOT_PAGES and not _is_page(path) and (ROOT / path).is_file()}


def _in_repository(target: str, page: File) -> str:
    """The path from the repository's top that a link leads to, as GitHub reads it."""
    own = Path(page.abs_src_path or "").relative_to(ROOT).parent.as_posix()
    return posixpath.normpath(posixpath.join(own, target))


def _is_page(path: str) -> bool:
    return path.startswith("docs/")


def _in_site(target: str, page: File) -> str:
    path = _in_repository(target, page)
    if path in ROOT_PAGES:
        place = ROOT_PAGES[path]
    elif _is_page(path):
        place = path.removeprefix("docs/")
    elif (ROOT / path).is_file():
        place = f"repository/{path}"
    else:
        return target  # left as it is: mkdocs tells of links that lead nowhere
    return os.path.relpath(place, posixpath.dirname(page.src_uri) or ".")
