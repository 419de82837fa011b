"""Paths as people write them: every spelling has one form, in every key that holds a path and on the command line."""

import os
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt2_ablations.planning.workflow import Workflow, make_workflow
from gpt2_ablations.settings.config import command_line_settings
from gpt2_ablations.settings.schema.text_types import normal_path
from tests.conftest import CHECKOUT, fuzz_cases

from .conftest import FILES, Project

FUZZ = settings(
    max_examples=fuzz_cases(),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# The keys that hold a path: the file, the way to the key, and the path that the project's files have there.
KEYS = [
    ("config.yaml", ("results",), "results"),
    ("config.yaml", ("experiments",), "rows.yaml"),
    ("config.yaml", ("models",), "models.yaml"),
    ("config.yaml", ("published",), "published.csv"),
    ("config.yaml", ("comparisons",), "comparisons.yaml"),
    ("config.yaml", ("dataset", "sources", 0), "messages.tsv"),
    ("models.yaml", ("tiny", "source"), "tiny.safetensors"),
]
NAMES = st.text(st.sampled_from("ab é'(&~"), min_size=1, max_size=5).map(str.strip).filter(bool) | st.just("$(a)")


@st.composite
def spellings(draw: st.DrawFn, path: str = "") -> str:
    """A way to write a path below the working folder, which is also `~` and `$HERE`."""
    parts = path.split("/") if path else draw(st.lists(NAMES, min_size=1, max_size=3))
    start = draw(st.sampled_from(["", "./", ".//", "~/", "$HERE/", "${HERE}//", "{cwd}/", "//{cwd}/", "a/../"]))
    if parts[0].startswith("~") and not start:
        start = "./"  # `~a` is the home folder of the user `a`
    text = start.replace("{cwd}", os.getcwd().lstrip("/") if start.startswith("//") else os.getcwd())
    for part in parts:
        text += part + draw(st.sampled_from(["/", "//", "/./", "/x/../", "///"]))
    return text if draw(st.booleans()) else text.rstrip("/.") if not text.endswith("../") else text


@pytest.fixture
def here(project: Project, monkeypatch) -> Project:
    """A project whose folder is the home folder and the value of a variable."""
    monkeypatch.setenv("HOME", str(project.folder))
    monkeypatch.setenv("HERE", str(project.folder))
    return project


def workflow_of(project: Project, *arguments: str) -> Workflow:
    """What Snakemake plans with the project's configuration and `--config ARGUMENTS`."""
    files = [project.folder / "config.yaml", CHECKOUT / "config" / "config.yaml"]
    return make_workflow(command_line_settings(arguments), files)


@pytest.mark.fuzz
@FUZZ
@given(st.data())
def test_every_spelling_of_a_path_names_the_same_file_and_has_a_form_that_stays(here, data):
    written = data.draw(spellings())
    form = normal_path(written)
    assert normal_path(form) == form == normal_path(f"{form}//")
    expanded = os.path.expandvars(os.path.expanduser(written))
    assert os.path.realpath(form) == os.path.realpath(expanded)
    assert "//" not in form and not form.startswith("./") and (form == "/" or not form.endswith("/"))
    assert str(Path(form)) == form


@pytest.mark.fuzz
@settings(parent=FUZZ, max_examples=max(10, fuzz_cases() // 10))
@given(st.data())
def test_check_and_the_workflow_accept_every_spelling_in_every_key(here, data):
    here.restore()
    contents = deepcopy(FILES)
    arguments = []
    for file, way, path in KEYS:
        written = data.draw(spellings(path))
        holder = contents[file]
        for part in way[:-1]:
            holder = holder[part]
        holder[way[-1]] = written
        if len(way) == 1 and data.draw(st.booleans()):
            arguments.append(f"{way[0]}={data.draw(spellings(path))}")
    here.contents = contents
    for file in contents:
        here.save(file)
    answer = here.check()
    assert (answer.code, answer.err) == (0, "")
    workflow = workflow_of(here, *arguments)
    models = workflow.models
    found = [*vars(workflow.config).values(), *workflow.config.dataset.sources, models["tiny"].source]
    for _, _, path in KEYS:
        assert path in found or f"{here.folder}/{path}" in found
    assert Path(workflow.run_files("1")[0]).relative_to(Path(workflow.config.results))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("$NO_SUCH_FOLDER/x", "the environment variable NO_SUCH_FOLDER is not set; set it, or write the path out"),
        ("${NO_SUCH_FOLDER}", "the environment variable NO_SUCH_FOLDER is not set"),
        ("~no-such-user/x", "there is no such home folder"),
        ("$EMPTY", "allowed: a path of printable characters"),
        ("' x'", "allowed: a path of printable characters without braces, and without spaces around it"),
        ("https://host/x", "allowed: a path, not an address"),
    ],
)
@pytest.mark.parametrize("key", ["results", "published"])
def test_a_path_that_cannot_be_meant_is_refused(here, key, written, message, monkeypatch):
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NO_SUCH_FOLDER", raising=False)
    here.write("override.yaml", f"{key}: {written}\n")
    line = here.refusal("check", "--config", "config.yaml", "override.yaml")
    assert line.startswith(f"override.yaml: {key} is ") and message in line


def test_dots_after_a_symbolic_link_are_those_of_its_target(here):
    (here.folder / "deep" / "er").mkdir(parents=True)
    (here.folder / "link").symlink_to("deep/er")
    assert normal_path("link/..//rows.yaml") == "link/../rows.yaml"
    assert normal_path("deep/er/../rows.yaml") == "deep/rows.yaml"


def test_a_file_named_like_a_home_folder_or_by_a_number_or_a_date_is_a_path(here):
    assert normal_path("./~") == f"{here.folder}/~" == normal_path(normal_path("./~"))
    for name in ("2024", "010", "2024-01-31", "yes", "1e3"):
        here.write("override.yaml", f"results: {name}\n")
        assert here.command("check", "--config", "config.yaml", "override.yaml").code == 0
        assert workflow_of(here, f"results={name}").config.results == name


def test_the_working_folder_itself_can_be_the_results_folder(here):
    paths = workflow_of(here, "results=./").paths
    assert str(paths.table) == "table.md" and str(paths.logs) == "logs"
