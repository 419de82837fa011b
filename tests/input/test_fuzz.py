"""Random changes of configurations and messages files: each is accepted, or refused with one line."""

import dataclasses
import os
import shutil
import subprocess
import sys
from copy import deepcopy

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt2_ablations.cli import parse
from gpt2_ablations.data.dataset import parse_messages, read_split
from gpt2_ablations.data.tokens import load_tokens
from gpt2_ablations.planning.workflow import make_workflow
from gpt2_ablations.settings.config import load_config
from gpt2_ablations.settings.constants import SPLITS
from gpt2_ablations.settings.experiment import Experiment, experiment_from_flags
from tests.conftest import CHECKOUT, environment, fuzz_cases

from .conftest import FILES, PUBLISHED, Project, the_line

pytestmark = pytest.mark.faults
FUZZ = settings(
    max_examples=fuzz_cases(),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def keys_in(content: object) -> list[str]:
    mappings = content.items() if isinstance(content, dict) else []
    return [name for key, value in mappings for name in (key, *keys_in(value))]


KNOWN = sorted({key for content in FILES.values() for key in keys_in(content)})
WORDS = ["all", "cpu", "cuda", "bytes", "gpt2", "tiny", "lora", "random", "flexible", "last_two_blocks", "results"]
WORDS += [
    "model_context_length",
    "messages.tsv",
    "file:///x",
    "https://u:p@host/?k=v",
    "test_accuracy",
    "~",
    "/dev/null",
]
WORDS += [
    "$(touch owned)",
    "'; touch owned; '",
    "a b",
    "a\nb",
    "{x}",
    "-x",
    "..",
    "C:\\x",
    "\x1b[2J",
    "é",
    "💥",
    "null",
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 70)
    | st.integers()
    | st.floats()
    | st.sampled_from([2**31, 2**63, 10**400])
    | st.sampled_from(WORDS)
    | st.text(max_size=12)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KNOWN) | st.text(), inner, max_size=3),
    max_leaves=6,
)
OPTIONS = [field.name for field in dataclasses.fields(Experiment)]


@st.composite
def changed(draw: st.DrawFn, content: dict) -> dict:
    """A mapping in which one key, at any depth, is set, added, removed or renamed."""
    content = deepcopy(content)
    mapping = content
    while True:
        deeper = [value for value in mapping.values() if isinstance(value, dict) and value]
        if not deeper or draw(st.booleans()):
            break
        mapping = draw(st.sampled_from(deeper))
    known = st.sampled_from([*mapping, *OPTIONS])
    match draw(st.sampled_from(["set", "set", "set", "add", "remove", "rename"])):
        case "set":
            mapping[draw(known)] = draw(VALUES)
        case "add":
            mapping[draw(st.text(max_size=8) | st.sampled_from([*KNOWN, *WORDS]))] = draw(VALUES)
        case "remove" if mapping:
            del mapping[draw(st.sampled_from(list(mapping)))]
        case "rename" if mapping:
            renamed = draw(st.text(max_size=8) | st.sampled_from(KNOWN))
            mapping[renamed] = mapping.pop(draw(st.sampled_from(list(mapping))))
    return content


SYNTAX = [b"\n", b"\t", b": ", b"- ", b"&a ", b"*a", b"{", b'"', b"'"]


@st.composite
def damaged(draw: st.DrawFn, text: bytes) -> bytes:
    """A text with some bytes replaced, inserted or removed."""
    content = bytearray(text)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 5)))
        content[start:end] = draw(st.binary(max_size=4) | st.sampled_from(SYNTAX))
    return bytes(content)


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, bytes]:
    """One or two files of a configuration, changed in structure or damaged as text."""
    files = {}
    for name in draw(st.lists(st.sampled_from([*FILES, "published.csv"]), min_size=1, max_size=2, unique=True)):
        if name == "published.csv":
            files[name] = draw(damaged("\n".join(PUBLISHED).encode()))
            continue
        content = FILES[name]
        for _ in range(draw(st.integers(1, 2))):
            content = draw(changed(content))
        text = yaml.safe_dump(content, sort_keys=False).encode()
        files[name] = draw(damaged(text)) if draw(st.integers(0, 3)) == 0 else text
    return files


def write_files(project: Project, files: dict[str, bytes]) -> None:
    project.restore()
    for name, content in files.items():
        project.write(name, content)


