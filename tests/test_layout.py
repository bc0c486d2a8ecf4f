"""The shape of the repository: what lies at the top, and how the folders become one package."""

import codecs  # noqa: TID251  # Python's own, for once: a test sees that it is not hidden
import os
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CODE_FOLDERS = ("codecs", "configs", "pipeline", "storage", "workers")
"""The folders that make up the package."""

TOP_LEVEL = {
    *CODE_FOLDERS,
    "tests",
    "pyproject.toml",
    "README.md",
    "Makefile",
    "constraints.txt",
    "LICENSE",
    "NOTICE",
    ".ci",
    ".src",
    ".gitignore",
}
"""Everything that lies at the top of a fresh clone."""

IGNORED = {".git"} | {line.strip("/") for line in (ROOT / ".gitignore").read_text().split() if line.startswith("/")}
"""What tools and runs leave at the top, and .gitignore keeps out."""


def packages_below(folder: Path) -> list[Path]:
    """Return the sub-folders, at any depth, that hold modules themselves."""
    return sorted({module.parent for module in folder.rglob("*.py")} - {folder})


def test_the_top_level_is_as_designed() -> None:
    found = {entry.name for entry in ROOT.iterdir()} - IGNORED

    assert found == TOP_LEVEL


@pytest.mark.parametrize("folder", [*CODE_FOLDERS, "tests"])
def test_no_top_level_folder_is_a_regular_package(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize("folder", CODE_FOLDERS)
def test_every_sub_folder_with_modules_is_a_package_with_a_docstring_only(folder: str) -> None:
    for package in packages_below(ROOT / folder):
        text = (package / "__init__.py").read_text()

        assert text.startswith('"""'), f"{package}/__init__.py has no docstring"
        assert text.rstrip().endswith('"""'), f"{package}/__init__.py holds more than a docstring"
        assert text.count('"""') == 2, f"{package}/__init__.py holds more than a docstring"


def test_the_package_is_one_relative_link_a_folder() -> None:
    package = ROOT / ".src" / "framevault"

    links = {entry.name: os.readlink(entry) for entry in package.iterdir() if entry.is_symlink()}
    others = {entry.name for entry in package.iterdir() if not entry.is_symlink()} - {"__pycache__"}

    assert links == {folder: f"../../{folder}" for folder in CODE_FOLDERS}
    assert others == {"py.typed"}


def test_the_tests_run_this_tree() -> None:
    assert Path(str(files("framevault") / "codecs" / "spec.py")).resolve() == ROOT / "codecs" / "spec.py"


def test_pythons_own_codecs_is_not_hidden() -> None:
    assert codecs.lookup("utf-8").name == "utf-8"


def test_every_test_module_mirrors_a_module_or_folder() -> None:
    for test in (ROOT / "tests").glob("*/**/test_*.py"):
        folder = ROOT / test.parent.relative_to(ROOT / "tests")

        assert folder.is_dir(), f"{test} mirrors no folder"


def test_no_module_is_called_after_nothing() -> None:
    banned = {"utils.py", "helpers.py", "common.py", "misc.py"}

    found = [path for folder in (*CODE_FOLDERS, "tests") for path in (ROOT / folder).rglob("*.py")]

    assert [path for path in found if path.name in banned] == []


def test_every_constraint_is_an_exact_version() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]

    assert lines == sorted(lines, key=lambda line: line.partition("==")[0])
    for line in lines:
        name, separator, version = line.partition("==")
        assert separator, f"constraints.txt: {line!r} is not name==version"
        assert name == name.lower().replace("_", "-"), f"constraints.txt: {name!r} is not a normal name"
        assert version[0].isdigit(), f"constraints.txt: {line!r} has no version"
