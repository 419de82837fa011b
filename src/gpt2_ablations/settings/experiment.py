"""A row of the table: its settings, its flags, and which part of the model it needs."""

import argparse
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from .constants import NO_IGNORE_INDEX
from .validation import input_error


def _context_length(value: Any) -> Any:
    named = ("longest_training_example", "model_context_length")
    if value in named or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError(f"allowed: {', '.join(named)}, or an integer from 1")


def _positive_number(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1e9:
        return value
    raise ValueError("allowed: a number above 0, up to 1e9")


PositiveInt = Annotated[int, Field(ge=1, lt=2**31)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Experiment:
    """The settings of one row, under the reference's own option names and with its program's defaults."""

    model_size: str = "gpt2-small (124M)"
    weights: Literal["pretrained", "random"] = "pretrained"
    trainable_layers: Literal["last_layer", "last_block", "last_two_blocks", "all", "lora"] = "last_block"
    trainable_token_pos: Literal["first", "last", "flexible"] = "last"
    average_embeddings: bool = False
    context_length: Annotated[int | str, BeforeValidator(_context_length)] = "longest_training_example"
    lora_rank: PositiveInt = 8
    lora_alpha: Annotated[int | float, BeforeValidator(_positive_number)] = 8
    no_padding: bool = False
    num_epochs: PositiveInt = 5
    batch_size: PositiveInt = 8
    accumulation_steps: PositiveInt = 1
    disable_causal_mask: bool = False
    ignore_index: Annotated[int, Field(ge=-(2**63), lt=2**63)] = NO_IGNORE_INDEX

    @model_validator(mode="after")
    def _options_agree(self):
        if self.no_padding and self.batch_size != 1:
            raise ValueError(
                f"no_padding needs batch_size 1, found batch_size {self.batch_size}; set batch_size: 1"
                " (accumulation_steps makes larger updates)"
            )
        if self.average_embeddings and self.trainable_token_pos == "flexible":
            raise ValueError(
                "average_embeddings averages over all positions and trainable_token_pos: flexible reads one;"
                " keep one of the two"
            )
        return self

    @property
    def causal(self) -> bool:
        return not self.disable_causal_mask

    @property
    def attended(self) -> Literal["first", "real", "all"]:
        """The positions of a message that can reach its loss: nothing else needs to be computed."""
        if self.causal and not self.average_embeddings:
            if self.trainable_token_pos == "first":
                return "first"
            if self.trainable_token_pos == "flexible" and not self.no_padding:
                return "real"
        return "all"

    @property
    def pooling(self) -> Literal["first", "last", "flexible", "mean"]:
        """The position whose logits are the prediction, or the mean over all attended ones."""
        if self.average_embeddings:
            return "mean"
        if self.no_padding and self.trainable_token_pos == "flexible":
            return "last"
        return self.trainable_token_pos

    def n_frozen_blocks(self, n_layer: int) -> int | None:
        """How many blocks lie below the first trained layer; None if the embeddings are trained or adapted.

        `n_layer` itself stands for "the final norm too": only the head is trained.
        """
        trained = {"last_layer": 0, "last_block": 1, "last_two_blocks": 2}.get(self.trainable_layers)
        return None if trained is None else n_layer - trained

    def flags(self) -> list[str]:
        """The command-line arguments that make this row: those that differ from the program's defaults.

        A LoRA row names its rank and alpha in any case, as the reference's commands do.
        """
        arguments = []
        for field in fields(self):
            value = getattr(self, field.name)
            shown_always = self.trainable_layers == "lora" and field.name in ("lora_rank", "lora_alpha")
            if value == field.default and not shown_always:
                continue
            arguments.append(f"--{field.name}")
            if value is not True:
                arguments.append(str(value).removesuffix(".0") if isinstance(value, float) else str(value))
        return arguments


OPTIONS = tuple(field.name for field in fields(Experiment))


def make_experiment(options: dict, where: str) -> Experiment:
    """An Experiment from a mapping of options.

    Raises:
        InputError: an option or value is unknown or contradicts another; it starts with `where`.
    """
    try:
        return Experiment(**options)
    except ValidationError as error:
        raise input_error(error, where, OPTIONS) from None


def add_experiment_flags(parser: argparse.ArgumentParser) -> None:
    """Add the reference's flags to a parser; `--last_token_pos` is another name of `--trainable_token_pos`."""
    for field in fields(Experiment):
        names = [f"--{field.name}"] + (["--last_token_pos"] if field.name == "trainable_token_pos" else [])
        if field.type is bool:
            parser.add_argument(*names, dest=field.name, action="store_true", default=argparse.SUPPRESS)
        else:
            parser.add_argument(*names, dest=field.name, default=argparse.SUPPRESS, help=f"default: {field.default}")


def experiment_from_flags(arguments: argparse.Namespace) -> Experiment:
    """The Experiment that parsed flags describe.

    Raises:
        InputError: as `make_experiment`.
    """
    options = {}
    for field in fields(Experiment):
        if field.name in arguments:
            value = getattr(arguments, field.name)
            takes_text = isinstance(field.default, str) and field.name != "context_length"
            options[field.name] = value if takes_text or value is True else _number(value)
    return make_experiment(options, "train")


def _number(text: str) -> int | float | str:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            pass
    return text
