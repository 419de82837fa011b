"""A device whose memory is too small: one retry with half the size, and the same numbers."""

import pytest
import torch

from gpt2_ablations.cli import main
from gpt2_ablations.common.errors import InputError
from gpt2_ablations.data import dataset
from gpt2_ablations.finetuning.loop import Finetuning
from gpt2_ablations.finetuning.updates import ComputeSizes
from tests.finetuning.test_checkpoints import KINDS, finetuning


def limit(training: Finetuning, texts: int, in_evaluation: bool = False) -> list[int]:
    """Make the model raise the error of a full GPU for batches of more than `texts` texts.

    Returns: a list that receives the size of each batch that was too large.
    """
    refused: list[int] = []

    def refuse(_, inputs) -> None:
        batch = inputs[1]
        if len(batch.lengths) > texts and torch.is_grad_enabled() != in_evaluation:
            refused.append(len(batch.lengths))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    training.classifier.register_forward_pre_hook(refuse)
    return refused


# A single text, as in no_padding, has no half.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "no_padding"])
def test_a_step_that_does_not_fit_is_repeated_with_half_the_micro_batch(kind, capfd):
    expected, training = finetuning(**KINDS[kind]), finetuning(**KINDS[kind])
    whole = training.sizes.micro_batch_size
    refused = limit(training, whole - 1)
    found = training.train()
    assert refused == [whole] and training.sizes.micro_batch_size == whole // 2
    assert f"continuing with micro_batch_size {whole // 2}" in capfd.readouterr().err
    losses, expected_losses = ([line.batch_loss for line in run.history] for run in (found, expected.train()))
    assert losses == pytest.approx(expected_losses, abs=1e-5)
    torch.testing.assert_close(found.logits, expected.result.logits, rtol=0, atol=1e-4)
    assert found.correct == expected.result.correct


def test_a_micro_batch_that_did_fit_is_not_counted_twice():
    expected, training = finetuning(trainable_layers="all"), finetuning(trainable_layers="all")
    training.sizes.micro_batch_size = 2
    passes = 0

    def refuse_the_second(*_) -> None:
        nonlocal passes
        if torch.is_grad_enabled():
            passes += 1
            if passes == 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")

    training.classifier.register_forward_pre_hook(refuse_the_second)
    found = training.train()
    assert training.sizes.micro_batch_size == 1
    torch.testing.assert_close(found.logits, expected.train().logits, rtol=0, atol=1e-4)


def test_an_evaluation_that_does_not_fit_is_repeated_with_fewer_tokens():
    expected, training = finetuning(), finetuning()
    training.sizes.evaluation_tokens = 240  # 20 texts
    assert limit(training, 10, in_evaluation=True) == []
    found = training.train()
    assert training.sizes.evaluation_tokens == 120
    torch.testing.assert_close(found.logits, expected.train().logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("MPS backend out of memory (MPS allocated: 17.5 GB, max allowed: 18 GB)."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
    ids=["MPS", "CPU", "cuBLAS", "Python"],
)
def test_too_little_memory_is_known_whatever_class_the_device_s_error_has(error):
    sizes = ComputeSizes(torch.device("cpu"), 8, 240)

    def compute() -> int:
        if sizes.micro_batch_size == 8:
            raise error
        return sizes.micro_batch_size

    assert sizes.retry_smaller(compute, 0) == 4


def test_another_runtime_error_is_not_taken_for_too_little_memory():
    def compute() -> None:
        raise RuntimeError("Placeholder storage has not been allocated on MPS device!")

    with pytest.raises(RuntimeError, match="Placeholder"):
        ComputeSizes(torch.device("cpu"), 8, 240).retry_smaller(compute, 0)


@pytest.mark.parametrize(("options", "texts", "last"), [({}, 1, 2), ({"batch_size": 1}, 0, 1)])
def test_a_second_failure_says_what_to_do(options, texts, last):
    training = finetuning(**options)
    limit(training, texts)
    with pytest.raises(InputError) as refused:
        training.train()
    assert str(refused.value) == (
        f"step 0: device cpu has too little memory for micro_batch_size {last}; set a smaller one, precision: bfloat16"
        " or device: cpu"
    )


def test_too_little_memory_elsewhere_gives_one_line(monkeypatch, capsys):
    monkeypatch.setattr(dataset, "split_messages", lambda *_: torch.empty(2**50))
    assert main(["split-messages"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: split-messages: too little memory for this row; set a smaller micro_batch_size")
