"""How long jobs will take here: what they have to do, over how fast this machine is.

tests/benchmarks/ESTIMATES.md compares it with measured times.
"""

from .costs import Cost
from .machine_speed import READ_BYTES, WRITTEN_BYTES, Speed

# Of the measured product rate, what the model's own products reach.
EFFICIENCY = 0.85
# A job's start-up over its imports' time: Snakemake's shell, the settings, the input files, the first step.
START_UP = 1.5


def seconds(work: Cost, speed: Speed) -> float:
    """Seconds that a job computes, without its start-up."""
    return (
        work.operations / (EFFICIENCY * speed.operations)
        + work.moved / speed.moved
        + work.steps * speed.step
        + work.blocks * speed.block
        + work.passes * speed.passed
        + work.drawn / speed.drawn
        + work.read / READ_BYTES
        + work.written / WRITTEN_BYTES
    )


def start_up_seconds(speed: Speed) -> float:
    """Seconds from a job's start until it computes."""
    return START_UP * speed.started
