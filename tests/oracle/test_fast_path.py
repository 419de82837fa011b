"""The fast path computes what the plain implementation computes, for any valid combination of options.

Both run in double precision, where they may differ by rounding alone: a short cut that leaves something out, or a batch
in another order, is orders of magnitude above the tolerance.
"""

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, reject, seed, settings
from hypothesis import strategies as st
from torch import Tensor

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.data.tokens import TokenizedSplit, context_positions
from gpt2_ablations.finetuning import features
from gpt2_ablations.finetuning import loop as training
from gpt2_ablations.finetuning.batches import inputs_from_features, inputs_from_tokens
from gpt2_ablations.finetuning.classifier import build_classifier, count_parameters
from gpt2_ablations.finetuning.features import Features, extract, lay_out_features, split_features
from gpt2_ablations.finetuning.loop import Finetuning
from gpt2_ablations.gpt2.model import Classifier
from gpt2_ablations.gpt2.weight_files import block_shapes, weight_shapes
from gpt2_ablations.gpt2.weights import RandomWeights
from gpt2_ablations.runs.result import Result
from gpt2_ablations.settings import feature_spec as feature_spec_module
from gpt2_ablations.settings.experiment import LORA_LAYERS, Experiment
from gpt2_ablations.settings.feature_spec import feature_spec
from gpt2_ablations.settings.models import ModelConfig
from tests.device import DEVICE
from tests.oracle import plain

SPLITS = ("train", "validation", "test")
TOLERANCE = 1e-9

TRAINED = ("last_layer", "last_block", "last_two_blocks", "last_3_blocks", "all", "lora")
POOLING = ("first", "last", "flexible", "mean")
OPTIONS = (TRAINED, POOLING, ("causal", "no_mask"), ("padding", "no_padding"))

# Examples for each of the 96 combinations of trained layers, pooling, mask and padding, as they are drawn: a mistake
# may fail all 96, and to shrink each would take hours. HYPOTHESIS_PROFILE=thorough draws others each time, 672 in all,
# and shrinks what fails.
QUIET = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("normal", max_examples=2, derandomize=True, database=None, phases=[Phase.generate], **QUIET)
settings.register_profile("thorough", max_examples=7, print_blob=True, **QUIET)
PROFILE = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "normal"))


@dataclass(frozen=True)
class Case:
    """A row, a model and texts small enough to finetune twice, and how the fast path cuts its work.

    texts, longest: by split, the number of texts and the most tokens one may have.
    one_ignored_in: how many texts, where ignore_index is a label.
    """

    experiment: Experiment
    n_layer: int = 2
    n_head: int = 2
    n_embd: int = 8
    n_positions: int = 12
    texts: tuple[int, int, int] = (20, 7, 9)
    longest: tuple[int, int, int] = (10, 12, 12)
    one_ignored_in: int = 8
    one_repeated_in: int = 5
    data_seed: int = 0
    seed: int = 123
    micro_batch_size: int | None = None
    chunk_tokens: int = 40
    shard_mb: float = 0.02
    evaluation_tokens: int = 50

    @property
    def model(self) -> ModelConfig:
        return ModelConfig(
            n_layer=self.n_layer,
            n_head=self.n_head,
            n_embd=self.n_embd,
            n_positions=self.n_positions,
            source="tensors in memory",
        )

    def data(self) -> dict[str, plain.Texts]:
        generator = torch.Generator().manual_seed(self.data_seed)

        def draw(high: int, n: int) -> list[int]:
            return torch.randint(high, (n,), generator=generator).tolist()

        data: dict[str, plain.Texts] = {}
        seen: list[list[int]] = []
        for split, count, longest in zip(SPLITS, self.texts, self.longest, strict=True):
            lengths = [1 + length for length in draw(longest, count)]
            labels = draw(2, count)
            ignored = self.experiment.ignore_index
            if ignored in (0, 1):
                labels = [ignored if n == 0 else 1 - ignored for n in draw(self.one_ignored_in, count)]
            texts = [draw(plain.PAD_TOKEN, length) for length in lengths]
            for place, number in enumerate(draw(self.one_repeated_in, count)):
                if seen and number == 0:
                    texts[place] = seen[draw(len(seen), 1)[0]]
                seen.append(texts[place])
            data[split] = plain.Texts(texts, labels)
        return data

    def pretrained(self) -> dict[str, Tensor] | None:
        """Tensors of a size at which every part of the model moves the logits; None for random weights."""
        if self.experiment.weights == "random":
            return None
        generator = torch.Generator().manual_seed(self.data_seed)
        tensors = {}
        for name, shape in weight_shapes(self.model).items():
            drawn = torch.randn(shape, generator=generator)
            is_norm_weight = name.endswith("weight") and len(shape) == 1
            tensors[name] = 1 + 0.3 * drawn if is_norm_weight else 0.5 * drawn
        return tensors


