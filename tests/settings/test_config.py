"""The configuration files: what is read, and what is refused with one line."""

import pytest
import yaml

from gpt2_ablations.common.errors import InputError
from gpt2_ablations.settings.config import load_config, parse_config
from gpt2_ablations.settings.models import load_models, model_folder
from gpt2_ablations.settings.rows import load_experiments, select_rows
from gpt2_ablations.settings.schema.yaml_files import load_yaml
from tests.conftest import CHECKOUT

CONFIG = CHECKOUT / "config" / "config.yaml"
MODELS = CHECKOUT / "config" / "models.yaml"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def experiments(path, text):
    return load_experiments(write(path / "e.yaml", text), load_models(MODELS), "models.yaml")


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_the_default_files_are_right():
    config = load_config([CONFIG])
    models = load_models(config.models)
    rows = load_experiments(config.experiments, models, config.models)
    assert list(select_rows(config, rows)) == [str(row) for row in range(1, 20)]
    assert list(models) == ["gpt2-small (124M)", "gpt2-medium (355M)", "gpt2-large (774M)", "gpt2-xl (1558M)"]


def test_a_later_file_overrides_keys_and_replaces_lists(tmp_path):
    override = write(tmp_path / "o.yaml", "seeds: [1, 2]\ndataset: {sources: [mine.tsv], sha256: null}\nrows: [2, 11]")
    config = load_config([CONFIG, override])
    assert config.seeds == [1, 2]
    assert config.rows == ["2", "11"]
    assert config.dataset.sources == ["mine.tsv"] and config.dataset.sha256 is None
    assert config.tokenizer.name == "gpt2"


def test_labels_that_are_numbers_are_texts(tmp_path):
    override = write(tmp_path / "o.yaml", "dataset: {labels: [0, 1]}")
    assert load_config([CONFIG, override]).dataset.format.labels == ("0", "1")


def test_the_sha256_stays_in_force_when_only_the_sources_change(tmp_path):
    config = load_config([CONFIG, write(tmp_path / "o.yaml", "dataset: {sources: [mine.tsv]}")])
    assert config.dataset.sha256 == load_config([CONFIG]).dataset.sha256 is not None


@pytest.mark.parametrize("key", ["results", "rows", "seeds", "device", "dataset", "tokenizer", "features"])
def test_a_missing_key_is_named(key):
    content = load_yaml(CONFIG)
    del content[key]
    with pytest.raises(InputError) as error:
        parse_config(content, {"config/config.yaml": content})
    assert one_line(error) == f"config/config.yaml: key '{key}' is missing; add it"


def test_a_file_that_changes_some_settings_has_the_default_ones_beside_them(tmp_path):
    path = write(tmp_path / "mine.yaml", "results: results/mine\nseeds: [1]\ndataset:\n")
    assert load_config([path]) == load_config([CONFIG, path])
    assert load_config([path]).seeds == [1] and load_config([path]).dataset == load_config([CONFIG]).dataset


def test_the_configuration_that_an_invocation_wrote_is_read_without_the_default_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = load_config([CONFIG]).model_dump() | {"snapshot": "results/snapshot"}
    path = write(tmp_path / "whole.yaml", yaml.safe_dump(whole))
    (tmp_path / "config").mkdir()
    write(tmp_path / "config" / "config.yaml", "a mistake: 1")
    assert load_config([path]).model_dump() == whole


