"""A row of the table: its options, its flags, and which layers and positions it needs."""

import argparse
import math
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from .constants import CLASSES, NO_IGNORE_INDEX
from .schema.options import allowed_values, fields_of, option
from .schema.validation import input_error

CONTEXT_LENGTHS = ("longest_training_example", "model_context_length")
TRAINABLE_LAYERS = ("last_layer", "last_block", "last_two_blocks", "all", "lora")
# The reference computes LoRA in two ways, with equal results.
SAME_LAYERS = {"last_1_blocks": "last_block", "last_2_blocks": "last_two_blocks", "lora_alternative": "lora"}
_LAST_BLOCKS = re.compile(r"last_([1-9]\d{0,3})_blocks")
# The linear layers of a block, in the order in which the reference draws LoRA's matrices, then the head.
LORA_LAYERS = ("query", "key", "value", "attention_output", "mlp_in", "mlp_out", "head")


def _context_length(value: Any) -> Any:
    if value in CONTEXT_LENGTHS or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError


def _trainable_layers(value: Any) -> Any:
    if isinstance(value, str) and (value in (*TRAINABLE_LAYERS, *SAME_LAYERS) or _LAST_BLOCKS.fullmatch(value)):
        return SAME_LAYERS.get(value, value)
    raise ValueError


def _number_in(accepts: Callable[[float], bool], or_null: bool = False) -> BeforeValidator:
    """A number that fulfils a condition. YAML reads `5e-5` as a text, because it has no decimal point."""

    def check(value: Any) -> Any:
        if or_null and value in (None, "null"):
            return None
        number = _number(value) if isinstance(value, str) else value
        if isinstance(number, (int, float)) and not isinstance(number, bool) and accepts(number):
            return number
        raise ValueError

    return BeforeValidator(check)


def _listed(value: Any) -> list:
    """The items of a list, or of a text in which commas separate them, as on the command line."""
    if isinstance(value, str):
        return value.split(",")
    if not isinstance(value, (list, tuple)):
        raise ValueError
    return list(value)


def _lora_layers(value: Any) -> Any:
    names = _listed(value)
    if names == ["all"] or sorted(map(str, names)) == sorted(LORA_LAYERS):
        return "all"
    # A subset, each once.
    chosen = tuple(name for name in LORA_LAYERS if name in names)
    if not chosen or len(chosen) != len(names):
        raise ValueError
    return chosen


def _class_weights(value: Any) -> Any:
    if value in (None, "balanced", "null"):
        return None if value == "null" else value
    weights = [_number(weight) if isinstance(weight, str) else weight for weight in _listed(value)]
    positive = all(isinstance(x, (int, float)) and not isinstance(x, bool) and 0 < x <= 1e9 for x in weights)
    if not positive or len(weights) != len(CLASSES):
        raise ValueError
    return tuple(map(float, weights))


PositiveInt = Annotated[int, Field(ge=1, le=2**31 - 1)]


# The positions that are computed: the first, the real ones, these with the last padding token, all; or all of them with
# real ones alone as keys.
Attended = Literal["first", "real", "real_and_last", "all", "all_on_real"]
Pooling = Literal["first", "last", "flexible", "mean", "mean_of_real"]
MEANS = ("mean", "mean_of_real")


