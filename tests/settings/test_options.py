"""Options are described once, where they are declared; help, manual and messages say the same."""

import argparse

import pytest

from gpt2_ablations.cli import parse
from gpt2_ablations.settings.config import Config
from gpt2_ablations.settings.experiment import OPTIONS, Experiment, add_experiment_flags
from gpt2_ablations.settings.manual import SCHEMAS, TABLE, with_option_tables
from gpt2_ablations.settings.models import ModelConfig
from gpt2_ablations.settings.schema.options import allowed_values, describe, fields_of
from tests.conftest import CHECKOUT

MANUAL = (CHECKOUT / "config" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("schema", [Config, Experiment, ModelConfig], ids=lambda schema: schema.__name__)
def test_every_option_has_a_description_allowed_values_and_an_example(schema):
    for option in describe(schema, {}):
        assert option.description and option.allowed and option.example, option.name
        assert not option.description.endswith("."), f"{option.name}: the texts around it end the sentence"


def test_the_manual_has_a_table_of_each_file_and_each_is_as_the_schema_says():
    assert [match[2] for match in TABLE.finditer(MANUAL)] == list(SCHEMAS)
    assert with_option_tables(MANUAL, CHECKOUT / "config") == MANUAL, "run `make format`"


def test_the_manual_changes_with_the_schema(monkeypatch):
    monkeypatch.setattr(fields_of(Experiment)["batch_size"], "description", "Something else")
    assert "Something else" in with_option_tables(MANUAL, CHECKOUT / "config")


def test_help_of_train_describes_every_option_and_switch(capsys):
    with pytest.raises(SystemExit):
        parse(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, field in fields_of(Experiment).items():
        assert f"--{name}" in text and " ".join(field.description.split())[:40] in text, name
    assert "Allowed: first, last, flexible. Default: last. Example: flexible" in text


def test_examples_and_defaults_are_allowed_values():
    for name, field in fields_of(Experiment).items():
        value = field.examples[0]
        needed = {"no_padding": {"batch_size": 1}}.get(name, {})
        found = getattr(Experiment(**{name: value}, **needed), name)
        assert (list(found) if isinstance(found, tuple) else found) == value


def test_flags_are_the_options_in_their_order():
    parser = argparse.ArgumentParser(add_help=False)
    add_experiment_flags(parser)
    assert [action.dest for action in parser._actions] == list(OPTIONS)


def test_allowed_values_come_from_the_type_where_no_words_are_given():
    fields = fields_of(Config)
    assert allowed_values(fields["device"]) == "auto, cpu, cuda, mps"
    assert allowed_values(fields["keep_models"]) == "true, false"
    assert allowed_values(fields["micro_batch_size"]) == "an integer from 1, or null"
