"""The source files on which a rule's outputs depend: the rule runs again when one of them changes."""

import os
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# The modules that can change the numbers of a training run.
TRAINING_CODE = (
    "finetuning/adamw",
    "finetuning/batches",
    "finetuning/checkpoints",
    "finetuning/classifier",
    "finetuning/cuda_graph",
    "finetuning/evaluation",
    "settings/experiment",
    "finetuning/updates",
    "gpt2/model",
    "data/tokens",
    "finetuning/loop",
    "gpt2/weights",
)


def code(*modules: str) -> list[str]:
    """Source files as inputs of a rule, relative to the working directory.

    Snakemake compares small inputs by content, so a new date alone does not run the rule again.

    Args:
        modules: paths below the package without `.py`, such as `gpt2/model`.
    """
    return [os.path.relpath(PACKAGE / f"{module}.py") for module in modules]
