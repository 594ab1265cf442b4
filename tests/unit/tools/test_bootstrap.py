import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import bootstrap
import pytest

TORCH = "torch==2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


class Machine:
    """A machine without side effects: records every command and answers it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commands: list[str] = []
        self.failing: dict[str, str] = {"nvidia-smi": ""}
        self.python = "3.12"

    def run(self, command, check=False, **_):
        line = " ".join(command)
        self.commands.append(line)
        for part, message in self.failing.items():
            if part in line:
                if check:
                    raise subprocess.CalledProcessError(1, command)
                return subprocess.CompletedProcess(command, 1, stdout="", stderr=message)
        answer = "GPU 0: some card" if "nvidia-smi" in line else self.python
        return subprocess.CompletedProcess(command, 0, stdout=f"{answer}\n", stderr="")

    def create_environment(self, environment, **options):
        self.commands.append("venv")
        assert options["with_pip"]
        (environment / "bin").mkdir(parents=True, exist_ok=True)
        (environment / "bin" / "python").touch()

    @property
    def installed(self) -> list[str]:
        """The pip commands, without interpreter and verbosity."""
        return [line.partition("--quiet --quiet ")[2] for line in self.commands if " pip " in line]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    (tmp_path / "tools").mkdir()
    for name in bootstrap.REQUIREMENTS:
        (tmp_path / name).write_text(f"filelock==3\n{TORCH}\n")
    machine = Machine(tmp_path)
    fake = SimpleNamespace(
        run=machine.run, CalledProcessError=subprocess.CalledProcessError, DEVNULL=subprocess.DEVNULL
    )
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "subprocess", fake)
    monkeypatch.setattr(bootstrap.venv, "create", machine.create_environment)
    monkeypatch.setattr(bootstrap, "NVIDIA_DEVICE", tmp_path / "nvidia0")
    monkeypatch.setattr(bootstrap.sys, "platform", "linux")
    for name in ("DEVICE", "WHEELS"):
        monkeypatch.delenv(name, raising=False)
    return machine


def project(device):
    return f"--editable {bootstrap.ROOT}[{device},clients,loadtests,train,dev]"


def test_cpu_takes_torch_from_a_local_wheel_folder_and_drops_what_breaks_transformers(machine):
    assert bootstrap.main() == 0
    assert machine.installed == [
        f"install --no-index --no-deps {TORCH}+cpu",
        f"install --constraint {machine.root}/constraints.txt {project('cpu')}",
        "uninstall --yes torchvision torchaudio torchcodec",
    ]


def test_a_named_wheel_folder_serves_torch_and_everything_else(machine, monkeypatch):
    monkeypatch.setenv("WHEELS", "/media/wheels")
    bootstrap.main()
    torch, everything, _ = machine.installed
    assert torch == f"install --no-index --no-deps --find-links /media/wheels {TORCH}+cpu"
    assert "--find-links /media/wheels" in everything


def test_pytorchs_cpu_index_serves_torch_alone_and_only_where_no_folder_has_it(machine):
    machine.failing["--no-index"] = "no matching distribution"
    assert bootstrap.main() == 0
    assert [line for line in machine.installed if CPU_INDEX in line] == [
        f"install --no-deps --extra-index-url {CPU_INDEX} {TORCH}+cpu"
    ]


def test_a_mac_has_one_build_of_torch(machine, monkeypatch):
    monkeypatch.setattr(bootstrap.sys, "platform", "darwin")
    bootstrap.main()
    assert machine.installed[0] == f"install --no-index --no-deps {TORCH}"


def test_gpu_leaves_torch_to_vllm(machine):
    machine.failing.clear()
    assert bootstrap.main() == 0
    assert machine.installed == [f"install --constraint {machine.root}/constraints.txt {project('gpu')}"]
    assert "torch.version.cuda" in machine.commands[-1]


def test_the_second_run_does_nothing(machine):
    bootstrap.main()
    machine.commands.clear()
    assert bootstrap.main() == 0
    assert machine.commands == ["nvidia-smi -L"]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_into_the_same_environment(machine, name):
    bootstrap.main()
    machine.commands.clear()
    (machine.root / name).write_text(f"{TORCH}\nfilelock==4\n")
    bootstrap.main()
    assert machine.installed
    assert "venv" not in machine.commands


def test_another_device_gets_a_new_environment(machine, monkeypatch):
    bootstrap.main()
    machine.commands.clear()
    monkeypatch.setenv("DEVICE", "gpu")
    bootstrap.main()
    assert "venv" in machine.commands
    assert project("gpu") in machine.installed[0]


def test_a_moved_folder_gets_a_new_environment(machine, monkeypatch, tmp_path_factory):
    bootstrap.main()
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    machine.root.rename(elsewhere)
    machine.root = elsewhere
    monkeypatch.setattr(bootstrap, "ROOT", elsewhere)
    machine.commands.clear()
    bootstrap.main()
    assert "venv" in machine.commands


def test_an_environment_whose_interpreter_is_gone_is_made_anew(machine):
    bootstrap.main()
    (machine.root / ".venv/bin/python").unlink()
    machine.commands.clear()
    bootstrap.main()
    assert "venv" in machine.commands


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("--constraint", "installing failed, see above"),
        ("uninstall", "uninstalling failed, see above"),
        ("import transformers", "the environment is broken (make clean starts afresh): ImportError: no symbol"),
    ],
)
def test_a_failure_is_one_line_and_the_next_run_tries_again(machine, capsys, part, message):
    machine.failing[part] = "Traceback:\n  somewhere\nImportError: no symbol"
    assert bootstrap.main() == 1
    assert capsys.readouterr().err == f"bootstrap: {message}\n"
    del machine.failing[part]
    machine.commands.clear()
    assert bootstrap.main() == 0
    assert machine.installed


def test_going_back_after_a_failed_change_installs_again(machine):
    bootstrap.main()
    before = (machine.root / "constraints.txt").read_text()
    (machine.root / "constraints.txt").write_text(f"{TORCH}\nfilelock==4\n")
    machine.failing["--constraint"] = ""
    assert bootstrap.main() == 1
    machine.failing.pop("--constraint")
    (machine.root / "constraints.txt").write_text(before)
    machine.commands.clear()
    assert bootstrap.main() == 0
    assert machine.installed


def test_torch_that_is_nowhere_is_named_with_both_places(machine, capsys):
    machine.failing[TORCH] = ""
    assert bootstrap.main() == 1
    line = capsys.readouterr().err
    assert f"{TORCH}+cpu" in line
    assert "WHEELS=" in line
    assert CPU_INDEX in line


def test_an_unsupported_python_is_refused_before_anything_is_made(machine, capsys):
    machine.python = "3.14"
    assert bootstrap.main() == 1
    assert "is Python 3.14, and 3.11, 3.12 or 3.13 is needed" in capsys.readouterr().err
    assert "venv" not in machine.commands
    assert not machine.installed


def test_a_python_without_venv_leaves_no_half_made_environment(machine, monkeypatch, capsys):
    def create(environment, **options):
        machine.create_environment(environment, **options)
        raise subprocess.CalledProcessError(1, "ensurepip")

    monkeypatch.setattr(bootstrap.venv, "create", create)
    assert bootstrap.main() == 1
    assert "python3-venv" in capsys.readouterr().err
    assert not (machine.root / ".venv").exists()


def test_an_unknown_device_is_refused(machine, monkeypatch, capsys):
    monkeypatch.setenv("DEVICE", "tpu")
    assert bootstrap.main() == 1
    assert capsys.readouterr().err == "bootstrap: DEVICE must be cpu or gpu, not 'tpu'\n"


@pytest.mark.parametrize(
    ("driver", "node", "device"),
    [("lists a card", False, "gpu"), ("fails", False, "cpu"), ("fails", True, "gpu"), ("is missing", False, "cpu")],
)
def test_the_device_is_what_the_machine_has(machine, monkeypatch, driver, node, device):
    machine.failing = {"nvidia-smi": ""} if driver == "fails" else {}
    if driver == "is missing":

        def run(command, **_):
            raise FileNotFoundError(command[0])

        monkeypatch.setattr(bootstrap.subprocess, "run", run)
    if node:
        bootstrap.NVIDIA_DEVICE.touch()
    assert bootstrap.detect_device() == device


def test_what_it_does_is_said_in_plain_lines(machine, capsys):
    bootstrap.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"== creating .venv with {sys.executable} (Python {sys.version.split()[0]})"
    assert lines[1].startswith("== this machine gets the CPU build of vLLM")
    assert f"== {TORCH}+cpu from a local wheel folder" in lines
    assert lines[-1].startswith("== environment ready after")
    bootstrap.main()
    assert capsys.readouterr().out == ""
