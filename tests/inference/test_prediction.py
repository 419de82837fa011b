"""A saved model gives the logits of its training run, in `predict` and, exported, in the transformers library."""

import csv
import io
import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gpt2_ablations.cli import main
from gpt2_ablations.common.errors import InputError
from gpt2_ablations.common.hashing import weights_digest
from gpt2_ablations.data.dataset import read_split
from gpt2_ablations.data.tokenizer import load_tokenizer
from gpt2_ablations.finetuning import training_job
from gpt2_ablations.inference import prediction
from gpt2_ablations.inference.export import export, exported_tensors
from gpt2_ablations.inference.prediction import load_predictor
from gpt2_ablations.inference.saved_models import load_saved_model
from gpt2_ablations.settings.config import Config
from gpt2_ablations.settings.experiment import Experiment
from gpt2_ablations.settings.paths import Paths
from tests.conftest import CHECKOUT
from tests.parity.inputs import synthetic_config

SMALL = "gpt2-small (124M)"
SEED = 7
ROWS = {
    "last-block": {},
    "first": {"trainable_token_pos": "first"},
    "last-layer": {"trainable_layers": "last_layer"},
    "last-layer-mean": {"trainable_layers": "last_layer", "average_embeddings": True},
    "last-two": {"trainable_layers": "last_two_blocks"},
    "all": {"trainable_layers": "all"},
    "random": {"weights": "random", "trainable_layers": "all"},
    "random-last-block": {"weights": "random"},
    "lora": {"trainable_layers": "lora", "lora_rank": 4, "lora_alpha": 2},
    "lora-random": {"trainable_layers": "lora", "weights": "random", "trainable_token_pos": "flexible"},
    "lora-some-layers": {
        "trainable_layers": "lora",
        "lora_rank": 4,
        "lora_scaling": "alpha/rank",
        "lora_layers": ["query", "value", "mlp_out"],
        "learning_rate": 0.01,
    },
    "last-three": {"trainable_layers": "last_3_blocks", "class_weights": [1, 2]},
    "best": {"keep": "best_validation", "learning_rate": 0.01},
    "masked": {"mask_padding": True},
    "masked-all": {"mask_padding": True, "trainable_layers": "all"},
    "masked-no-mask": {"mask_padding": True, "disable_causal_mask": True},
    "masked-mean": {"mask_padding": True, "average_embeddings": True},
    "masked-head": {"mask_padding": True, "trainable_layers": "last_layer"},
    "mean-of-real": {"average_embeddings": True, "average_over": "real"},
    "no-mask-mean-of-real": {"average_embeddings": True, "average_over": "real", "disable_causal_mask": True},
    "full-context": {"context_length": "model_context_length"},
    "short-context": {"context_length": 9},
    "no-padding": {"no_padding": True, "batch_size": 1, "accumulation_steps": 8},
    "flexible": {"trainable_token_pos": "flexible"},
    "no-mask": {"disable_causal_mask": True},
    "no-mask-flexible": {"disable_causal_mask": True, "trainable_token_pos": "flexible"},
    "no-mask-first": {"disable_causal_mask": True, "trainable_token_pos": "first"},
    "no-mask-mean": {"disable_causal_mask": True, "average_embeddings": True},
    "mean": {"average_embeddings": True},
}


@dataclass
class Runs:
    """A results folder. `train` runs a row in it, unless it has run."""

    folder: Path
    config: Config

    def train(self, row: str) -> Path:
        output = Paths(self.config.results).row(row, SEED)
        if not output.exists():
            # One epoch, because LoRA's B matrices start at zero.
            experiment = Experiment(num_epochs=1, **ROWS[row])
            training_job.train(self.config, experiment, SEED, row, None, output)
        return output

    @property
    def texts(self) -> list[str]:
        return read_split(Paths(self.config.results).split("test"))[1]

    def expected(self, row: str) -> torch.Tensor:
        """The logits in predictions.csv, [N, 2]."""
        with open(self.train(row) / "predictions.csv", newline="") as file:
            lines = list(csv.DictReader(file))
        return torch.tensor([[float(line["logit_0"]), float(line["logit_1"])] for line in lines])


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    folder = tmp_path_factory.mktemp("saved")
    labels = {"labels": ["fine", "junk"]}
    return Runs(folder, synthetic_config(folder, device="cpu", keep_models=True, dataset=labels))


def logits(predictions) -> torch.Tensor:
    return torch.tensor([prediction.logits for prediction in predictions])


