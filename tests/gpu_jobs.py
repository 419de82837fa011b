"""What tests of jobs on GPUs share."""

import subprocess
from pathlib import Path

from gpt2_ablations.common.gpus import LOCK_FOLDER, SHARE_GPUS
from tests.conftest import environment


def job_environment(locks: Path) -> dict[str, str]:
    """Of a job that may take any GPU, and shares them with the jobs of its own test alone."""
    mine = {key: value for key, value in environment().items() if key not in ("CUDA_VISIBLE_DEVICES", SHARE_GPUS)}
    return mine | {LOCK_FOLDER: str(locks)}


def tell(process: subprocess.Popen) -> None:
    """Let a job give its GPU back: a line of input."""
    process.stdin.write("\n")
    process.stdin.flush()