def masks_padding(attended: Attended) -> bool:
    """Whether padding is among the computed positions, and none attends to it."""
    return attended in ("real_and_last", "all_on_real")


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
        str,
        option(
            "The layers to train: `last_layer` is the head; `last_block`, `last_two_blocks` and `last_N_blocks` add the"
            " final norm and one, two or N transformer blocks; `lora` trains adapters in linear layers, and the head",
            allowed="last_layer, last_block, last_two_blocks, last_N_blocks, all, lora",
            example="lora",
        ),
        BeforeValidator(_trainable_layers),
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
            "The factor of LoRA's product; see `lora_scaling`",
            allowed="a number above 0, up to 1e9",
            example=16,
        ),
        _number_in(lambda alpha: 0 < alpha <= 1e9),
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
    learning_rate: Annotated[
        int | float,
        option("AdamW's learning rate", allowed="a number above 0, up to 1", example=0.0002),
        _number_in(lambda rate: 0 < rate <= 1),
    ] = 5e-5
    weight_decay: Annotated[
        int | float,
        option("AdamW's weight decay, of every trained parameter", allowed="a number from 0 to 1", example=0.01),
        _number_in(lambda decay: 0 <= decay <= 1),
    ] = 0.1
    lr_schedule: Annotated[
        Literal["constant", "linear", "cosine"],
        option("The learning rate after the warm-up: constant, or falling to 0 at the last update", example="cosine"),
    ] = "constant"
    warmup_steps: Annotated[
        int,
        option("Updates over which the learning rate rises from 0", example=50, ge=0, le=2**31 - 1),
    ] = 0
    max_grad_norm: Annotated[
        int | float | None,
        option(
            "Before each update, gradients are scaled down to at most this norm over all trained parameters",
            allowed="a number above 0, or null",
            example=1.0,
        ),
        _number_in(lambda norm: 0 < norm < math.inf, or_null=True),
    ] = None
    label_smoothing: Annotated[
        int | float,
        option("Label smoothing of the training loss", allowed="a number from 0 to 1", example=0.1),
        _number_in(lambda smoothing: 0 <= smoothing <= 1),
    ] = 0
    class_weights: Annotated[
        Literal["balanced"] | tuple[float, ...] | None,
        option(
            "The weight of each class in the training loss: a list, or `balanced`, inversely to the training examples"
            " of each class",
            allowed="a list of a number above 0 for each class, balanced, or null",
            example=[1, 3],
        ),
        BeforeValidator(_class_weights),
    ] = None
    lora_scaling: Annotated[
        Literal["alpha", "alpha/rank", "alpha/sqrt(rank)"],
        option(
            "The factor of LoRA's product: `lora_alpha` as in the reference, divided by the rank as in the LoRA paper,"
            " or by its square root as in rsLoRA",
            example="alpha/rank",
        ),
    ] = "alpha"
    lora_layers: Annotated[
        Literal["all"] | tuple[str, ...],
        option(
            "The linear layers that LoRA adapts; the head is trained in any case",
            allowed=f"all, or a list of {', '.join(LORA_LAYERS)}",
            example=["query", "value"],
        ),
        BeforeValidator(_lora_layers),
    ] = "all"
    mask_padding: Annotated[
        bool,
        option("No position attends to padding tokens, which can still be pooled; not with `no_padding`", example=True),
    ] = False
    average_over: Annotated[
        Literal["all", "real"],
        option(
            "With `average_embeddings`: the mean over all positions, or over those that are not padding", example="real"
        ),
    ] = "all"
    keep: Annotated[
        Literal["last", "best_validation"],
        option(
            "The parameters that are evaluated and saved at the end: the last ones, or those of the epoch with the best"
            " accuracy on the validation split (of equal ones, that with the lower loss)",
            example="best_validation",
        ),
    ] = "last"

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
        if self.mask_padding and self.no_padding:
            raise ValueError("mask_padding masks the padding, and no_padding has none; keep one of them")
        return self

    @property
    def causal(self) -> bool:
        return not self.disable_causal_mask

    @property
    def attended(self) -> Attended:
        """The positions of an example that its loss depends on: nothing else needs to be computed."""
        if self.causal and not self.average_embeddings and self.trainable_token_pos == "first":
            return "first"
        if self.no_padding:
            return "all"
        pools_real = self.average_over == "real" if self.average_embeddings else self.trainable_token_pos != "last"
        # Padding comes last: a causal mask hides it from real positions.
        if pools_real and (self.causal or self.mask_padding):
            return "real"
        if not self.mask_padding:
            return "all"
        return "all_on_real" if self.average_embeddings else "real_and_last"

    @property
    def computes_padding(self) -> bool:
        """Whether the padding of an example, if there is any, is among the computed positions."""
        return self.attended not in ("first", "real")

    @property
    def masks_padding(self) -> bool:
        """Whether padding is computed to which no position attends."""
        return masks_padding(self.attended)

    @property
    def pooling(self) -> Pooling:
        """The pooled position, whose logits are the prediction; or a mean, over all computed positions or real ones."""
        if self.average_embeddings:
            with_padding = self.computes_padding and not self.no_padding
            return "mean_of_real" if self.average_over == "real" and with_padding else "mean"
        if self.no_padding and self.trainable_token_pos == "flexible":
            return "last"
        return self.trainable_token_pos

    def n_frozen_blocks(self, n_layer: int) -> int | None:
        """How many blocks lie below the first trained layer; None if the embeddings are trained or adapted.

        `n_layer` itself stands for "the final norm too": only the head is trained.
        """
        trained = {"last_layer": 0, "last_block": 1, "last_two_blocks": 2}.get(self.trainable_layers)
        if match := _LAST_BLOCKS.fullmatch(self.trainable_layers):
            trained = int(match[1])
        return None if trained is None else n_layer - trained

    def takes_whole_updates(self, n_layer: int) -> bool:
        """Whether all batches of an update fit one pass: with features and few blocks they take little memory."""
        frozen = self.n_frozen_blocks(n_layer)
        return frozen is not None and n_layer - frozen <= 2

    @property
    def lora_factor(self) -> float:
        """The factor of LoRA's product A B."""
        divisor = {"alpha": 1, "alpha/rank": self.lora_rank, "alpha/sqrt(rank)": math.sqrt(self.lora_rank)}
        return self.lora_alpha / divisor[self.lora_scaling]

    def adapts(self, layer: str) -> bool:
        """Whether LoRA adapts a layer, one of LORA_LAYERS."""
        return self.trainable_layers == "lora" and (self.lora_layers == "all" or layer in self.lora_layers)

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
                arguments.append(",".join(map(_flag_text, value)) if isinstance(value, tuple) else _flag_text(value))
        return arguments


def _flag_text(value: object) -> str:
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


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
            takes_text = takes_text or field.name == "class_weights"
            options[field.name] = value if takes_text or value is True else _number(value)
    return make_experiment(options, "train")


def _number(text: str) -> int | float | str:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            pass
    return text