@FUZZ
@given(configurations())
def test_a_configuration_is_accepted_or_refused_with_one_line(project, files):
    write_files(project, files)
    before = sorted(os.listdir(project.folder))
    answer = project.check()
    assert sorted(os.listdir(project.folder)) == before
    if answer.code:
        assert the_line(answer.err) and "p@host" not in answer.err and answer.out == ""
        return
    assert answer.out.startswith("OK: ") and answer.err == ""
    # What `check` accepts, the workflow can plan and the command line can express.
    workflow = make_workflow({}, [project.folder / "config.yaml", CHECKOUT / "config" / "config.yaml"])
    for row, experiment in workflow.experiments.items():
        assert experiment_from_flags(parse(["train", *experiment.flags(), f"--row={row}"])) == experiment
        for seed in workflow.config.seeds:
            workflow.feature_files(row, seed)
        assert workflow.run_files(row)


@settings(parent=FUZZ, max_examples=max(3, fuzz_cases() // 100))
@given(configurations())
def test_the_command_line_in_a_process_of_its_own_gives_the_same_result(project, files):
    write_files(project, files)
    command = [sys.executable, "-m", "gpt2_ablations", "check", "--config", "config.yaml"]
    done = subprocess.run(command, env=environment(), capture_output=True, timeout=60)
    here = project.check()
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (here.code, here.out, here.err)


ODD_TEXTS = ['"', "''", "NA", "null", "1", "   ", "x" * 200, "a\rb", "a\0b", "£", '"a', 'b"', '"a" b', "\u2028"]
LINE = st.tuples(
    st.sampled_from(["ham", "spam"] * 8 + ["Ham", "", "0", "eggs", '"ham"', "nan", " ham"]),
    st.sampled_from(["\t"] * 12 + [" ", ",", "\t\t", ""]),
    st.text(min_size=1, max_size=30) | st.sampled_from(ODD_TEXTS),
)
PLAIN = "".join(f"ham\tsee you at {i}\nspam\twin a prize {i}\n" for i in range(12))
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252", "utf-7", "ascii", "gb18030", "rot13", ""]


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, dict]:
    """A messages file that is valid or nearly so, and keys of `dataset`: mostly those of the file."""
    lines = ["".join(line) for line in draw(st.lists(LINE, max_size=6))]
    text = draw(st.sampled_from([PLAIN, PLAIN, PLAIN, ""])) + "\n".join(lines)
    text = text.replace("\n", draw(st.sampled_from(["\n", "\r\n", "\r"])))
    encoding = draw(st.sampled_from(["utf-8"] * 6 + ENCODINGS[:-2]))
    content = text.encode(encoding, errors="replace")
    if draw(st.integers(0, 2)) == 0:
        content = draw(damaged(content))
    stated = draw(st.sampled_from([encoding.removesuffix("-sig")] * 6 + ENCODINGS))
    return content, {"encoding": stated, "quoting": draw(st.sampled_from(["standard", "none"]))}


def prepare(project: Project, content: bytes, dataset: dict) -> str | None:
    """Fetch, split and tokenize; returns the one-line error, None if there was none."""
    shutil.rmtree(project.folder / "results", ignore_errors=True)
    project.restore()
    project.contents["config.yaml"]["dataset"] |= dataset
    project.save("config.yaml")
    project.write("messages.tsv", content)
    for command in ("fetch_messages", "split_messages", "tokenize"):
        answer = project.command(command, "--config", "config.yaml")
        if answer.code:
            # A job that reads the file says first what is in it.
            return the_line(answer.err.splitlines(keepends=True)[-1])
    return None


@FUZZ
@given(messages())
def test_messages_are_split_and_tokenized_or_refused_with_one_line(project, written):
    content, dataset = written
    line = prepare(project, content, dataset)
    if line is not None:
        assert project.check().code or "tokenize" in line
        assert "SMSSpamCollection" not in line  # the user's file is named, not the workflow's copy
        assert not (project.folder / "results" / "dataset" / "tokens.safetensors").exists()
        return
    found = parse_messages(content, "messages.tsv", load_config(["config.yaml"]).dataset.format)
    splits = {name: read_split(project.folder / "results" / "dataset" / f"{name}.csv") for name in SPLITS}
    assert sum(len(labels) for labels, _ in splits.values()) == 2 * min(found.counts.values())
    assert {text for _, texts in splits.values() for text in texts} <= set(found.texts)
    assert found.line_note is None or dataset["quoting"] == "standard"
    tokens = load_tokens(project.folder / "results" / "dataset" / "tokens.safetensors")
    for name, (labels, texts) in splits.items():
        assert tokens[name].labels.tolist() == labels
        assert bytes(tokens[name].ids.tolist()) == "".join(texts).encode()
