"""`models.yaml`: the GPT-2 sizes, their dimensions, and where their weights come from."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from ..common.errors import InputError, without_secrets
from .config import Config
from .schema.options import option
from .schema.text_types import Printable, Sha256, Source
from .schema.validation import allowed_names, input_error
from .schema.yaml_files import load_yaml

DIMENSIONS = ("n_layer", "n_head", "n_embd", "n_positions")


class ModelConfig(BaseModel):
    """One GPT-2 size. Its vocabulary is GPT-2's, of 50,257 tokens."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    n_layer: Annotated[int, option("Transformer blocks", example=12, ge=1, le=1000)]
    n_head: Annotated[int, option("Attention heads; `n_embd` is a multiple of it", example=12, ge=1, le=1000)]
    n_embd: Annotated[int, option("Channels: the size of an embedding", example=768, ge=1, le=2**16)]
    n_positions: Annotated[int, option("Positions: the longest context", example=1024, ge=1, le=2**20)]
    source: Annotated[
        Source,
        option(
            "The pretrained weights: a safetensors file in the Hugging Face GPT-2 layout",
            allowed="hf://ORGANISATION/NAME@REVISION/FILE, an https address, or a path without braces",
            example="hf://distilbert/distilgpt2@main/model.safetensors",
        ),
    ]
    sha256: Annotated[
        Sha256 | None,
        option(
            "The hash that the file must have; null: unchecked",
            allowed="64 hexadecimal digits, or null",
            example="248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
        ),
    ] = None
    label: Annotated[
        Annotated[Printable, AfterValidator(without_secrets)] | None,
        option(
            "What tables, figures and report pages show in place of the name",
            allowed="a text of printable characters, or null",
            example="gpt2-small (miniature)",
        ),
    ] = None

    @model_validator(mode="after")
    def _heads_are_of_one_size(self):
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd is {self.n_embd}; allowed: a multiple of n_head, which is {self.n_head}")
        return self

    @property
    def dimensions(self) -> dict[str, int]:
        """The part of this entry that determines what a model computes."""
        return {name: getattr(self, name) for name in DIMENSIONS}


def check_model(entry: object, where: str) -> ModelConfig:
    """One entry of a models file, checked.

    Raises:
        InputError: a key or value is wrong; it starts with `where`.
    """
    if not isinstance(entry, dict):
        keys = ", ".join(name for name, field in ModelConfig.model_fields.items() if field.is_required())
        raise InputError(f"{where}: expected a mapping with {keys}, found {entry!r}")
    try:
        return ModelConfig.model_validate(entry)
    except ValidationError as error:
        raise input_error(error, where, ModelConfig) from None


def configured_models(config: Config) -> dict[str, ModelConfig]:
    """The models of a configuration; arguments and errors as for `load_models`."""
    return load_models(config.models, config.copy_of("models"))


def load_models(path: str | Path, copy: Path | None = None) -> dict[str, ModelConfig]:
    """The GPT-2 sizes, by the reference's names.

    Args:
        path: of the models file.
        copy: read this copy of it.

    Raises:
        InputError: the file or an entry is wrong.
    """
    models: dict[str, ModelConfig] = {}
    folders: dict[str, str] = {}
    for name, entry in load_yaml(path, copy).items():
        where = f"{path}: {name}"
        models[name] = check_model(entry, where)
        folder = model_folder(name)
        if not folder or not name.isprintable() or name.startswith("-") or len(name) > 64:
            raise InputError(
                f"{path}: invalid model name {name!r}: expected up to 64 printable characters, with a letter or digit,"
                " and no '-' in front"
            )
        # Not every file system tells capitals from small letters.
        if (other := folders.setdefault(folder.lower(), name)) != name:
            raise InputError(f"{where}: its folder name '{folder}' is also that of {other}; rename one")
    return models


def named_model(name: str, models: dict[str, ModelConfig], where: str, models_file: str) -> ModelConfig:
    """The model of this name.

    Raises:
        InputError: there is none.
    """
    if name not in models:
        raise InputError(f"{where} is '{name}', not in {models_file}; {allowed_names(name, models)}")
    return models[name]


def model_folder(name: str) -> str:
    """A model's name as a folder: `gpt2-small (124M)` becomes `gpt2-small-124M`."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")
