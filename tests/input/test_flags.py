"""Mistakes on the command line: flags that are unknown, without a value, of the wrong type or out of range."""

import json

import pytest

from .conftest import Project, the_line
from .test_every_key import OPTIONS, out_of_range, refuses

SWITCHES = [name for name, field in OPTIONS.items() if field.annotation is bool]
WORDS = ["", "x", "1.5", "nan", "inf", "-1", "0", "1e400", "9" * 5000]


def flag(name: str, text: str) -> list[str]:
    return [f"--{name}={text}"]


def train(project: Project, *arguments: str) -> str:
    """The error of a `train` command that must fail and write nothing."""
    line = project.refusal("train", "--model_size=tiny", *arguments, "--config", "config.yaml")
    assert not (project.folder / "results").exists()
    return line


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in SWITCHES])
def test_a_value_that_is_not_allowed_is_named(project, name):
    values = [str(value) for value in out_of_range(OPTIONS[name])] + WORDS
    texts = isinstance(OPTIONS[name].default, str) and name != "context_length"
    for text in values:
        number = text if texts else _as_number(text)
        if name == "model_size" or not refuses(OPTIONS[name], number):
            continue
        line = train(project, *flag(name, text))
        assert line.startswith("train: ") and f"{name} is " in line, line


def _as_number(text: str) -> object:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            pass
    return text


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in SWITCHES])
def test_a_flag_without_its_value_or_misspelt_is_named(project, name):
    assert (
        train(project, f"--{name}")
        == f"train: argument --{name}"
        + ("/--last_token_pos" if name == "trainable_token_pos" else "")
        + ": expected one argument; see --help"
    )
    misspelt = f"train: unrecognized arguments: --{name}s=1; did you mean '--{name}'? see --help"
    assert train(project, f"--{name}s=1") == misspelt


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_takes_no_value(project, name):
    assert f"argument --{name}: ignored explicit argument 'yes'" in train(project, f"--{name}=yes")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model_size=gpt5"], "train: model_size is 'gpt5', not in models.yaml; allowed: tiny"),
        (["--no_padding"], "train: no_padding needs batch_size 1, found batch_size 8"),
        (["--average_embeddings", "--last_token_pos=flexible"], "keep one of them"),
        (["--context_length=65"], "train: context_length is 65; tiny has 64 positions"),
        (["--seed=-5"], "train: argument --seed: invalid seed '-5': expected 0 to 9223372036854775807"),
        (["--seed=9223372036854775808"], "invalid seed '9223372036854775808': expected 0 to"),
        (["--seed=x"], "invalid seed 'x': expected 0 to"),
        (["--row=a/b"], "argument --row: invalid row id 'a/b': expected 1 to 64 letters"),
        (["extra"], "unrecognized arguments: extra"),
    ],
)
def test_flags_that_contradict_each_other_or_are_out_of_range_are_named(project, arguments, message):
    assert message in train(project, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["tain"], "invalid choice: 'tain'"),
        (["fetch_weights", "--config", "config.yaml"], "the following arguments are required: --model"),
        (
            ["fetch_weights", "--config", "config.yaml", "--model", "tinny"],
            "fetch-weights: model is 'tinny', not in models.yaml; did you mean 'tiny'?",
        ),
        (["draw_rows", "--config", "config.yaml", "--row", "7"], "row '7' is not in rows.yaml; allowed: 1, 2"),
        (["extract_features", "--config", "config.yaml", "--output", "f", "--spec", "{"], "--spec is '{', not valid"),
        (["extract_features", "--config", "config.yaml", "--output", "f", "--spec", "[]"], "expected a JSON object"),
        (["extract_features", "--config", "config.yaml", "--output", "f", "--spec", '{"a": 1}'], "copy it from"),
        (["pretrain_miniature", "--output", "f", "--model", "x"], "--model is 'x', not valid JSON"),
        (["pretrain_miniature", "--output", "f", "--model", json.dumps({"a": {"n_layer": 0}})], "--model: "),
        (["check", "--config"], "expected at least one argument"),
        (["check", "--config", "absent.yaml"], "absent.yaml: no such file"),
    ],
)
def test_mistakes_in_the_arguments_of_other_commands_are_named(project, arguments, message):
    answer = project.command(*arguments)
    assert answer.code == 1 and message in the_line(answer.err)
    assert not (project.folder / "f").exists()


def test_an_output_that_is_a_file_is_refused_before_training(project):
    for command in ("fetch_messages", "split_messages", "tokenize", "fetch_weights --model tiny"):
        assert project.command(*command.split(), "--config", "config.yaml").code == 0
    project.write("taken", "a file")
    line = project.refusal("train", "--model_size=tiny", "--output=taken", "--config", "config.yaml")
    assert line == "taken: File exists; fix that and run again"
    assert (project.folder / "taken").read_text() == "a file"


def test_a_feature_file_that_is_missing_or_damaged_is_refused(project):
    for command in ("fetch_messages", "split_messages", "tokenize", "fetch_weights --model tiny"):
        assert project.command(*command.split(), "--config", "config.yaml").code == 0
    rows = ["train", "--model_size=tiny", "--num_epochs=1", "--config", "config.yaml", "--features"]
    assert "absent: no such file; make it with" in project.refusal(*rows, "absent")
    project.write("damaged", bytes(100))
    assert "damaged: not a whole feature file" in project.refusal(*rows, "damaged")
