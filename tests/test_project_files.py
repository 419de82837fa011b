"""The files by which others find, cite and change this project agree with each other."""

import re
import tomllib

import yaml

from tests.conftest import CHECKOUT


def read(name: str) -> str:
    return (CHECKOUT / name).read_text(encoding="utf-8")


REFERENCE = "https://github.com/rasbt/LLMs-from-scratch/tree/main/ch06/02_bonus_additional-experiments"


def project() -> dict:
    return tomllib.loads(read("pyproject.toml"))["project"]


def pins() -> set[str]:
    lines = read("requirements.lock").splitlines() + read("requirements-test.lock").splitlines()
    return {line.partition("==")[0] for line in lines if "==" in line}


def test_the_catalogue_s_file_holds_the_keys_that_the_catalogue_knows():
    usage = yaml.safe_load(read(".snakemake-workflow-catalog.yml"))["usage"]
    assert usage == {"software-stack-deployment": {"conda": True}, "report": True}
    assert (CHECKOUT / "config" / "README.md").is_file()


def test_citation_licence_changelog_and_package_agree():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0" and citation["message"] and citation["title"] and citation["authors"]
    assert citation["version"] == project()["version"]
    assert citation["license"] == project()["license"] == "MIT"
    assert read("LICENSE").startswith("MIT License\n")
    assert citation["authors"][0]["name"] in read("LICENSE")
    assert f"## {project()['version']}\n" in read("CHANGELOG.md")


def test_the_reference_and_its_author_are_credited():
    references = yaml.safe_load(read("CITATION.cff"))["references"]
    assert [reference["type"] for reference in references] == ["book", "software-code"]
    assert all(author["family-names"] == "Raschka" for reference in references for author in reference["authors"])
    first_screen = read("README.md").partition("\n## ")[0]
    assert references[1]["url"] == REFERENCE and REFERENCE in first_screen
    assert references[0]["title"] in first_screen and "Sebastian Raschka" in first_screen.replace("\n", " ")


def test_the_workflow_refuses_the_snakemake_versions_that_the_package_does_not_allow():
    (least,) = re.findall(r'^min_version\("(.*)"\)$', read("Snakefile"), flags=re.MULTILINE)
    assert f"snakemake>={least},<10" in project()["dependencies"]


def test_hooks_are_local_and_call_tools_that_are_locked():
    repositories = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    for hook in repositories[0]["hooks"]:
        assert hook["language"] == "system", "others are downloaded"
        assert hook["entry"].split()[0].removeprefix(".venv/bin/") in pins()


def test_every_test_dependency_is_locked():
    names = {re.split(r"[<>=]", line)[0] for line in project()["optional-dependencies"]["test"]}
    assert names <= pins()


def test_the_contributing_guide_names_commands_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), flags=re.MULTILINE))
    named = set(re.findall(r"\| `make ([a-z-]+)` \|", read("CONTRIBUTING.md")))
    assert {"test", "lint", "format", "demo"} <= named <= targets
    assert (CHECKOUT / ".ci" / "run").is_file()
    for link in re.findall(r"\]\(((?!https).*?)\)", read("CONTRIBUTING.md")):
        assert (CHECKOUT / link).is_file(), link
