"""YAML as people write it: values keep their meaning, in files and, the same ones, in `--config`."""

import pytest

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.planning.workflow import make_workflow
from gpt2_ablations.settings.config import command_line_settings, load_config
from gpt2_ablations.settings.labels import load_defaults, row_labels
from gpt2_ablations.settings.questions import load_questions
from gpt2_ablations.settings.schema.yaml_files import load_yaml
from tests.conftest import CHECKOUT


def workflow_of(project, *arguments):
    """What Snakemake plans with `--config ARGUMENTS`."""
    files = [project.folder / "config.yaml", CHECKOUT / "config" / "config.yaml"]
    return make_workflow(command_line_settings(arguments), files)


def read(project, text):
    project.write("some.yaml", text)
    return load_yaml("some.yaml")


def test_merge_keys_are_no_duplicates_and_the_mapping_s_own_keys_override_them(project):
    content = read(
        project,
        "a: &a {lora_rank: 8, lora_alpha: 4}\nb: &b {<<: *a, lora_rank: 16}\nc: {<<: *b, lora_alpha: 1}\n"
        "d: {lora_rank: 2, <<: [*b, *a]}\n",
    )
    assert content["b"] == {"lora_rank": 16, "lora_alpha": 4}
    assert content["c"] == {"lora_rank": 16, "lora_alpha": 1}
    assert content["d"] == {"lora_rank": 2, "lora_alpha": 4}
    project.write("rows.yaml", "rows:\n  1: &one {model_size: tiny}\n  2: {<<: *one, lora_rank: 2, lora_rank: 3}\n")
    assert project.refusal() == "rows.yaml: line 3: duplicate key 'lora_rank' (first in line 3); keep one of them"


def test_merges_of_merges_do_not_grow(project):
    levels = ["a0: &a0 {x: 1, y: 2}"]
    levels += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 30)]
    assert read(project, "\n".join(levels))["a29"] == {"x": 1, "y": 2}


@pytest.mark.parametrize("ids", [["010", "08"], ["01", "02"], ["1_0", "1e3"], ["0x1F", "0b1"], ["yes", "2024-01-31"]])
def test_row_ids_are_what_is_written_wherever_rows_are_named(project, ids):
    one, other = ids
    project.write("rows.yaml", f"defaults: {{model_size: tiny}}\nrows: {{8: {{}}, {one}: {{}}, {other}: {{}}}}\n")
    project.contents["config.yaml"]["rows"] = ids
    text = f"rows: [{one}, {other}]\n"
    project.write("override.yaml", text)
    assert load_config(["config.yaml", "override.yaml"]).rows == ids
    files = [project.folder / name for name in ("override.yaml", "config.yaml")]
    assert list(make_workflow({}, files).selected) == ids
    assert list(workflow_of(project, f"rows=[{one},{other}]").selected) == ids
    project.write("comparisons.yaml", f"a: {{question: b, pairs: [[{one}, {other}]], measures: [memory]}}\n")
    questions, left_out = load_questions("comparisons.yaml", ["8", *ids])
    assert questions["a"].pairs == [tuple(ids)] and left_out == 0


def test_numbers_are_decimal_with_underscores_and_exponents(project):
    content = read(project, "a: 010\nb: 1_000\nc: 1e-3\nd: 2.5E+1\ne: 0x1F\nf: -08\n")
    assert content == {"a": 10, "b": 1000, "c": 0.001, "d": 25.0, "e": 31, "f": "-08"}
    project.write("rows.yaml", "rows: {1: {model_size: tiny, lora_alpha: 1e1, num_epochs: 1_0, batch_size: 010}}\n")
    row = workflow_of(project).experiments["1"]
    assert (row.lora_alpha, row.num_epochs, row.batch_size) == (10, 10, 10)


def test_labels_and_columns_are_texts_as_the_file_has_them(project):
    project.write("override.yaml", "dataset: {labels: [no, 01], label_column: 1, text_column: on}\nnote: 2.50\n")
    config = load_config(["config.yaml", "override.yaml"])
    assert config.dataset.labels == ["no", "01"] and config.note == "2.50"
    assert (config.dataset.label_column, config.dataset.text_column) == ("1", "on")


def test_capitals_in_hashes_are_accepted_and_lowered(project):
    project.write("override.yaml", f"dataset: {{sha256: {'0AF' * 21}D}}\n")
    assert load_config(["config.yaml", "override.yaml"]).dataset.sha256 == "0af" * 21 + "d"
    project.contents["models.yaml"]["tiny"]["sha256"] = "A" * 64
    project.save("models.yaml")
    assert workflow_of(project).models["tiny"].sha256 == "a" * 64


