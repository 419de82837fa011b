"""Numbers and names that several folders share, each stated once."""

from typing import Literal

# Of GPT-2's vocabulary, and the token that the reference pads with: its end-of-text token.
VOCABULARY_SIZE = 50257
PAD_TOKEN = 50256
# PyTorch's default, which no label has: every label counts for the loss.
NO_IGNORE_INDEX = -100

SPLITS = ("train", "validation", "test")
# A split as the columns of metrics.json and history.csv name it.
Split = Literal["train", "val", "test"]
SPLIT_PREFIX: dict[str, Split] = {"train": "train", "validation": "val", "test": "test"}
CLASSES = (0, 1)

# The reference evaluates losses at every so many steps, on so many batches of a split; accuracies after each epoch.
EVALUATE_EVERY = 50
EVALUATION_BATCHES = 5

# Positions that the frozen layers compute at a time: large enough for the matrix products to run at full speed.
CHUNK_TOKENS = 4096
# Positions that an evaluation computes at a time.
EVALUATION_TOKENS = 8192

# Training steps of the demo's miniatures, and texts of a step.
PRETRAINING_STEPS = 400
PRETRAINING_BATCH_SIZE = 8