@pytest.mark.parametrize("row", ROWS)
def test_a_saved_model_gives_the_logits_of_training(row, runs):
    expected = runs.expected(row)
    found = list(load_predictor(runs.config, runs.train(row) / "model.safetensors").predict(runs.texts))
    torch.testing.assert_close(logits(found), expected, rtol=0, atol=1e-5)
    assert [p.label for p in found] == [("fine", "junk")[int(pair.argmax())] for pair in expected]
    torch.testing.assert_close(
        torch.tensor([p.probability for p in found]), expected.softmax(dim=1).amax(dim=1), rtol=0, atol=1e-5
    )


def test_chunks_of_any_size_give_the_same_predictions_in_the_same_order(runs, monkeypatch):
    predictor = load_predictor(runs.config, runs.train("flexible") / "model.safetensors")
    expected = logits(predictor.predict(runs.texts))
    monkeypatch.setattr(prediction, "CHUNK_TEXTS", 7)
    torch.testing.assert_close(logits(predictor.predict(runs.texts)), expected, rtol=0, atol=1e-6)


def test_at_most_one_chunk_of_texts_is_read_ahead(runs, monkeypatch):
    monkeypatch.setattr(prediction, "CHUNK_TEXTS", 7)
    predictor = load_predictor(runs.config, runs.train("last-block") / "model.safetensors")
    read = []
    found = predictor.predict(read.append(text) or text for text in runs.texts)
    next(found)
    assert len(read) == 8


def test_thousands_of_texts_take_bounded_memory(runs, monkeypatch):
    """No call computes more positions than fit the memory that the configuration allows."""
    layouts = []
    lay_out = prediction.lay_out_examples
    monkeypatch.setattr(prediction, "lay_out_examples", lambda *a: layouts.append(layout := lay_out(*a)) or layout)
    monkeypatch.setattr(prediction, "tokens_per_shard", lambda model, mb: 5000)
    predictor = load_predictor(runs.config, runs.train("last-block") / "model.safetensors")
    assert sum(1 for _ in predictor.predict(f"message {i}" for i in range(2500))) == 2500
    assert len(layouts) > 20 and all(len(layout.ids) <= 5000 for layout in layouts)


def test_a_saved_model_holds_the_trained_tensors_and_the_settings_and_nothing_else(runs):
    file = runs.train("last-block") / "model.safetensors"
    saved, tensors = load_saved_model(file)
    assert {name.split(".")[0] for name in tensors} == {"h", "ln_f", "head"}
    assert {name.split(".")[1] for name in tensors if name.startswith("h.")} == {"3"}
    metrics = json.loads((file.parent / "metrics.json").read_text())
    assert sum(tensor.numel() for tensor in tensors.values()) == metrics["trainable_parameters"]
    assert saved.experiment == Experiment(num_epochs=1) and saved.seed == SEED and saved.context == 48
    assert saved.weights_sha256 == "a7923ca44f1f75621b41b63499528bc39efdb7f307341efcfb48726e134d907d"
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    assert metadata["format_version"] == "1" and json.loads(metadata["labels"]) == ["fine", "junk"]
    assert json.loads(metadata["model"]) == {"n_layer": 4, "n_head": 4, "n_embd": 64, "n_positions": 128}


def test_a_run_without_keep_models_removes_the_saved_model_of_an_earlier_run(runs, tmp_path):
    experiment = Experiment(num_epochs=1, trainable_layers="last_layer")
    for keep in (True, False):
        config = runs.config.model_copy(update={"keep_models": keep})
        training_job.train(config, experiment, SEED, "1", None, tmp_path)
        assert (tmp_path / "model.safetensors").is_file() == keep


def refusal(runs: Runs, capfd, *arguments: str, command: str = "predict") -> str:
    capfd.readouterr()
    assert main([command, *arguments, "--config", str(CHECKOUT / "config" / "config.yaml"), config_file(runs)]) == 1
    err = capfd.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1, err
    return err.removeprefix("error: ")


def config_file(runs: Runs) -> str:
    return str(runs.folder / "config.yaml")


def output(runs: Runs, capfd, *arguments: str) -> str:
    capfd.readouterr()
    assert main(["predict", *arguments, "--config", str(CHECKOUT / "config" / "config.yaml"), config_file(runs)]) == 0
    return capfd.readouterr().out


def test_an_error_for_a_row_without_a_saved_model_names_the_command_that_makes_one(runs, capfd, tmp_path):
    line = refusal(runs, capfd, "--row", "99", "hello")
    assert "row 99 has not run with seed 123; run `snakemake --cores all row_99 --config keep_models=true`" in line
    folder = Paths(runs.config.results).row("bare", SEED)
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("{}")
    line = refusal(runs, capfd, "--row", "bare", "--seed", str(SEED), "hello")
    assert (
        "row bare has run without saving its model; run `snakemake --cores all row_bare --config keep_models=true`"
        in line
    )


