"""A hook of mkdocs: puts the SVG drawings of a page into its HTML, so that they take on the light or dark theme."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

DRAWING = re.compile(r'<img alt="([^"]*)" src="([\w.-]+\.svg)" ?/?>')


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Each drawing beside the page in place of its image element."""
    folder = Path(page.file.abs_src_path or config.docs_dir).parent
    return DRAWING.sub(lambda match: (folder / match[2]).read_text("utf-8"), html)
