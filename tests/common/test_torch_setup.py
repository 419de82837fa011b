"""The choice of the device, and its short name for the table."""

import pytest
import torch

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.common.hardware import short_device_name
from gpt2_ablations.common.torch_setup import select_device


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA L4", "L4"),
        ("AMD EPYC", "AMD EPYC"),
        ("AMD EPYC 9B14 96-Core Processor", "AMD EPYC"),
        ("AMD Ryzen 9 7950X 16-Core Processor", "AMD Ryzen 9"),
        ("Intel(R) Xeon(R) Platinum 8480+", "Intel Xeon"),
        ("Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz", "Intel Core i7-8650U"),
        ("13th Gen Intel(R) Core(TM) i7-1365U", "Intel Core i7-1365U"),
        ("Apple M3", "Apple M3"),
        ("Apple M2 Max", "Apple M2 Max"),
        ("", "CPU"),
    ],
)
def test_a_device_name_is_shortened_for_the_table(name, short):
    assert short_device_name(name) == short


def test_a_device_that_the_machine_does_not_have_is_refused():
    with pytest.raises(InputError, match="device is 'mps', which this machine does not have; allowed here: auto, cpu"):
        select_device("mps")


def test_auto_is_a_gpu_of_cuda_or_the_cpu_and_mps_is_taken_by_name_only(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert select_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert select_device("mps").type == "mps"
