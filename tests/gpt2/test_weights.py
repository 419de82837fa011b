"""Pretrained weights are checked tensor by tensor and mapped part by part; random weights come from one generator."""

import gc
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.gpt2.weight_files import check_pretrained_weights
from gpt2_ablations.gpt2.weights import PretrainedWeights, RandomWeights
from gpt2_ablations.settings.models import ModelConfig

C, N_POSITIONS, VOCABULARY = 8, 6, 50257
MODEL = ModelConfig(n_layer=2, n_head=2, n_embd=C, n_positions=N_POSITIONS, source="a file of these tests")
BLOCK = {
    "ln_1.weight": (C,),
    "ln_1.bias": (C,),
    "attn.c_attn.weight": (C, 3 * C),
    "attn.c_attn.bias": (3 * C,),
    "attn.c_proj.weight": (C, C),
    "attn.c_proj.bias": (C,),
    "ln_2.weight": (C,),
    "ln_2.bias": (C,),
    "mlp.c_fc.weight": (C, 4 * C),
    "mlp.c_fc.bias": (4 * C,),
    "mlp.c_proj.weight": (4 * C, C),
    "mlp.c_proj.bias": (C,),
}
SHAPES = {
    "wte.weight": (VOCABULARY, C),
    "wpe.weight": (N_POSITIONS, C),
    **{f"h.{index}.{name}": shape for index in range(MODEL.n_layer) for name, shape in BLOCK.items()},
    "ln_f.weight": (C,),
    "ln_f.bias": (C,),
}
PREFIXES = ("", "transformer.")


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "model.safetensors"


def save(tensors: dict[str, Tensor], file: Path, prefix: str = "") -> None:
    save_file({prefix + name: tensor.contiguous() for name, tensor in tensors.items()}, file)


def read_all(weights) -> dict[str, Tensor]:
    parts = [weights.embeddings(), *(weights.block(index) for index in range(MODEL.n_layer)), weights.final_norm()]
    return {name: tensor for part in parts for name, tensor in part.items()}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype and torch.equal(tensor, expected[name]), name


def refusal(file: Path, read=PretrainedWeights) -> str:
    """The message that refuses a file: one line that begins with its path."""
    with pytest.raises(InputError) as error:
        read(file, MODEL)
    message = str(error.value)
    assert message.startswith(f"{file}: ")
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_tensor_is_read_under_the_classifier_s_name(prefix, tensors, file):
    save(tensors, file, prefix)
    assert_equal(read_all(PretrainedWeights(file, MODEL)), tensors)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_masks_and_the_tied_output_layer_are_skipped(prefix, tensors, file):
    masks = {f"h.{index}.attn.bias": torch.ones(1, 1, 6, 6, dtype=torch.bool).tril() for index in range(2)}
    masks |= {f"h.{index}.attn.masked_bias": torch.tensor(-1e4) for index in range(2)}
    stored = {prefix + name: tensor for name, tensor in (tensors | masks).items()}
    save_file(stored | {"lm_head.weight": tensors["wte.weight"].clone()}, file)
    assert_equal(read_all(PretrainedWeights(file, MODEL)), tensors)
    check_pretrained_weights(file, MODEL)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_types_are_read_as_float32(dtype, tensors, file):
    stored = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    save(stored, file)
    assert_equal(read_all(PretrainedWeights(file, MODEL)), {name: t.float() for name, t in stored.items()})


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["wpe.weight", "h.1.mlp.c_fc.bias", "ln_f.weight"])
def test_missing_tensor_is_named(name, prefix, tensors, file):
    del tensors[name]
    save(tensors, file, prefix)
    assert f"lacks tensor '{prefix}{name}'" in refusal(file)


