"""What the data says about rows before anything is downloaded or trained."""

import hashlib
from pathlib import Path

import pytest
import yaml

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.data.dataset import split_messages
from gpt2_ablations.data.download import fetch_messages
from gpt2_ablations.data.tokenizer import tokenize
from gpt2_ablations.planning import plan
from gpt2_ablations.planning.checks import examples_on_disk
from gpt2_ablations.planning.data_fit import check_data_fit, examine_data, misfits
from gpt2_ablations.planning.first_screen import first_screen
from gpt2_ablations.planning.plan_report import format_plan
from gpt2_ablations.planning.workflow import load_workflow
from tests.conftest import CHECKOUT, write_yaml
from tests.planning.test_plan import FAST

MODELS = {
    name: {"n_layer": 2, "n_head": 2, "n_embd": 8, "n_positions": n, "source": "none"}
    for name, n in {"short": 64, "long": 128}.items()
}
ROWS = {
    "plain": {},
    "longer": {"model_size": "long"},
    "cut": {"context_length": 64},
    "whole": {"no_padding": True, "batch_size": 1},
    "batches": {"context_length": 64, "batch_size": 57},
}


@pytest.fixture
def workflow(tmp_path, monkeypatch):
    """A function that loads a workflow of 40 + 40 short texts and a few others; 56 of the examples are for training."""
    monkeypatch.chdir(tmp_path)

    def make(*texts: str, rows: dict | None = None, **dataset):
        lines = [f"ham\tsee you {i}\nspam\twin {i}" for i in range(40)]
        lines += [f"{label}\t{text}" for text in texts for label in ("ham", "spam")]
        (tmp_path / "mine.tsv").write_text("\n".join(lines) + "\n")
        write_yaml(tmp_path / "models.yaml", MODELS)
        write_yaml(
            tmp_path / "rows.yaml",
            {"defaults": {"model_size": "short", "weights": "random"}, "rows": ROWS if rows is None else rows},
        )
        config = yaml.safe_load((CHECKOUT / "config" / "config.yaml").read_text())
        config |= {"experiments": "rows.yaml", "models": "models.yaml", "published": None, "device": "cpu"}
        config["dataset"] |= {"sources": ["mine.tsv"], "sha256": None} | dataset
        config["comparisons"] = str(CHECKOUT / "config" / "comparisons.yaml")
        config["tokenizer"] = {"name": "bytes"}
        return load_workflow([str(write_yaml(tmp_path / "config.yaml", config))])

    return make


def found(workflow) -> dict[str, str]:
    examples = examples_on_disk(workflow.config)
    return misfits(workflow.config, workflow.models, workflow.selected, examples)


def test_short_texts_and_small_batches_fit(workflow):
    rows = {**ROWS, "batches": {"batch_size": 57}}  # of 57 training examples
    assert found(workflow("x" * 64, rows=rows)) == {}


def test_rows_that_take_whole_texts_longer_than_the_model_s_positions_are_found(workflow):
    reasons = found(workflow(*["x" * 65] * 20))
    assert set(reasons) == {"plain", "whole"}  # 84 training examples
    assert "the longest training example has 65 tokens; short has 64 positions; set context_len" in reasons["plain"]
    assert "65 tokens and no_padding never cuts; short has 64 positions; shorten the text" in reasons["whole"]


def test_a_batch_larger_than_the_training_split_is_found(workflow):
    assert found(workflow()) == {
        "batches": "batch_size is 57 and there are 56 training examples: no whole batch; allowed: 1 to 56"
    }


def test_only_the_texts_of_the_splits_count(workflow):
    """Half of the ham texts are drawn: a text that is in no split is no reason to refuse a row."""
    made = workflow(rows={"whole": ROWS["whole"]})
    lines = [f"ham\tsee you {i}\nspam\twin {i}" for i in range(40)]

    def refused(long: int) -> bool:
        more = ["ham\t" + "x" * (65 if i == long else 20) for i in range(40)]
        Path("mine.tsv").write_text("\n".join(lines + more) + "\n")
        return bool(found(made))

    assert {refused(i) for i in range(12)} == {True, False}


