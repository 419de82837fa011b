"""The device on which the tests of numbers compute: the CPU, or a GPU in `make test-gpu`."""

import os

import torch

DEVICE = torch.device(os.environ.get("GPT2_ABLATIONS_TEST_DEVICE", "cpu"))
