"""Data Docs that call nobody: what Great Expectations writes, without its CDN assets, remote logo and scripts.

Its pages link Bootstrap, jQuery, Vega and fonts from CDNs, and a logo whose address carries an id. Here every script,
link and remote picture is taken out, a style sheet of our own put in, and a content security policy added under
which a browser would refuse to fetch anything at all.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final
from urllib.parse import quote

_POLICY: Final = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<meta name="color-scheme" content="light dark">'
)

_STYLE: Final = """<style>
:root{--ink:#1b1f24;--dim:#59636e;--ground:#fff;--line:#d8dee4;--good:#1a7f37;--bad:#cf222e;--soft:#f6f8fa}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9198a1;--ground:#0d1117;--line:#30363d;--good:#3fb950;
--bad:#f85149;--soft:#161b22}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground);max-width:70rem;margin:0 auto;
padding:1rem}
a{color:inherit}h1,h2,h3,h4,h5{line-height:1.25;margin:1.2em 0 .4em}
table{border-collapse:collapse;width:100%;display:block;overflow-x:auto}
th,td{border-bottom:1px solid var(--line);padding:.4rem .6rem;text-align:left;vertical-align:top}
ul,ol{padding-left:1.2rem}.breadcrumb,.list-group,.nav{list-style:none;padding:0}
.breadcrumb li,.nav li{display:inline-block;margin-right:.8rem}
.text-success,.fa-check-circle{color:var(--good)}.text-danger,.fa-times{color:var(--bad)}
.fa-check-circle::before{content:"\\2713"}.fa-times::before{content:"\\2717"}.fa-exclamation-triangle::before{content:"!"}
.badge{background:var(--soft);border:1px solid var(--line);border-radius:.3rem;padding:0 .3rem}
.alert,.card,.jumbotron{background:var(--soft);border-radius:.5rem;padding:.5rem 1rem;margin:.5rem 0}
pre,code{white-space:pre-wrap;overflow-wrap:anywhere}img{display:none}.modal,.btn,button,.cooltip .top{display:none}
td,li,p,h1,h2,h3,h4,h5{overflow-wrap:anywhere}
</style>"""

_OUT: Final = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"<script\b.*?</script\s*>",
        r"<script\b[^>]*/>",
        r"<link\b[^>]*>",
        r"<style\b.*?</style\s*>",
        r"<img\b[^>]*>",
        r"<iframe\b.*?</iframe\s*>",
        r"<footer\b.*?</footer\s*>",
        r"\son[a-z]+\s*=\s*(\"[^\"]*\"|'[^']*')",
        r"\sstyle\s*=\s*(\"[^\"]*\"|'[^']*')",
        r"<!--.*?-->",
        # What only worked by script: the filter, and a link that opens what is open now.
        r'<div class="card mb-3">\s*<div class="card-header p-2">\s*<strong>Actions</strong>'
        r'.*?(?=<div class="card mb-3">)',
        r'<p class="m-0">\s*<a data-toggle="collapse".*?</p>',
    )
)
_REMOTE_LINK: Final = re.compile(
    r"<a\b[^>]*href\s*=\s*[\"']?(?:https?:)?//[^>]*>(.*?)</a\s*>", re.IGNORECASE | re.DOTALL
)
_HEAD: Final = re.compile(r"<head[^>]*>", re.IGNORECASE)


def make_self_contained(folder: Path) -> None:
    """Rewrite every page below a folder, and take away the assets that none needs any more."""
    pages = [page for page in folder.rglob("*.html") if page.parent != folder]
    for page in pages:
        page.write_text(self_contained(page.read_text(encoding="utf-8")), encoding="utf-8")
    (folder / "index.html").write_text(_index(folder, pages), encoding="utf-8")
    shutil.rmtree(folder / "static", ignore_errors=True)


def _index(folder: Path, pages: Sequence[Path]) -> str:
    """The first page: Great Expectations' own fills its tables by script, so without scripts it is empty."""
    parts = []
    for kind, title in (
        ("validations", "Validation results, newest first"),
        ("expectations", "Expectation suites"),
    ):
        found = sorted(
            page.relative_to(folder) for page in pages if page.relative_to(folder).parts[0] == kind
        )
        if kind == "validations":
            found.sort(key=lambda path: path.parts[-2], reverse=True)
        links = "".join(
            f'<li><a href="{escape(quote(path.as_posix()))}">{escape(_title(path))}</a></li>'
            for path in found
        )
        parts.append(f"<h2>{title}</h2><ul>{links}</ul>")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{_POLICY}<title>Data Docs</title>{_STYLE}</head>'
        f"<body><h1>Data Docs</h1>{''.join(parts)}</body></html>\n"
    )


def _title(path: Path) -> str:
    if path.parts[0] != "validations":
        return path.with_suffix("").relative_to("expectations").as_posix()
    suite, moment = path.parts[1], path.parts[-2]
    return f"{suite}, {moment[:4]}-{moment[4:6]}-{moment[6:8]} {moment[9:11]}:{moment[11:13]}:{moment[13:15]} UTC"


def self_contained(html: str) -> str:
    """A page that makes no request."""
    for pattern in _OUT:
        html = pattern.sub("", html)
    html = _REMOTE_LINK.sub(r"\1", html)
    return _HEAD.sub(lambda found: found[0] + _POLICY + _STYLE, html, count=1)