def test_the_tokens_say_the_same_as_the_texts(workflow):
    made = workflow(*["x" * 65] * 20)
    expected = found(made)
    fetch_messages(made.config.dataset.sources, made.paths.messages, None)
    split_messages(made.paths.messages, made.paths.messages.parent)
    tokenize(made.config)
    assert misfits(made.config, made.models, made.selected, None) == expected != {}


def test_words_count_as_tokens_while_there_is_no_tokenizer(workflow):
    made = workflow(*["a b " * 33] * 20)
    tokenizer = made.config.tokenizer.model_copy(update={"name": "gpt2", "sources": ["https://example.org"]})
    config = made.config.model_copy(update={"tokenizer": tokenizer})
    reasons = misfits(config, made.models, made.selected, examples_on_disk(config))
    assert set(reasons) == {"plain", "whole"} and "has at least 66 tokens" in reasons["plain"]
    made = workflow(*["x" * 100] * 20)  # one word may be few tokens
    assert misfits(config, made.models, made.selected, examples_on_disk(config)) == {}


def test_the_first_misfit_is_the_error_and_the_others_are_counted(workflow):
    made = workflow(*["x" * 65] * 20)
    with pytest.raises(InputError) as raised:
        check_data_fit(made.config, made.models, made.selected, examples_on_disk(made.config))
    assert str(raised.value).startswith("rows.yaml: row plain: the longest training example has 65 tokens;")
    assert str(raised.value).endswith("(and 1 more row)")


def test_an_invocation_is_refused_for_the_rows_that_it_trains_alone(workflow):
    made = workflow(*["x" * 65] * 20)
    with pytest.raises(InputError, match="row whole: "):
        examine_data(made, ["cut", "whole"])
    assert examine_data(made, ["cut"]) is not None
    Path("mine.tsv").unlink()
    assert examine_data(made, []) is None  # only reports run


def test_the_first_screen_says_how_many_examples_each_label_has_and_where_a_quote_joins_lines(workflow):
    made = workflow('"Buy" now', "plain", rows={"plain": {}})
    with open("mine.tsv", "a") as file:
        file.write('ham\t"never\nspam\tmind\nspam\tended" here\n')
    said = " ".join(first_screen(made, {"train": 1}, ["plain"], examine_data(made, ["plain"])).split())
    assert "Examples: 43 ham, 42 spam; 84 are used: 58 train, 8 validation, 18 test." in said
    assert "87 lines, 85 examples: line 85 opens a quote that line 87 closes; dataset.quoting: none reads" in said
    assert "Examples" not in first_screen(made, {"train": 1}, ["plain"])


def test_the_plan_shows_the_examples_and_marks_misfits(workflow, monkeypatch):
    monkeypatch.setattr(plan, "measure_speed", lambda threads, device, precision: FAST)
    text = format_plan(plan.plan_invocation(workflow(*["x" * 65] * 20)))
    said = " ".join(text.split())
    assert "Examples: 60 ham, 60 spam; 120 are used: 84 train, 12 validation, 24 test." in said
    assert "Does not fit: row whole: the longest " in said
    states = {line.split()[0]: line.split()[-1] for line in text.splitlines() if line.endswith(("misfit", "do"))}
    assert states == {"plain": "misfit", "longer": "do", "cut": "do", "whole": "misfit", "batches": "do"}


def test_messages_of_a_download_count_once_they_are_here_with_the_right_sha256(workflow):
    made = workflow(rows={"plain": {}})
    sha256 = "0" * 64
    dataset = made.config.dataset.model_copy(update={"sources": ["https://example.org/x"], "sha256": sha256})
    config = made.config.model_copy(update={"dataset": dataset})
    assert examples_on_disk(config) is None
    made.paths.messages.parent.mkdir(parents=True)
    content = Path("mine.tsv").read_bytes()
    made.paths.messages.write_bytes(content)
    assert examples_on_disk(config) is None
    right = dataset.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    examples = examples_on_disk(config.model_copy(update={"dataset": right}))
    assert examples is not None and examples.counts == {"ham": 40, "spam": 40}