@pytest.mark.parametrize("command", ["predict", "export"])
def test_base_weights_that_are_missing_or_different_are_refused(command, runs, capfd, tmp_path):
    model = str(runs.train("last-block") / "model.safetensors")
    rest = ["hello"] if command == "predict" else ["--output", str(tmp_path / "exported")]
    weights = Paths(runs.config.results).weights(SMALL)
    original = weights.read_bytes()
    try:
        save_file({name: tensor + 0.01 for name, tensor in load_file(weights).items()}, weights)
        line = refusal(runs, capfd, "--model", model, *rest, command=command)
        assert f"{weights}: sha256 is " in line and "was trained on weights of sha256 a7923ca44f1f" in line
        weights.unlink()
        line = refusal(runs, capfd, "--model", model, *rest, command=command)
        assert f"{weights}: no such file; make it with `snakemake --cores all {weights}`" in line
        assert not (tmp_path / "exported" / "config.json").exists()
    finally:
        weights.write_bytes(original)


def test_a_digest_file_is_used_only_if_it_is_not_older_than_the_weights(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"x")
    digest_file = tmp_path / "model.safetensors.sha256"
    digest_file.write_text("the digest\n")
    assert weights_digest(weights) == "the digest"
    os.utime(digest_file, ns=(0, 0))
    assert weights_digest(weights) == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"


@pytest.mark.parametrize("damage", ["cut", "tensor", "version", "other"])
def test_a_damaged_saved_model_is_refused(damage, runs, capfd, tmp_path):
    model = runs.train("last-block") / "model.safetensors"
    copy = tmp_path / "model.safetensors"
    with safe_open(model, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(model)
    match damage:
        case "cut":
            copy.write_bytes(model.read_bytes()[:-100])
        case "tensor":
            save_file({name: t for name, t in tensors.items() if name != "head.bias"}, copy, metadata)
        case "version":
            save_file(tensors, copy, metadata | {"format_version": "2"})
        case "other":
            save_file(tensors, copy)
    message = {
        "cut": "not a complete saved model (",
        "tensor": "tensor 'head.bias' is missing; delete the file and run the row again",
        "version": "format_version is '2'; allowed: '1'",
        "other": "format_version is None; allowed: '1'",
    }[damage]
    assert refusal(runs, capfd, "--model", str(copy), "hello").startswith(f"{copy}: {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "predict: no text; give texts, --file FILE, or - for standard input"),
        (["hello", " "], "predict: text 2 is empty; fill it in or remove it"),
        (["hello", "--file", "x"], "predict: texts and --file are both given"),
        (["hello", "--column", "x"], "predict: --column names a column of --file"),
        (["--file", "no-such-file"], "no-such-file: no such file; check the path"),
    ],
)
def test_invalid_arguments_of_predict_are_refused_in_one_line(arguments, message, runs, capfd):
    model = str(runs.train("last-block") / "model.safetensors")
    assert refusal(runs, capfd, "--model", model, *arguments).startswith(message)


def test_a_text_longer_than_the_positions_of_a_no_padding_row_is_refused(runs, capfd):
    model = str(runs.train("no-padding") / "model.safetensors")
    line = refusal(runs, capfd, "--model", model, "hello", "x" * 129)
    assert "text 2 has 129 tokens; gpt2-small (124M) has 128 positions and a row with no_padding does not cut" in line


