"""Helpers for tests of jobs on GPUs."""

import subprocess
from pathlib import Path

from gpt2_ablations.common.gpus import LOCK_FOLDER_VARIABLE, SHARE_GPUS_VARIABLE
from tests.conftest import environment


def job_environment(locks: Path) -> dict[str, str]:
    """The environment of a job that may take any GPU, with a lock folder of its own test."""
    left_out = ("CUDA_VISIBLE_DEVICES", SHARE_GPUS_VARIABLE)
    kept = {key: value for key, value in environment().items() if key not in left_out}
    return kept | {LOCK_FOLDER_VARIABLE: str(locks)}


def send_line(process: subprocess.Popen) -> None:
    """Write a line to the standard input of a job: the signal to release its GPU."""
    process.stdin.write("\n")
    process.stdin.flush()
