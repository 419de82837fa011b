"""The option tables of config/README.md, made of the schema: `python -m gpt2_ablations.settings.manual` writes them.

A table is between the lines `<!-- options: FILE -->` and `<!-- /options -->`.
"""

import re
import sys
from pathlib import Path

from ..common.errors import InputError
from ..common.files import write_text_whole
from .config import Config
from .experiment import Experiment
from .models import ModelConfig
from .schema.options import OptionText, Schema, describe
from .schema.yaml_files import load_yaml

MANUAL = Path("config/README.md")
SCHEMAS: dict[str, Schema] = {"config.yaml": Config, "experiments.yaml": Experiment, "models.yaml": ModelConfig}
TABLE = re.compile(r"(<!-- options: (\S+) -->\n).*?(<!-- /options -->)", flags=re.DOTALL)
LONGEST_DEFAULT = 40


def with_option_tables(text: str, folder: Path) -> str:
    """A manual with its tables as the schema has them.

    Args:
        folder: of config.yaml, whose values are the defaults of the general settings.

    Raises:
        InputError: a table is of an unknown file.
    """

    def table(match: re.Match[str]) -> str:
        if match[2] not in SCHEMAS:
            raise InputError(f"options: {match[2]}: no such file; allowed: {', '.join(SCHEMAS)}")
        defaults = load_yaml(folder / "config.yaml") if match[2] == "config.yaml" else {}
        lines = ["| key | default | allowed | effect |", "| --- | --- | --- | --- |"]
        lines += map(_line, describe(SCHEMAS[match[2]], defaults))
        return match[1] + "\n".join(lines) + "\n" + match[3]

    return TABLE.sub(table, text)


def _line(option: OptionText) -> str:
    default = f"`{option.default}`" if len(option.default) <= LONGEST_DEFAULT else "the published one"
    if option.default == "required":
        default = "required"
    cells = [f"`{option.name}`", default, option.allowed, option.description]
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def main() -> None:
    """Write the tables into the manual."""
    found = MANUAL.read_text(encoding="utf-8")
    wanted = with_option_tables(found, MANUAL.parent)
    if found != wanted:
        write_text_whole(MANUAL, wanted)
        print(f"{MANUAL}: option tables updated", file=sys.stderr)


if __name__ == "__main__":
    main()