@pytest.mark.parametrize("output_format", ["text", "csv", "json"])
@pytest.mark.parametrize("source", ["arguments", "lines", "csv", "tsv", "stdin"])
def test_texts_of_every_source_are_predicted_in_every_format(output_format, source, runs, capfd, tmp_path, monkeypatch):
    texts = ['win "cash", now', "see you, mum £", "ok\u2028then"]
    selected = ["--row", "last-block", "--seed", str(SEED), "--format", output_format]
    runs.train("last-block")
    match source:
        case "arguments":
            arguments = texts
        case "lines":
            (tmp_path / "lines").write_text("\r\n".join(texts), newline="", encoding="utf-8-sig")
            arguments = ["--file", str(tmp_path / "lines")]
        case "csv" | "tsv":
            with open(tmp_path / f"table.{source}", "w", newline="") as file:
                table = csv.writer(file, delimiter="," if source == "csv" else "\t")
                table.writerows([["id", "said"], *enumerate(texts)])
            arguments = ["--file", str(tmp_path / f"table.{source}"), "--column", "said"]
        case "stdin":
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(texts).encode())))
            arguments = ["-"]
    printed = output(runs, capfd, *selected, *arguments)
    expected = list(load_predictor(runs.config, runs.train("last-block") / "model.safetensors").predict(texts))
    if output_format == "text":
        shown = [text.replace("\u2028", "?") for text in texts]
        lines = [f"{p.label}\t{p.probability:.2%}\t{text}" for p, text in zip(expected, shown, strict=True)]
        assert printed.splitlines() == lines
        return
    lines = (
        list(csv.DictReader(io.StringIO(printed)))
        if output_format == "csv"
        else list(map(json.loads, printed.split("\n")[:-1]))
    )
    for index, (line, p) in enumerate(zip(lines, expected, strict=True)):
        assert (int(line["index"]), line["label"], line["text"]) == (index, p.label, texts[index])
        numbers = [float(line[name]) for name in ("probability", "logit_0", "logit_1")]
        assert numbers == pytest.approx([p.probability, *p.logits], rel=1e-6)


@pytest.mark.parametrize("output_format", ["text", "csv", "json"])
def test_predictions_are_printed_on_a_console_of_ascii(output_format, runs, monkeypatch):
    """For programs in UTF-8, for people with escapes."""
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", console)
    model = str(runs.train("last-block") / "model.safetensors")
    config = ["--config", str(CHECKOUT / "config" / "config.yaml"), config_file(runs)]
    assert main(["predict", "--model", model, "--format", output_format, "£ 漢 😀", *config]) == 0
    console.flush()
    printed = console.buffer.getvalue()
    assert ("£ 漢 😀".encode() if output_format != "text" else rb"\xa3 \u6f22 \U0001f600") in printed


@pytest.mark.parametrize("output_format", ["csv", "json"])
def test_empty_texts_are_left_out_and_the_others_keep_their_place(output_format, runs, capfd, tmp_path):
    (tmp_path / "lines.txt").write_text("win cash\n\n  \nsee you\n\n")
    runs.train("last-block")
    selected = ["--row", "last-block", "--seed", str(SEED), "--format", output_format]
    config = ["--config", str(CHECKOUT / "config" / "config.yaml"), config_file(runs)]
    capfd.readouterr()
    assert main(["predict", *selected, "--file", str(tmp_path / "lines.txt"), *config]) == 0
    printed = capfd.readouterr()
    assert printed.err == "empty texts left out: 3\n"
    if output_format == "csv":
        found = [(int(line["index"]), line["text"]) for line in csv.DictReader(io.StringIO(printed.out))]
    else:
        found = [(line["index"], line["text"]) for line in map(json.loads, printed.out.splitlines())]
    assert found == [(0, "win cash"), (3, "see you")]


def test_the_error_for_an_unknown_column_names_it_and_those_that_exist(runs, capfd, tmp_path):
    (tmp_path / "t.csv").write_text("id,text\n1,hello\n")
    model = str(runs.train("last-block") / "model.safetensors")
    line = refusal(runs, capfd, "--model", model, "--file", str(tmp_path / "t.csv"), "--column", "said")
    assert line.startswith(
        f"{tmp_path / 't.csv'}: --column is 'said', found 0 times in the first line; allowed: id, text"
    )


def exported(runs: Runs, row: str, folder: Path, config: Config | None = None) -> Path:
    saved, tensors = load_saved_model(runs.train(row) / "model.safetensors")
    export(saved, tensors, Paths((config or runs.config).results), folder)
    return folder


def python_of(page: Path) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    return code


@pytest.mark.parametrize("row", ROWS)
def test_the_python_code_of_the_exported_page_gives_the_logits_of_training(row, runs, tmp_path, monkeypatch):
    pytest.importorskip("transformers", reason="transformers is not installed")
    monkeypatch.chdir(exported(runs, row, tmp_path / "exported"))
    names: dict = {}
    exec(python_of(Path("README.md")), names)  # noqa: S102 the program's own text
    found = torch.stack([names["logits"](text) for text in runs.texts])
    torch.testing.assert_close(found, runs.expected(row), rtol=0, atol=2e-5)
    assert names["model"].config.id2label == {0: "fine", 1: "junk"}


