"""The demo: its messages, its pretrained miniatures, and the accuracies of its rows."""

import json
import os
from collections import Counter
from pathlib import Path
from statistics import fmean

import pytest
import torch
from safetensors import safe_open

from gpt2_ablations.cli import main
from gpt2_ablations.data.demo_language import LABELS, generate_messages, generate_pretraining_text
from gpt2_ablations.finetuning import training_job
from gpt2_ablations.gpt2.fetch import fetch_weights
from gpt2_ablations.gpt2.pretraining import INITIAL_STD, pretrain
from gpt2_ablations.gpt2.weight_files import check_pretrained_weights
from gpt2_ablations.gpt2.weights import PretrainedWeights
from gpt2_ablations.settings.config import load_config
from gpt2_ablations.settings.constants import PAD_TOKEN
from gpt2_ablations.settings.models import ModelConfig, load_models
from gpt2_ablations.settings.rows import load_experiments
from tests.conftest import CHECKOUT

CONFIGURATION = ["config/config.yaml", "config/demo.yaml"]
SMALL = "gpt2-small (124M)"
TINY = ModelConfig(n_layer=2, n_head=2, n_embd=8, n_positions=48, source="a file of these tests")
Messages = list[tuple[str, str]]


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "messages"
    generate_messages(path)
    return path


@pytest.fixture(scope="module")
def messages(file) -> Messages:
    return [tuple(line.split("\t")) for line in file.read_text(encoding="ascii").splitlines()]


def test_the_same_messages_come_for_the_same_seed_only(file, tmp_path):
    generate_messages(tmp_path / "again", seed=123)
    generate_messages(tmp_path / "other", seed=124)
    assert (tmp_path / "again").read_bytes() == file.read_bytes()
    assert (tmp_path / "other").read_bytes() != file.read_bytes()


def test_messages_are_balanced_and_enough_for_two_hundred_tests(messages):
    counts = Counter(label for label, _ in messages)
    assert counts.keys() == LABELS.keys() and counts["ham"] == counts["spam"]
    assert len(messages) * 0.2 >= 200


def test_messages_are_plain_text_that_needs_no_quoting(messages):
    assert {character for _, text in messages for character in text} <= set("abcdefghijklmnopqrstuvwxyz ")
    assert all(text == text.strip() for _, text in messages)


def test_messages_are_hardly_ever_repeated(messages):
    assert len(set(messages)) > 0.98 * len(messages)


def test_messages_fit_the_miniatures(messages, monkeypatch):
    monkeypatch.chdir(CHECKOUT)
    longest = max(len(text) for _, text in messages)
    assert all(longest < model.n_positions for model in load_models("config/demo-models.yaml").values())


def test_no_single_word_tells_the_kinds_apart(messages):
    words = {word for _, text in messages for word in text.split()}
    best = max(agreement(messages, lambda text, word=word: word in text.split()) for word in words)
    assert 0.55 < best < 0.75


def test_the_first_letter_says_something_but_not_much(messages):
    letters = {text[0] for _, text in messages}
    spam_letters = {
        letter for letter in letters if fmean(label == "spam" for label, text in messages if text[0] == letter) > 0.5
    }
    assert 0.55 < agreement(messages, lambda text: text[0] in spam_letters) < 0.8


def test_counts_of_bytes_do_not_separate_the_kinds_perfectly(messages):
    counts = torch.stack([torch.bincount(torch.tensor(list(text.encode())), minlength=128) for _, text in messages])
    labels = torch.tensor([LABELS[label] for label, _ in messages]).double()
    half = len(messages) // 2
    inputs = torch.cat([counts.double(), torch.ones(len(messages), 1, dtype=torch.float64)], dim=1)
    # gelsd: many bytes never occur, so the columns are dependent.
    weights = torch.linalg.lstsq(inputs[:half], labels[:half, None] * 2 - 1, driver="gelsd").solution[:, 0]
    accuracy = ((inputs[half:] @ weights > 0) == labels[half:].bool()).double().mean()
    assert 0.7 < accuracy < 0.97


def agreement(messages: Messages, says_spam) -> float:
    """The accuracy of a rule or of its opposite, whichever is higher."""
    right = fmean(says_spam(text) == (label == "spam") for label, text in messages)
    return max(right, 1 - right)


def test_pretraining_text_is_the_same_for_the_same_seed_only():
    text = generate_pretraining_text(n_streams=3, length=65, seed=1)
    assert [len(stream) for stream in text] == [65, 65, 65]
    assert text == generate_pretraining_text(n_streams=3, length=65, seed=1)
    assert text != generate_pretraining_text(n_streams=3, length=65, seed=2)


def test_pretraining_text_holds_none_of_the_messages(messages):
    known = {text for _, text in messages}
    whole = [stretch for stream in streams() for stretch in stretches(stream)[:-1]]
    assert len(whole) > 2000 and known.isdisjoint(whole)


