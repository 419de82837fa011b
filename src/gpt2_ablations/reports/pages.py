"""The pages of the report: self-contained HTML, because Snakemake's report does not show markdown."""

import html
import textwrap
from collections.abc import Mapping
from pathlib import Path

import yaml
from markdown_it import MarkdownIt

from ..common.errors import without_secrets
from ..common.files import write_text_whole
from ..data.download.sources import printable_source
from ..runs.finished_runs import Run, read_runs
from ..settings.config import Config
from ..settings.constants import Split
from ..settings.experiment import Experiment
from ..settings.labels import load_defaults, row_labels
from ..settings.models import ModelConfig
from ..settings.paths import Paths
from ..settings.rows import select_rows

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
pre {{ background: #f6f6f6; padding: 0.7rem; overflow-x: auto; font-size: 13px; line-height: 1.35; }}
pre code {{ background: none; padding: 0; }}
p, li {{ max-width: 50rem; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def write_pages(config: Config, experiments: dict[str, Experiment], models: Mapping[str, ModelConfig]) -> None:
    """Write a page for each table, one for the configuration, and one with the logs of each row that has run.

    Args:
        experiments: all rows of the experiments file; `config.rows` selects from them.
        models: the models of the rows.

    Raises:
        InputError: a metrics.json is damaged.
    """
    paths = Paths(config.results)
    for name, table in {
        "table": paths.table,
        "comparison": paths.comparison,
        "interpretation": paths.interpretation,
    }.items():
        if table.is_file():
            _write_page(paths.page(name), name.capitalize(), table.read_text(encoding="utf-8"))
    _write_page(paths.page("configuration"), "Configuration", _configuration_markdown(config, models))
    selected = select_rows(config, experiments)
    labels = row_labels(selected, load_defaults(config), models)
    for row, runs in read_runs(config, selected).items():
        if runs:
            title = f"Row {labels[row]}"
            _write_page(paths.row_page(row), title, _row_markdown(title, experiments[row], runs, paths))


def _write_page(path: Path, title: str, markdown: str) -> None:
    body = MarkdownIt("commonmark").enable("table").render(markdown)
    write_text_whole(path, PAGE.format(title=html.escape(title), body=body.strip()))


def _configuration_markdown(config: Config, models: Mapping[str, ModelConfig]) -> str:
    """The merged configuration, the file of rows as it is, and the models, without passwords and tokens."""
    settings, rows = config.model_dump(), config.copy_of("experiments") or Path(config.experiments)
    for section in ("dataset", "tokenizer"):
        settings[section]["sources"] = [printable_source(source) for source in settings[section]["sources"]]
    entries = {name: vars(model) | {"source": printable_source(model.source)} for name, model in models.items()}
    texts: dict[str, tuple[str | Path, str]] = {
        "Merged configuration": (Paths(config.results).config, _yaml(settings)),
        "Rows": (config.experiments, rows.read_text(encoding="utf-8")),
        "Models": (config.models, _yaml(entries)),
    }
    parts = ["# Configuration"]
    for title, (file, text) in texts.items():
        parts += [f"## {title}", f"`{file}`", _code_block(without_secrets(text))]
    return "\n\n".join(parts)


def _yaml(content: dict) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


SPLITS: dict[str, Split] = {"training": "train", "validation": "val", "test": "test"}


def _row_markdown(title: str, experiment: Experiment, runs: list[Run], paths: Paths) -> str:
    parts = [f"# {title}", f"`{' '.join(['train', *experiment.flags()])}`"]
    for run in runs:
        counts = ", ".join(
            f"{name} {run.accuracy(split):.2%} ({run.correct(split)} of {run.total(split)})"
            for name, split in SPLITS.items()
        )
        parts += [
            f"## Seed {run.seed}",
            f"Accuracy: {counts}. Training time, with features: {run.minutes:.2f} min on {run.metrics.device_name}.",
        ]
        log = paths.train_log(run.row, run.seed)
        parts.append(_code_block(log_as_shown(log)) if log.is_file() else f"The log is missing: `{log}`.")
    return "\n\n".join(parts)


def log_as_shown(log: Path) -> str:
    """A log as a terminal shows it: of a line that was overwritten, such as a progress bar, the last state."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)


def _code_block(text: str) -> str:
    """Text as an indented code block, which nothing in the text can end."""
    return textwrap.indent(text.rstrip() or "(empty)", "    ", lambda line: True)