@pytest.mark.parametrize("row", ["last-block", "flexible"])
def test_transformers_finds_every_tensor_and_no_other(row, runs, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    folder = exported(runs, row, tmp_path / "exported")
    _, found = transformers.GPT2ForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"] and not found["mismatched_keys"]


def test_transformers_pools_the_last_real_token_of_a_batch_of_padded_texts(runs, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model = transformers.GPT2ForSequenceClassification.from_pretrained(
        exported(runs, "flexible", tmp_path / "x")
    ).eval()
    ids = [list(text.encode())[:48] for text in runs.texts]
    padded = torch.tensor([example + [50256] * (48 - len(example)) for example in ids])
    with torch.no_grad():
        torch.testing.assert_close(model(padded).logits, runs.expected("flexible"), rtol=0, atol=2e-5)


def test_transformers_loads_the_exported_tokenizer(runs, tmp_path, shared):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    saved, tensors = load_saved_model(runs.train("flexible") / "model.safetensors")
    results = tmp_path / "results"
    results.mkdir()
    for part in ("weights", "dataset"):
        (results / part).symlink_to(Path(runs.config.results) / part)
    (results / "tokenizer").symlink_to(shared / "real" / "tokenizer")
    export(replace(saved, tokenizer="gpt2"), tensors, Paths(str(results)), tmp_path / "exported")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported")
    ours = load_tokenizer("gpt2", results / "tokenizer")
    for text in ["Hello, you've won £1,000!!  Call 0800 NOW\n", "ü 漢字 \u2028", "  two  spaces "]:
        assert theirs.encode(text, add_special_tokens=False) == ours(text)
    answer = transformers.pipeline("text-classification", model=str(tmp_path / "exported"), truncation=True)(
        "Hello " * 99
    )
    assert answer[0]["label"] in ("fine", "junk")


@pytest.mark.parametrize("row", ROWS)
def test_export_warns_if_a_pipeline_would_pool_another_position(row, runs, tmp_path, capfd):
    saved, tensors = load_saved_model(runs.train(row) / "model.safetensors")
    results = tmp_path / "results"
    (results / "tokenizer").mkdir(parents=True)
    (results / "weights").symlink_to(Path(runs.config.results) / "weights")
    for name in ("vocab.bpe", "encoder.json"):
        (results / "tokenizer" / name).touch()
    export(replace(saved, tokenizer="gpt2"), tensors, Paths(str(results)), tmp_path / "exported")
    warned = "do not use a pipeline of transformers" in capfd.readouterr().err
    assert warned == (row not in ("no-padding", "flexible", "lora-random"))
    # transformers pools the last token that is not padding, if it knows the padding.
    assert warned == (json.loads((tmp_path / "exported" / "config.json").read_text())["pad_token_id"] is None)
    page = (tmp_path / "exported" / "README.md").read_text()
    assert warned == ("A `pipeline` does not do this" in page) and "pip install torch transformers" in page


def test_export_of_a_model_of_bytes_warns_that_a_pipeline_has_no_tokenizer(runs, tmp_path, capfd):
    exported(runs, "flexible", tmp_path / "exported")
    warning, *others = capfd.readouterr().err.splitlines()
    assert warning.startswith("warning: ") and "its tokens are bytes" in warning and "README.md" in warning
    assert others == []


def test_an_export_into_a_folder_that_is_not_empty_is_refused(runs, tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(InputError, match="already exists and is not an empty folder; name another folder"):
        exported(runs, "last-block", tmp_path)


def test_the_bias_that_moves_into_the_final_norm_gives_the_bias_of_the_head(runs):
    saved, tensors = load_saved_model(runs.train("last-block") / "model.safetensors")
    exported = dict(exported_tensors(saved, tensors, Paths(runs.config.results)))
    moved = exported["transformer.ln_f.bias"] - tensors["ln_f.bias"]
    torch.testing.assert_close(exported["score.weight"] @ moved, tensors["head.bias"], rtol=0, atol=1e-6)
    # Large enough that a bias left out would show.
    assert tensors["head.bias"].abs().max() > 1e-3


class WithoutFloat64(torch.Tensor):
    """A tensor that stands in for one on MPS: it refuses float64 until it is copied to the CPU."""

    def cpu(self):
        return self.as_subclass(torch.Tensor)

    def double(self):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")


def test_a_device_without_float64_gives_the_same_predictions(runs, monkeypatch):
    predictor = load_predictor(runs.config, runs.train("last-block") / "model.safetensors")
    expected, computed = list(predictor.predict(runs.texts)), predictor.logits
    monkeypatch.setattr(predictor, "logits", lambda examples: computed(examples).as_subclass(WithoutFloat64))
    assert list(predictor.predict(runs.texts)) == expected