def test_padding_in_the_pretraining_text_has_all_lengths_that_occur_in_the_splits(messages):
    lengths = {
        len(padding)
        for stream in streams()
        for padding in "".join("." if token == PAD_TOKEN else " " for token in stream).strip(".").split()
    }
    shortest, longest = (extreme(len(text) for _, text in messages) for extreme in (min, max))
    assert lengths >= set(range(1, longest - shortest + 1))


def streams() -> list[list[int]]:
    return generate_pretraining_text(n_streams=3000, length=129, seed=123)


def stretches(stream: list[int]) -> list[str]:
    """The texts between padding tokens; the last may be cut."""
    text = "".join("\n" if token == PAD_TOKEN else chr(token) for token in stream)
    return [part for part in text.split("\n") if part]


@pytest.fixture(scope="module")
def miniature(tmp_path_factory) -> tuple[Path, float, float]:
    path = tmp_path_factory.mktemp("miniature") / "tiny.safetensors"
    before, after = pretrain(TINY, path, seed=1, steps=80)
    return path, before, after


def test_pretraining_lowers_the_loss(miniature):
    _, before, after = miniature
    assert after < 0.6 * before


def test_pretraining_shows_its_progress_and_says_what_it_did(tmp_path, capsys):
    before, after = pretrain(TINY, tmp_path / "model", seed=1, steps=2)
    said = capsys.readouterr().err
    assert "pretraining: 100%" in said and f"loss {before:.2f} before, {after:.2f} after" in said


def test_a_miniature_is_a_complete_model_file(miniature):
    check_pretrained_weights(miniature[0], TINY)
    assert PretrainedWeights(miniature[0], TINY).embeddings()["wte.weight"].shape == (50257, TINY.n_embd)


def test_a_miniature_holds_masks_and_metadata_as_the_published_files_do(miniature):
    with safe_open(miniature[0], framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        masks = [name for name in file.keys() if name.endswith(".attn.bias")]  # noqa: SIM118 not a mapping
        assert sorted(masks) == ["h.0.attn.bias", "h.1.attn.bias"]
        for name in masks:
            assert torch.equal(file.get_tensor(name), torch.ones(48, 48).tril().view(1, 1, 48, 48))


def test_only_tokens_of_the_text_are_learned(miniature):
    embedding = PretrainedWeights(miniature[0], TINY).embeddings()["wte.weight"]
    learned, others = embedding[[*map(ord, "aeinst "), PAD_TOKEN]], embedding[1000:2000]
    assert others.std() == pytest.approx(INITIAL_STD, rel=0.05)
    assert learned.std() > 1.25 * INITIAL_STD


def test_the_same_seed_gives_the_same_miniature(tmp_path):
    for name, seed in {"one": 1, "again": 1, "other": 2}.items():
        pretrain(TINY, tmp_path / name, seed=seed, steps=3)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "again").read_bytes()
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


def test_transformers_reads_a_miniature(miniature, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is a test dependency")
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_layer": TINY.n_layer,
        "n_head": TINY.n_head,
        "n_embd": TINY.n_embd,
        "n_positions": TINY.n_positions,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    os.link(miniature[0], tmp_path / "model.safetensors")
    model = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    streams = torch.tensor(generate_pretraining_text(n_streams=32, length=TINY.n_positions, seed=9))
    with torch.no_grad():
        logits = model(streams).logits[:, :-1]
    # Pretraining covers only the tokens of the text; the others are not learned.
    tokens, targets = streams.unique(return_inverse=True)
    loss = torch.nn.functional.cross_entropy(logits[..., tokens].flatten(0, 1), targets[:, 1:].flatten())
    _, before, _ = miniature
    assert loss < 0.6 * before


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A function that trains a row of the demo with a seed, in a folder of its own."""
    folder = tmp_path_factory.mktemp("whole-demo")
    (folder / "config").symlink_to(CHECKOUT / "config")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = load_config(CONFIGURATION)
        models = load_models(config.models)
        experiments = load_experiments(config.experiments, models, config.models)
        generate_messages(Path(config.dataset.sources[0]))
        for command in ("fetch-messages", "split-messages", "tokenize"):
            assert main([command, "--config", *map(str, CONFIGURATION)]) == 0
        pretrain(models[SMALL], Path(models[SMALL].source), seed=123)
        fetch_weights(config, SMALL)
        train = training_job.train
        yield lambda row, seed: train(config, experiments[row], seed, row, None, Path("rows", row, str(seed)))


@pytest.mark.slow
def test_pretraining_helps_and_the_task_is_neither_trivial_nor_hopeless(demo):
    accuracies = {row: [demo(row, seed)["test_acc"] for seed in (1, 2, 3)] for row in ("1", "5", "10")}
    assert fmean(accuracies["5"]) >= fmean(accuracies["10"]) + 0.05, accuracies
    assert all(0.70 <= accuracy <= 0.99 for accuracy in accuracies["1"]), accuracies


@pytest.mark.slow
def test_the_reference_s_own_seed_too(demo):
    metrics = demo("1", 123)
    assert metrics["test_total"] >= 200 and 0.70 <= metrics["test_acc"] <= 0.99