@st.composite
def beyond_the_reference(draw, no_padding: bool) -> dict:
    """Options that the reference does not have, most of them with values other than the defaults."""
    layers = st.lists(st.sampled_from(LORA_LAYERS), min_size=1, unique=True)
    return {
        "learning_rate": draw(st.sampled_from([1e-3, 5e-5, 0.1])),
        "weight_decay": draw(st.sampled_from([0.1, 0, 0.5])),
        "lr_schedule": draw(st.sampled_from(["cosine", "linear", "constant"])),
        "warmup_steps": draw(st.sampled_from([0, 1, 3, 1000])),
        "max_grad_norm": draw(st.sampled_from([0.05, None, 1.0])),
        "label_smoothing": draw(st.sampled_from([0.1, 0, 1])),
        "class_weights": draw(st.sampled_from(["balanced", None, (1, 3), (2.5, 0.5)])),
        "lora_scaling": draw(st.sampled_from(["alpha/rank", "alpha", "alpha/sqrt(rank)"])),
        "lora_layers": draw(layers | st.just("all")),
        "mask_padding": not no_padding and draw(st.booleans()),
        "average_over": draw(st.sampled_from(["real", "all"])),
        "keep": draw(st.sampled_from(["best_validation", "last"])),
    }


@st.composite
def cases(draw, trained: str, pooling: str, causal: bool, no_padding: bool, no_loss: bool = False) -> Case:
    """Any valid combination of the other options; the simplest case that is drawn is not trivial.

    no_loss: with a batch whose labels are all ignored, very likely; very unlikely otherwise.
    """
    layers = {"last_two_blocks": [2, 3, 4], "last_3_blocks": [3, 4]}
    n_layer = draw(st.sampled_from(layers.get(trained, [2, 1, 3, 4])))
    n_head = draw(st.sampled_from([2, 1, 3, 4]))
    n_embd = draw(st.sampled_from([width for width in (8, 15, 12, 16, 9, 4, 6, 5, 3) if width % n_head == 0]))
    n_positions = draw(st.integers(8, 24))
    longest = st.integers(0, n_positions - 1).map(lambda missing: n_positions - missing)
    batch_size = 1 if no_padding else draw(st.sampled_from([3, 2, 1] if no_loss else [4, 8, 3, 7, 1, 5, 2, 6]))
    ignore_index = [0, 1] if no_loss else [-100, 50256]
    if batch_size >= 4:
        ignore_index += [0, 1]
    named_lengths = st.sampled_from(["longest_training_example", "model_context_length"])
    experiment = Experiment(
        weights=draw(st.sampled_from(["pretrained", "random"])),
        trainable_layers=trained,
        trainable_token_pos=draw(st.sampled_from(["last", "first"])) if pooling == "mean" else pooling,
        average_embeddings=pooling == "mean",
        context_length=draw(named_lengths | st.integers(1, n_positions)),
        lora_rank=draw(st.integers(1, 4)),
        lora_alpha=draw(st.sampled_from([3, 0.5, 1, 16])),
        no_padding=no_padding,
        num_epochs=draw(st.integers(1, 2)),
        batch_size=batch_size,
        accumulation_steps=draw(st.integers(1, 5)),
        disable_causal_mask=not causal,
        ignore_index=draw(st.sampled_from(ignore_index)),
        **draw(st.just({}) | beyond_the_reference(no_padding)),
    )
    return Case(
        experiment,
        n_layer=n_layer,
        n_head=n_head,
        n_embd=n_embd,
        n_positions=n_positions,
        texts=(draw(st.integers(10, 30)), draw(st.integers(1, 20)), draw(st.integers(1, 20))),
        longest=tuple(draw(longest) for _ in SPLITS),
        one_ignored_in=2 if no_loss else 8,
        data_seed=draw(st.integers(0, 10**6)),
        seed=draw(st.integers(0, 2**62)),
        micro_batch_size=draw(st.sampled_from([None, 1, 2, 3])),
        chunk_tokens=draw(st.sampled_from([20, 1, 100, 4096])),
        shard_mb=draw(st.sampled_from([0.03, 0, 0.01, 64])),
        evaluation_tokens=draw(st.sampled_from([50, 1, 8192])),
    )


class TensorWeights:
    """Weights that are already in memory."""

    def __init__(self, tensors: dict[str, Tensor], model: ModelConfig):
        self.tensors, self.model = tensors, model

    def _named(self, *names: str) -> dict[str, Tensor]:
        return {name: self.tensors[name] for name in names}

    def embeddings(self) -> dict[str, Tensor]:
        return self._named("wte.weight", "wpe.weight")

    def block(self, index: int) -> dict[str, Tensor]:
        return self._named(*(f"h.{index}.{name}" for name in block_shapes(self.model.n_embd)))

    def final_norm(self) -> dict[str, Tensor]:
        return self._named("ln_f.weight", "ln_f.bias")