def test_smaller_model_s_file_is_refused_with_the_number_of_missing_tensors(tensors, file):
    save({name: tensor for name, tensor in tensors.items() if not name.startswith("h.1.")}, file)
    message = refusal(file)
    assert "lacks tensor 'h.1.ln_1.weight' (and 11 more)" in message
    assert "2 blocks" in message


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["h.2.ln_1.weight", "score.weight", "h.0.attn.bias_k"])
def test_extra_tensor_is_named(name, prefix, tensors, file):
    save(tensors | {name: torch.zeros(C)}, file, prefix)
    assert f"has an extra tensor '{prefix}{name}'" in refusal(file)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    "name, shape",
    [
        ("h.0.attn.c_attn.weight", (3 * C, C)),
        ("wpe.weight", (N_POSITIONS + 1, C)),
        ("h.1.ln_2.bias", (1, C)),
        ("wte.weight", (VOCABULARY - 1, C)),
    ],
)
def test_tensor_of_another_shape_is_named_with_both_shapes(name, shape, prefix, tensors, file):
    save(tensors | {name: torch.zeros(shape)}, file, prefix)
    message = refusal(file)
    assert f"'{prefix}{name}'" in message
    assert str(list(shape)) in message and str(list(SHAPES[name])) in message


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8, torch.bool])
def test_tensor_that_is_not_floating_point_is_named(dtype, tensors, file):
    name = "h.1.attn.c_proj.weight"
    save(tensors | {name: torch.ones(SHAPES[name], dtype=dtype)}, file)
    assert f"'{name}'" in refusal(file)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -100, -1])
def test_truncated_file_is_refused(kept, tensors, file):
    save(tensors, file)
    whole = file.read_bytes()
    file.write_bytes(whole[:kept])
    refusal(file)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html>\n<title>404</title>\n", b"PK\x03\x04" * 50, bytes(64)])
def test_file_that_is_no_safetensors_file_is_refused(content, file):
    file.write_bytes(content)
    refusal(file)


def test_damaged_header_is_refused_in_one_line(tensors, file):
    save(tensors, file)
    content = bytearray(file.read_bytes())
    content[8:40] = b"\n" * 32
    file.write_bytes(content)
    refusal(file)


def test_header_that_announces_more_than_the_file_holds_is_refused(tensors, file):
    save(tensors, file)
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["ln_f.bias"]["data_offsets"][1] += 4 * C
    header["ln_f.bias"]["shape"] = [2 * C]
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
    refusal(file)


def test_folder_in_place_of_a_file_is_refused(file):
    file.mkdir()
    refusal(file)


def test_missing_file_names_the_command_that_creates_it(file):
    message = refusal(file)
    assert "no such file" in message and "snakemake" in message


def test_whole_file_of_finite_numbers_passes_the_check(tensors, file):
    save(tensors, file)
    check_pretrained_weights(file, MODEL)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["wte.weight", "wpe.weight", "h.1.mlp.c_proj.weight", "h.0.ln_1.bias", "ln_f.bias"])
def test_single_number_that_is_not_finite_is_found_and_its_tensor_named(name, number, tensors, file):
    tensors[name].view(-1)[-1] = number
    save(tensors, file)
    assert f"'{name}'" in refusal(file, check_pretrained_weights)


def test_check_refuses_what_opening_refuses(tensors, file):
    del tensors["ln_f.bias"]
    save(tensors, file)
    assert "lacks tensor 'ln_f.bias'" in refusal(file, check_pretrained_weights)


MAPS = Path("/proc/self/maps")
needs_maps = pytest.mark.skipif(not MAPS.is_file(), reason="this system has no /proc/self/maps")


def mapped_ranges(file: Path) -> list[range]:
    """The addresses at which this process has the file mapped."""
    lines = [line.split(maxsplit=5) for line in MAPS.read_text().splitlines()]
    return [
        range(*(int(address, 16) for address in fields[0].split("-")))
        for fields in lines
        if len(fields) == 6 and fields[5] == str(file.resolve())
    ]


def is_mapped(tensor: Tensor, ranges: list[range]) -> bool:
    first, last = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes - 1
    return any(first in addresses and last in addresses for addresses in ranges)


