"""A loss that is not finite stops the row at that step, and the row has no metrics."""

import re

import pytest
import yaml
from safetensors.torch import load_file, save_file

from tests.conftest import write_yaml
from tests.faults.runs import contents, run


@pytest.mark.slow
@pytest.mark.parametrize("layers", ["last_block", "all"])
def test_a_loss_that_is_not_finite_stops_the_row_and_names_the_step(layers, finished):
    weights = load_file(finished.folder / "tiny.safetensors")
    # These weights are finite, so that the file is accepted; their products overflow float32.
    for name in ("h.2.mlp.c_fc.weight", "h.2.mlp.c_proj.weight"):
        weights[name] *= 1e30
    save_file(weights, finished.folder / "huge.safetensors")
    models = yaml.safe_load((finished.folder / "models.yaml").read_text())
    write_yaml(finished.folder / "models.yaml", models | {"huge": models["tiny"] | {"source": "huge.safetensors"}})
    finished.rows({"1": {}, "2": {"trainable_layers": "all"}, "3": {"model_size": "huge", "trainable_layers": layers}})
    before = contents(finished.results / "rows")
    failed = run(finished)
    assert failed.code == 1 and "Traceback" not in failed.output, failed.output
    (error,) = failed.errors
    expected = r"error: step \d+: the loss is (nan|inf); training cannot continue; check the weights"
    assert re.match(expected, error), error
    assert contents(finished.results / "rows") == before
