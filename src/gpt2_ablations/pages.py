"""Markdown files as HTML pages that need nothing from elsewhere, for the report."""

from pathlib import Path

from markdown_it import MarkdownIt

from .files import write_text_whole

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 1.5rem; }}
table {{ border-collapse: collapse; margin: 1rem 0; }}
th, td {{ border-bottom: 1px solid #ddd; padding: 0.3rem 0.7rem; text-align: left; vertical-align: top; }}
th {{ border-bottom: 2px solid #888; }}
tr:hover td {{ background: #f4f6f8; }}
code {{ background: #f0f0f0; padding: 0 0.2rem; }}
p, li {{ max-width: 50rem; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def html_page(markdown: Path, output: Path) -> None:
    """Write a markdown file as an HTML page."""
    body = MarkdownIt("commonmark").enable("table").render(markdown.read_text(encoding="utf-8"))
    write_text_whole(output, PAGE.format(title=markdown.stem.capitalize(), body=body.strip()))