@contextmanager
def double_precision():
    """Compute in float64 what is otherwise float32: new tensors, and those that are converted to `float`."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
            yield
    finally:
        torch.set_default_dtype(before)


@dataclass
class FastRun:
    """What the fast path computed. first_gradients: as the optimizer sees them at its first step."""

    result: Result
    context: int | None
    trained: dict[str, Tensor]
    first_gradients: dict[str, Tensor]
    counts: tuple[int, int]


def run_plain(case: Case, data: dict[str, plain.Texts], pretrained: dict[str, Tensor] | None):
    """The plain implementation: finetuned, its context length and all its parameters' number."""
    dimensions = plain.Dimensions(case.n_layer, case.n_head, case.n_embd, case.n_positions)
    context = plain.context_length(case.experiment, data["train"], dimensions)
    model = plain.build_model(case.experiment, dimensions, case.seed, pretrained)
    finetuning = plain.Finetuning(case.experiment, model, data, context)
    finetuning.finetune(case.seed)
    return finetuning, context, sum(p.numel() for p in model.parameters())


def run_fast_path(
    case: Case, data: dict[str, plain.Texts], pretrained: dict[str, Tensor] | None, one_shape: bool = False
) -> FastRun:
    """The fast path; with one_shape as it runs on a GPU, where batches do not differ in shape."""
    experiment, model = case.experiment, case.model
    tokens = {
        split: TokenizedSplit(
            ids=torch.tensor([token for text in texts.tokens for token in text]),
            lengths=torch.tensor([len(text) for text in texts.tokens]),
            labels=torch.tensor(texts.labels),
        )
        for split, texts in data.items()
    }

    def open_weights():
        return RandomWeights(model, case.seed) if pretrained is None else TensorWeights(pretrained, model)

    spec = feature_spec(experiment, model, case.seed, "float32")
    if spec is None:
        context = context_positions(experiment, tokens, model.n_positions)
        inputs = inputs_from_tokens(experiment, tokens, context)
    else:
        layout = lay_out_features(spec, model, tokens)
        hidden = torch.cat(list(extract(spec, model, layout, open_weights, DEVICE, case.shard_mb)))
        context = layout.context
        inputs = inputs_from_features(experiment, Features(spec, split_features(layout, hidden), context, 0.0, 0.0))
    classifier = build_classifier(experiment, model, open_weights(), case.seed)
    assert {p.dtype for p in classifier.parameters()} == {torch.float64}
    counts = count_parameters(experiment, model, classifier)
    finetuning = Finetuning(
        experiment, classifier, inputs, case.seed, DEVICE, "float32", case.micro_batch_size, use_fixed_shape=one_shape
    )
    first_gradients: dict[str, Tensor] = {}
    trained = trained_parameters(classifier)

    update = finetuning.optimizer.step

    def keep_first() -> None:
        if not first_gradients:
            gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in trained.items()}
            first_gradients.update(gradients)
        update()

    finetuning.optimizer.step = keep_first
    return FastRun(finetuning.train(), context, trained, first_gradients, counts)


def trained_parameters(classifier: Classifier) -> dict[str, Tensor]:
    return {name: p for name, p in classifier.named_parameters() if p.requires_grad}


# The fast path's modules, and what they are called in the plain implementation.
MODULES = {
    "wte": ["token_embedding"],
    "wpe": ["position_embedding"],
    "ln_f": ["final_norm"],
    "head": ["head"],
}
BLOCK_MODULES = {
    "ln_1": ["norm_1"],
    "ln_2": ["norm_2"],
    "attn.c_attn": ["attention.query", "attention.key", "attention.value"],
    "attn.c_proj": ["attention.projection"],
    "mlp.c_fc": ["feed_forward.inward"],
    "mlp.c_proj": ["feed_forward.outward"],
}


def in_package_layout(plain_tensors: dict[str, Tensor], n_layer: int) -> dict[str, Tensor]:
    """The plain implementation's tensors under the fast path's names: [in, out], and three projections as one."""
    tensors = {name.replace(".linear.", "."): tensor for name, tensor in plain_tensors.items()}
    modules = dict(MODULES)
    for index in range(n_layer):
        for ours, theirs in BLOCK_MODULES.items():
            modules[f"h.{index}.{ours}"] = [f"blocks.{index}.{name}" for name in theirs]
    converted = {}
    for ours, theirs in modules.items():
        for part in ("weight", "bias", "lora_a", "lora_b"):
            parts = [tensors.pop(f"{name}.{part}") for name in theirs if f"{name}.{part}" in tensors]
            if part == "weight" and ours not in ("wte", "wpe"):
                parts = [tensor.t() for tensor in parts]
            if parts:
                converted[f"{ours}.{part}"] = torch.stack(parts) if part == "lora_b" else torch.cat(parts, dim=-1)
    assert not tensors, f"not compared: {sorted(tensors)}"
    return converted


