"""The rules of the house that a reader relies on: who may import whom, one adapter for each engine, small modules."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("reasoning", "server", "training", "clients", "loadtests")
MAY_IMPORT = {
    "reasoning": set(),
    "server": {"reasoning"},
    "training": {"reasoning"},
    "clients": set(),  # HTTP only
    "loadtests": set(),
}
HEAVY = {"datasets", "fastapi", "torch", "transformers", "trl", "vllm"}
EXTRAS = {
    "reasoning": (),
    "server": ("cpu", "gpu"),
    "training": ("cpu", "gpu", "train"),
    "clients": ("clients", "dev"),  # its examples show what others bring
    "loadtests": ("clients", "loadtests"),
}
LONGEST = 400


MODULES = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def modules(package: str) -> list[Path]:
    return [path for path in MODULES if path.parts[0] == package]


@cache
def imported(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports, wherever in the file it does."""
    return {name.partition(".")[0] for name in _imports(ast.parse((ROOT / path).read_text()))}


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""


def importers(package: str, library: str) -> list[str]:
    return [path.name for path in modules(package) if library in imported(path)]


@cache
def installed() -> dict[str, list[str]]:
    """Distributions by the top-level names that they bring."""
    return dict(packages_distributions())


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_one_way(path):
    package = path.parts[0]
    assert imported(path) & set(PACKAGES) <= MAY_IMPORT[package] | {package}


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[0] in ("reasoning", "clients")], ids=str)
def test_what_everyone_may_import_is_light(path):
    assert not imported(path) & HEAVY


@pytest.mark.parametrize("package", ["server", "training"])
def test_one_module_of_a_package_knows_vllm(package):
    assert len(importers(package, "vllm")) <= 1


def test_one_module_knows_trl():
    assert [name for package in PACKAGES for name in importers(package, "trl")] == ["grpo.py"]


@pytest.mark.parametrize("package", EXTRAS)
def test_what_a_package_imports_is_declared(package):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for e in EXTRAS[package] for line in project["optional-dependencies"][e])]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    imports = set().union(*map(imported, modules(package))) - set(sys.stdlib_module_names) - set(PACKAGES)
    providers = {name: {canonicalize_name(each) for each in installed().get(name, [name])} for name in imports}
    assert {name for name, distributions in providers.items() if not distributions & declared} == set()


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_modules_stay_small(path):
    assert len((ROOT / path).read_text().splitlines()) <= LONGEST
