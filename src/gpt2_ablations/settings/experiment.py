"""A row of the table: its options, its flags, and which layers and positions it needs."""

import argparse
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from .constants import NO_IGNORE_INDEX
from .schema.options import allowed_values, fields_of, option
from .schema.validation import input_error

CONTEXT_LENGTHS = ("longest_training_example", "model_context_length")


def _context_length(value: Any) -> Any:
    if value in CONTEXT_LENGTHS or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError


def _positive_number(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1e9:
        return value
    raise ValueError


PositiveInt = Annotated[int, Field(ge=1, le=2**31 - 1)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Experiment:
    """The options of one row, under the reference's names and with its defaults."""

    model_size: Annotated[
        str, option("The GPT-2 size to start from", allowed="a name in the models file", example="gpt2-medium (355M)")
    ] = "gpt2-small (124M)"
    weights: Annotated[
        Literal["pretrained", "random"],
        option("Start from pretrained weights, or from random ones drawn from the row's seed", example="random"),
    ] = "pretrained"
    trainable_layers: Annotated[
        Literal["last_layer", "last_block", "last_two_blocks", "all", "lora"],
        option(
            "The layers to train: `last_layer` is the head; `last_block` and `last_two_blocks` add the final norm and"
            " one or two transformer blocks; `lora` trains adapters in every linear layer, and the head",
            example="lora",
        ),
    ] = "last_block"
    trainable_token_pos: Annotated[
        Literal["first", "last", "flexible"],
        option("The pooled position: `flexible` is the last one that is not padding", example="flexible"),
    ] = "last"
    average_embeddings: Annotated[
        bool, option("Pool by the mean over all positions; not with `trainable_token_pos: flexible`", example=True)
    ] = False
    context_length: Annotated[
        int | str,
        option(
            "The number of tokens that a text is padded and cut to, up to the model's positions",
            allowed=f"{', '.join(CONTEXT_LENGTHS)}, or an integer from 1",
            example=256,
        ),
        BeforeValidator(_context_length),
    ] = "longest_training_example"
    lora_rank: Annotated[PositiveInt, option("The rank of LoRA's matrices", example=16)] = 8
    lora_alpha: Annotated[
        int | float,
        option(
            "The factor of LoRA's product, which is not divided by the rank",
            allowed="a number above 0, up to 1e9",
            example=16,
        ),
        BeforeValidator(_positive_number),
    ] = 8
    no_padding: Annotated[
        bool, option("Neither pad nor cut; needs `batch_size: 1`, and `context_length` is not used", example=True)
    ] = False
    num_epochs: Annotated[PositiveInt, option("Passes over the training examples", example=10)] = 5
    batch_size: Annotated[PositiveInt, option("Examples in a batch", example=16)] = 8
    accumulation_steps: Annotated[PositiveInt, option("Batches in an update of the parameters", example=8)] = 1
    disable_causal_mask: Annotated[
        bool, option("Let every position attend to all others, padding included", example=True)
    ] = False
    ignore_index: Annotated[
        int,
        option(
            "Examples with this label do not count for the loss",
            allowed="an integer of 64 bits",
            example=50256,
            ge=-(2**63),
            lt=2**63,
        ),
    ] = NO_IGNORE_INDEX

    @model_validator(mode="after")
    def _options_agree(self):
        if self.no_padding and self.batch_size != 1:
            raise ValueError(
                f"no_padding needs batch_size 1, found batch_size {self.batch_size}; set batch_size: 1"
                " (accumulation_steps makes larger updates)"
            )
        if self.average_embeddings and self.trainable_token_pos == "flexible":
            raise ValueError(
                "average_embeddings pools all positions, and trainable_token_pos: flexible pools one; keep one of them"
            )
        return self

    @property
    def causal(self) -> bool:
        return not self.disable_causal_mask

    @property
    def attended(self) -> Literal["first", "real", "all"]:
        """The positions of an example that its loss depends on: nothing else needs to be computed."""
        if self.causal and not self.average_embeddings:
            if self.trainable_token_pos == "first":
                return "first"
            if self.trainable_token_pos == "flexible" and not self.no_padding:
                return "real"
        return "all"

    @property
    def pooling(self) -> Literal["first", "last", "flexible", "mean"]:
        """The pooled position, whose logits are the prediction; or the mean over all attended positions."""
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
        raise input_error(error, where, Experiment) from None


def add_experiment_flags(parser: argparse.ArgumentParser) -> None:
    """Add the reference's flags to a parser; `--last_token_pos` is another name of `--trainable_token_pos`."""
    described = fields_of(Experiment)
    for field in fields(Experiment):
        names = [f"--{field.name}"] + (["--last_token_pos"] if field.name == "trainable_token_pos" else [])
        text = (described[field.name].description or "").replace("%", "%%")
        if described[field.name].annotation is bool:
            parser.add_argument(*names, dest=field.name, action="store_true", default=argparse.SUPPRESS, help=text)
            continue
        allowed, example = allowed_values(described[field.name]), (described[field.name].examples or [""])[0]
        parser.add_argument(
            *names,
            dest=field.name,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{text}. Allowed: {allowed}. Default: {field.default}. Example: {example}",
        )


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