def assert_same_tensors(found: dict[str, Tensor], expected: dict[str, Tensor], what: str) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.shape == expected[name].shape, name
        difference = (tensor.cpu() - expected[name]).abs().max().item()
        assert difference <= TOLERANCE, f"{what} of {name} differs by {difference}"


def assert_same_numbers(found: list, expected: list, what: str) -> None:
    assert len(found) == len(expected), what
    assert found == pytest.approx(expected, rel=0, abs=TOLERANCE), what


def assert_same_run(fast: FastRun, finetuning: plain.Finetuning, n_layer: int) -> None:
    result, expected = fast.result, finetuning.run
    history = result.history
    first_gradients = in_package_layout(expected.first_gradients, n_layer)
    assert_same_tensors(fast.first_gradients, first_gradients, "gradient at the first update")
    assert_same_numbers([line.batch_loss for line in history], expected.batch_losses, "batch losses")
    evaluated = [line for line in history if line.train_loss is not None or line.val_loss is not None]
    assert [line.step for line in evaluated] == [step for step, _, _ in expected.evaluations]
    found = [(line.train_loss, line.val_loss) for line in evaluated]
    for (_, *losses), pair in zip(expected.evaluations, found, strict=True):
        assert_same_numbers(list(pair), losses, "evaluation losses")
    epochs = [(line.train_acc, line.val_acc) for line in history if line.train_acc is not None]
    assert epochs == expected.epochs
    assert result.correct == expected.correct
    assert result.kept_epoch == expected.kept_epoch or expected.kept_epoch is None
    assert_same_tensors({"test": result.logits}, {"test": expected.test_logits}, "logits")
    trained = in_package_layout(dict(finetuning.trained), n_layer)
    assert_same_tensors(fast.trained, trained, "value after training")


@contextmanager
def small_parts(case: Case):
    """Double precision, and parts so small that the fast path needs several of each kind."""
    with (
        double_precision(),
        mock.patch.object(features, "CHUNK_TOKENS", case.chunk_tokens),
        mock.patch.object(feature_spec_module, "CHUNK_TOKENS", case.chunk_tokens),
        mock.patch.object(training, "EVALUATION_TOKENS", case.evaluation_tokens),
    ):
        yield


def check(case: Case) -> None:
    data = case.data()
    with small_parts(case):
        pretrained = case.pretrained()
        try:
            finetuning, context, total = run_plain(case, data, pretrained)
        except plain.NoLoss:
            reject()
        runs = [run_fast_path(case, data, pretrained, one_shape) for one_shape in (False, True)]
    for fast in runs:
        assert fast.context == context
        assert fast.counts == (sum(p.numel() for p in finetuning.trained.values()), total)
        assert_same_run(fast, finetuning, case.n_layer)


def combinations() -> Iterator:
    """All combinations. Half of them are slow tests; the other half has every combination of any three options."""
    for indices in itertools.product(*(range(len(values)) for values in OPTIONS)):
        combination = [values[index] for values, index in zip(OPTIONS, indices)]
        yield pytest.param(*combination, id="-".join(combination), marks=[pytest.mark.slow] * (sum(indices) % 2))


@pytest.mark.parametrize(("trained", "pooling", "mask", "padding"), list(combinations()))
def test_fast_path_equals_the_plain_implementation(trained, pooling, mask, padding):
    test = PROFILE(given(cases(trained, pooling, mask == "causal", padding == "no_padding"))(check))
    if PROFILE.derandomize:
        # Without a seed of its own each of these would draw the same other options.
        test = seed(f"{trained} {pooling} {mask} {padding}")(test)
    test()


@settings(PROFILE, max_examples=8 * PROFILE.max_examples)
@given(st.data())
def test_batch_whose_labels_are_all_ignored_stops_the_run_and_is_named(data):
    trained = data.draw(st.sampled_from(["last_layer", "all"]))
    case = data.draw(cases(trained, "last", causal=True, no_padding=data.draw(st.booleans()), no_loss=True))
    texts = case.data()
    with small_parts(case):
        pretrained = case.pretrained()
        try:
            run_plain(case, texts, pretrained)
            reject()
        except plain.NoLoss as no_loss:
            expected = no_loss.step
        with pytest.raises(InputError, match=r"^step \d+: every label") as error:
            run_fast_path(case, texts, pretrained)
    named = int(re.match(r"step (\d+)", str(error.value))[1])
    # The batches of one update are looked at together, before the evaluations between them.
    assert expected <= named < expected + case.experiment.accumulation_steps
    assert named == expected or expected % 50 == 0