def test_empty_sections_keep_the_default_settings(project):
    project.write("override.yaml", "dataset:\ntokenizer: {}\nfeatures: null\npublished: null\n")
    config, default = load_config(["config.yaml", "override.yaml"]), load_config(["config.yaml"])
    assert config == default.model_copy(update={"published": None})
    assert workflow_of(project, "dataset=", "features=null").config == default


def test_values_on_the_command_line_are_those_of_a_file(project):
    arguments = ["micro_batch_size=4", "micro_batch_size=null", "published=null", "keep_models=true", "seeds=[1,1_0]"]
    arguments += ["note=a: b", "features={max_memory_mb: 512}", f"dataset={{sha256: {'A' * 64}}}", "device='cpu'"]
    config = workflow_of(project, *arguments).config
    assert (config.micro_batch_size, config.published, config.keep_models) == (None, None, True)
    assert (config.seeds, config.note, config.features.max_memory_mb) == ([1, 10], "a: b", 512)
    assert (config.dataset.sha256, config.device) == ("a" * 64, "cpu")


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("foo={a: 1}", "--config: unknown key 'foo'; allowed: results, "),
        ("foo=1", "--config: unknown key 'foo'; allowed: results, "),
        ("dataset={foo: 1}", "config.yaml: unknown key 'dataset.foo'; allowed: sources, "),
        ("micro_batch_size=[]", "--config: micro_batch_size is []; allowed: an integer from 1, or null"),
        ("seeds={a: 1, a: 2}", "line 1: duplicate key 'a' (first in line 1); keep one of them"),
        ("rows=7", "--config: rows is '7'; allowed: all, or a list of row ids such as [1, 2, 11]"),
    ],
)
def test_a_wrong_value_on_the_command_line_is_one_line(project, argument, line):
    with pytest.raises(InputError) as error:
        workflow_of(project, argument)
    assert str(error.value).startswith(line)


def test_defaults_may_contradict_each_other_if_every_row_changes_one(project):
    project.write(
        "rows.yaml",
        "defaults: {model_size: tiny, no_padding: true, average_embeddings: true}\n"
        "rows: {1: {batch_size: 1}, 2: {no_padding: false}}\n",
    )
    workflow = workflow_of(project)
    assert workflow.experiments["1"].no_padding and project.check().code == 0
    labels = row_labels(workflow.experiments, load_defaults(workflow.config), workflow.models)
    assert labels == {"1": "1: no padding (batch size 1)", "2": "2: padding"}
    project.write("rows.yaml", "defaults: {model_size: tiny, no_padding: true}\nrows: {1: {}}\n")
    assert project.refusal().startswith("rows.yaml: row 1: no_padding needs batch_size 1")


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ("no_padding: true, batch_sice: 1", "unknown key 'batch_sice'; did you mean 'batch_size'?"),
        ("no_padding: true, batch_size: x", "batch_size is 'x'; allowed: an integer from 1"),
        ("weights: none", "weights is 'none'; allowed: pretrained, random"),
    ],
)
def test_a_wrong_option_in_the_defaults_is_named_there(project, defaults, message):
    project.write("rows.yaml", f"defaults: {{model_size: tiny, {defaults}}}\nrows: {{1: {{batch_size: 1}}}}\n")
    assert project.refusal().startswith(f"rows.yaml: defaults: {message}")


@pytest.mark.parametrize("key", ["label", "sha256", "source"])
def test_texts_of_models_that_are_not_allowed_say_what_is(project, key):
    for value in ("", "\x1b"):
        project.contents["models.yaml"]["tiny"][key] = value
        project.save("models.yaml")
        line = project.refusal()
        assert "allowed: " in line and "String should" not in line and "should have" not in line


def test_names_that_differ_in_case_alone_are_refused(project):
    project.write("models.yaml", "Tiny: &t {n_layer: 1, n_head: 1, n_embd: 4, n_positions: 64, source: x}\ntiny: *t\n")
    assert project.refusal() == "models.yaml: tiny: its folder name 'tiny' is also that of Tiny; rename one"
    project.restore()
    project.write("rows.yaml", "defaults: {model_size: tiny}\nrows: {Long: {}, long: {}}\n")
    assert project.refusal() == "rows.yaml: row long: its id differs from 'Long' in case alone; rename one"


def test_a_model_of_other_dimensions_than_its_heads_is_refused_wherever_it_is_given(project):
    line = project.refusal(
        "pretrain-miniature",
        "--output",
        "f",
        "--model",
        '{"mini": {"n_layer": 1, "n_head": 3, "n_embd": 32, "n_positions": 64, "source": "f"}}',
    )
    assert line == "--model: n_embd is 32; allowed: a multiple of n_head, which is 3"
