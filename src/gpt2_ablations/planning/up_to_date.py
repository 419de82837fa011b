"""Which runs and feature files are up to date: what they were made from is what they would be made from now.

Snakemake runs a job again when a job before it runs again, even if that makes the same file, and when one of its inputs
is missing and made again for another job. It compares inputs of more than a megabyte by date alone. An output that is
up to date by content is therefore cut off from the jobs before it (see `settled` in workflow/rules/common.smk).
"""

import json
from functools import cached_property
from pathlib import Path

from ..common.hashing import sha256_of
from ..data.provenance import tokens_made_from
from ..runs.made_from import MadeFrom, features_made_from, run_made_from
from ..settings.paths import MODEL_FILE
from .workflow import Workflow


class UpToDate:
    """The runs and feature files of a workflow that are up to date."""

    def __init__(self, workflow: Workflow):
        self._workflow = workflow
        self._runs: dict[tuple[str, int], bool] = {}
        self._features: dict[str, bool] = {}

    def run(self, row: str, seed: int) -> bool:
        """Whether a run with one seed is up to date."""
        if (row, seed) not in self._runs:
            self._runs[row, seed] = self._tokens is not None and self._run_is_up_to_date(row, seed)
        return self._runs[row, seed]

    def features(self, identity: str) -> bool:
        """Whether a feature file is up to date."""
        if identity not in self._features:
            self._features[identity] = self._tokens is not None and self._features_are_up_to_date(identity)
        return self._features[identity]

    @cached_property
    def _tokens(self) -> str | None:
        """The sha256 of the token file; None if it is missing, or would be made from something else now."""
        file, config = self._workflow.paths.tokens, self._workflow.config
        recorded = metadata_of(file).get("made_from")
        return sha256_of(file) if recorded and recorded == tokens_made_from(config) else None

    def _run_is_up_to_date(self, row: str, seed: int) -> bool:
        workflow, folder = self._workflow, self._workflow.paths.row(row, seed)
        names = ["history.csv", "predictions.csv", *[MODEL_FILE] * workflow.config.keep_models]
        try:
            recorded = json.loads((folder / "metrics.json").read_bytes())["made_from"]
        except (OSError, ValueError, LookupError, TypeError):
            return False
        experiment = workflow.experiments[row]
        model = workflow.models[experiment.model_size]
        current = run_made_from(workflow.config, experiment, model, seed, self._tokens)
        return recorded == current and all((folder / name).is_file() for name in names)

    def _features_are_up_to_date(self, identity: str) -> bool:
        workflow, spec = self._workflow, self._workflow.spec(identity)
        current: MadeFrom = features_made_from(workflow.config, spec, workflow.models[spec.model_size], self._tokens)
        return metadata_of(workflow.paths.features(identity)).get("made_from") == json.dumps(current)


def metadata_of(file: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty if it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            return opened.metadata() or {}
    except (OSError, SafetensorError):
        return {}