def test_misspelt_keys_are_named_before_the_missing_ones_that_they_leave(tmp_path):
    content = CONFIG.read_text().replace("\nrows:", "\nrow:").replace("\nseeds:", "\nseed:")
    with pytest.raises(InputError) as error:
        load_config([write(tmp_path / "mine.yaml", content)])
    assert "unknown key 'row'; did you mean 'rows'?" in one_line(error)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("device: gpu", "device is 'gpu'; allowed: auto, cpu, cuda, mps"),
        ("precision: half", "precision is 'half'; allowed: float32, tf32, bfloat16"),
        ("sedes: [1]", "unknown key 'sedes'; did you mean 'seeds'? allowed: results, rows,"),
        ("seeds: [a]", "seeds.0 is 'a'; allowed: a list of one or more integers from 0"),
        ("seeds: []", "seeds is []; allowed: a list of one or more integers from 0"),
        ("seeds: [1, 1]", "seeds contains a duplicate seed: [1, 1]; keep each once"),
        ("rows: []", "rows is []; allowed: all, or a list of row ids"),
        ("dataset: {sourcs: [x]}", "unknown key 'dataset.sourcs'; did you mean 'sources'? allowed: sources, sha256"),
        ("dataset: {labels: [null, no]}", "dataset.labels is [None, 'no']; allowed: two different names as the file"),
        ("dataset: {labels: [a, a]}", "dataset.labels is ['a', 'a']; allowed: two different names"),
        ("dataset: {labels: {ham: 0, spam: 1}}", "dataset.labels is {'ham': 0, 'spam': 1}; allowed: two different"),
        ("dataset: {delimiter: ','}", "dataset.delimiter is ','; allowed: tab, comma, semicolon"),
        ("dataset: {text_column: a}", "dataset.label_column is None and dataset.text_column 'a'; name two columns, or"),
        ("dataset: {sha256: abc}", "dataset.sha256 is 'abc'; allowed: 64 hexadecimal digits, or null"),
        ("tokenizer: {name: gpt3}", "tokenizer.name is 'gpt3'; allowed: gpt2, bytes"),
        ("tokenizer: {sources: []}", "tokenizer.sources is empty"),
        ("features: {max_memory_mb: 1}", "features.max_memory_mb is 1; allowed: an integer from 64"),
        ("micro_batch_size: 0", "micro_batch_size is 0; allowed: an integer from 1, or null"),
    ],
)
def test_a_wrong_value_names_file_key_and_what_is_allowed(override, message, tmp_path):
    file = write(tmp_path / "o.yaml", override)
    with pytest.raises(InputError) as error:
        load_config([CONFIG, file])
    assert one_line(error).startswith(f"{file}: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: {1: {}, 1: {}}", "line 1: duplicate key '1' (first in line 1); keep one of them"),
        ("rows: {a b: {}}", "invalid row id 'a b': expected 1 to 64 letters, digits, '_' and '-'"),
        ("rows: {a/b: {}}", "invalid row id 'a/b'"),
        ("rows: {1: {batch_size: 2, batch_size: 3}}", "line 1: duplicate key 'batch_size'"),
        ("rows: {}", "rows is {}; it must be a mapping from row id to options"),
        ("row: {1: {}}", "unknown key 'row'; did you mean 'rows'?"),
        ("rows: {1: 3}", "row 1: expected a mapping of options"),
        ("defaults: {batch_size: x}\nrows: {1: {}}", "defaults: batch_size is 'x'"),
        ("rows: [1", "line 1: not valid YAML"),
        ("", "expected a mapping of keys to values, found nothing"),
        ("rows: {7: {model_size: gpt2-small}}", "row 7: model_size is 'gpt2-small', not in models.yaml; did you mean"),
        ("rows: {7: {context_length: 1025}}", "row 7: context_length is 1025; gpt2-small (124M) has 1024 positions"),
        ("rows: {7: {no_padding: true}}", "row 7: no_padding needs batch_size 1, found batch_size 8"),
    ],
)
def test_a_wrong_experiments_file_is_one_line_that_names_it(text, message, tmp_path):
    with pytest.raises(InputError) as error:
        experiments(tmp_path, text)
    assert one_line(error).startswith(f"{tmp_path / 'e.yaml'}: {message}")


def test_row_ids_are_text_as_written(tmp_path):
    assert list(experiments(tmp_path, "rows: {01: {}, 1: , yes: {}, 1e3: {}}")) == ["01", "1", "yes", "1e3"]


def test_defaults_hold_for_rows_that_do_not_override_them(tmp_path):
    rows = experiments(tmp_path, "defaults: {batch_size: 4}\nrows: {a: {}, b: {batch_size: 2}}")
    assert (rows["a"].batch_size, rows["b"].batch_size) == (4, 2)


def test_a_row_that_is_not_there_cannot_be_selected(tmp_path):
    config = load_config([CONFIG, write(tmp_path / "o.yaml", "rows: [99]")])
    with pytest.raises(InputError, match=r"rows names '99', not in config/experiments.yaml; .*allowed: 1, 2, 3"):
        select_rows(config, load_experiments(config.experiments, load_models(MODELS), "models.yaml"))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "{n_layer: 1, n_head: 2, n_embd: 3, n_positions: 4, source: x}",
            "n_embd is 3; allowed: a multiple of n_head, which is 2",
        ),
        ("{n_layer: 1, n_head: 1, n_embd: 3, n_positions: 4}", "key 'source' is missing; add it"),
        (
            "{n_layer: 1.5, n_head: 1, n_embd: 3, n_positions: 4, source: x}",
            "n_layer is 1.5; allowed: an integer from 1 to 1000",
        ),
        ("3", "expected a mapping with n_layer, n_head"),
    ],
)
def test_a_wrong_model_is_one_line_that_names_it(entry, message, tmp_path):
    file = write(tmp_path / "m.yaml", f"tiny: {entry}")
    with pytest.raises(InputError) as error:
        load_models(file)
    assert one_line(error).startswith(f"{file}: tiny: {message}")


def test_two_models_cannot_share_a_folder(tmp_path):
    entry = "{n_layer: 1, n_head: 1, n_embd: 4, n_positions: 4, source: x}"
    with pytest.raises(InputError, match=r"its folder name 'a-b' is also that of a b"):
        load_models(write(tmp_path / "m.yaml", f"a b: {entry}\na-b: {entry}"))


def test_a_models_folder_is_plain_text():
    assert model_folder("gpt2-small (124M)") == "gpt2-small-124M"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.yaml: no such file"):
        load_yaml(tmp_path / "nowhere.yaml")


def test_bytes_that_are_not_utf8_are_refused(tmp_path):
    (tmp_path / "b.yaml").write_bytes(b"a: \xff")
    with pytest.raises(InputError, match="not UTF-8"):
        load_yaml(tmp_path / "b.yaml")