@needs_maps
@pytest.mark.parametrize("part", ["embeddings", "block", "final_norm"])
def test_tensors_of_a_part_lie_in_the_mapped_file(part, tensors, file):
    save(tensors, file)
    weights = PretrainedWeights(file, MODEL)
    read = weights.block(1) if part == "block" else getattr(weights, part)()
    ranges = mapped_ranges(file)
    assert [name for name, tensor in read.items() if not is_mapped(tensor, ranges)] == []


@needs_maps
def test_part_is_unmapped_as_soon_as_its_tensors_are_dropped(tensors, file):
    save(tensors, file)
    weights = PretrainedWeights(file, MODEL)
    assert mapped_ranges(file) == [], "opening checks names and shapes and keeps nothing"
    part = weights.block(0)
    assert mapped_ranges(file)
    del part
    gc.collect()
    assert mapped_ranges(file) == []


@needs_maps
def test_part_still_in_use_survives_the_dropping_of_another(tensors, file):
    save(tensors, file)
    weights = PretrainedWeights(file, MODEL)
    first, second = weights.block(0), weights.block(1)
    del first
    gc.collect()
    ranges = mapped_ranges(file)
    assert all(is_mapped(tensor, ranges) for tensor in second.values())
    assert_equal(second, {name: tensors[name] for name in second})


def test_file_replaced_after_opening_is_not_mixed_with_the_old_one(tensors, file):
    save(tensors, file)
    weights = PretrainedWeights(file, MODEL)
    held = weights.block(0)
    replacement = file.with_suffix(".new")
    save({name: tensor + 1 for name, tensor in tensors.items()}, replacement)
    os.replace(replacement, file)
    assert_equal(held, {name: tensors[name] for name in held})


def weights_of_pytorch_layers(seed: int) -> dict[str, Tensor]:
    """The reference's model made of PyTorch's own layers, in its order, drawn from the global generator."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        tensors = {"wte.weight": nn.Embedding(VOCABULARY, C).weight, "wpe.weight": nn.Embedding(N_POSITIONS, C).weight}
        for h in (f"h.{index}" for index in range(MODEL.n_layer)):
            norm, qkv = nn.LayerNorm(C), [nn.Linear(C, C) for _ in range(3)]
            linear = {
                "attn.c_proj": nn.Linear(C, C),
                "mlp.c_fc": nn.Linear(C, 4 * C),
                "mlp.c_proj": nn.Linear(4 * C, C),
            }
            for name in ("ln_1", "ln_2"):
                tensors |= {f"{h}.{name}.weight": norm.weight, f"{h}.{name}.bias": norm.bias}
            tensors[f"{h}.attn.c_attn.weight"] = torch.cat([layer.weight.t() for layer in qkv], dim=1)
            tensors[f"{h}.attn.c_attn.bias"] = torch.cat([layer.bias for layer in qkv])
            for name, layer in linear.items():
                tensors |= {f"{h}.{name}.weight": layer.weight.t(), f"{h}.{name}.bias": layer.bias}
        norm = nn.LayerNorm(C)
        return tensors | {"ln_f.weight": norm.weight, "ln_f.bias": norm.bias}


@pytest.mark.parametrize("seed", [0, 123, 2**62])
def test_random_weights_are_those_of_pytorch_s_own_layers(seed):
    assert_equal(
        read_all(RandomWeights(MODEL, seed)), {n: t.detach() for n, t in weights_of_pytorch_layers(seed).items()}
    )


def test_random_weights_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    read_all(RandomWeights(MODEL, 1))
    assert torch.equal(torch.get_rng_state(), before)


PARTS = st.sampled_from(["embeddings", "final_norm", 0, 1])


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(PARTS, min_size=1, max_size=6))
def test_random_part_is_the_same_in_any_order_of_parts(order):
    in_order = read_all(RandomWeights(MODEL, 123))
    weights = RandomWeights(MODEL, 123)
    for part in order:
        drawn = weights.block(part) if isinstance(part, int) else getattr(weights, part)()
        assert_equal(drawn, {name: in_order[name] for name in drawn})
