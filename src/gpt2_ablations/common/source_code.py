"""The source files on which the outputs of a rule depend."""

import os
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# The modules whose changes change what a training computes.
TRAINING_CODE = (
    "finetuning/adamw",
    "finetuning/batches",
    "finetuning/checkpoints",
    "finetuning/cuda_graph",
    "finetuning/evaluation",
    "settings/experiment",
    "finetuning/fixed_shape",
    "gpt2/model",
    "data/tokens",
    "finetuning/loop",
    "gpt2/weights",
)


def code(*modules: str) -> list[str]:
    """Source files as rule inputs: a job runs again when their contents change, not when their dates do."""
    return [os.path.relpath(PACKAGE / f"{module}.py") for module in modules]
