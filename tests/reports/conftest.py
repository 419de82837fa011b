"""Fixtures of the report tests."""

import pytest


@pytest.fixture
def labelled(results):
    """A results folder whose models file gives gpt2-medium a label."""
    name = "gpt2-medium (355M)"
    entry = results.models[name].model_copy(update={"label": "gpt2-medium (miniature)"})
    results.models = results.models | {name: entry}
    return results
