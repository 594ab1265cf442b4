"""The commands of the Dockerfile's build stages, run outside Docker: they make the command with its model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dockerfile import ROOT, STAGES

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The virtual environment of the target ``cpu``, made by the commands of its build stages.

    The libraries of this environment are visible in it, so that pip finds the heavy ones and installs the project.
    """
    folder = tmp_path_factory.mktemp("image")
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder)} | {
        name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP", "http"))
    }

    def run(command):
        command = command.replace("/opt/stepgrpo", str(folder / "opt"))
        result = subprocess.run(
            ["/bin/bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr

    for line in STAGES["build"] + STAGES["build-cpu"]:
        kind, _, rest = line.partition(" ")
        if kind == "RUN":
            run(rest)
            (site,) = folder.glob("opt/lib/python3.*/site-packages")
            outside = next(path for path in sys.path if path.endswith("site-packages"))
            (site / "outside.pth").write_text(f"{outside}\n")
        elif kind == "COPY":
            for name in rest.split()[:-1]:
                run(f"cp -r {ROOT / name} {folder}/")
    return folder


def test_the_build_installs_the_command_and_the_bundled_checkpoint(built):
    environment = {"PATH": f"{built / 'opt' / 'bin'}:/usr/bin:/bin", "HOME": str(built), "STEPGRPO_HOST": "0.0.0.0"}
    entry = json.loads(next(line for line in STAGES["cpu"] if line.startswith("ENTRYPOINT")).split(maxsplit=1)[1])
    command = json.loads(next(line for line in STAGES["cpu"] if line.startswith("CMD")).split(maxsplit=1)[1])
    result = subprocess.run(
        [*entry, *command, "--print-config"], cwd="/", env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "host: 0.0.0.0" in result.stdout
    (checkpoint,) = [line for line in result.stdout.splitlines() if line.startswith("checkpoint:")]
    assert checkpoint.split()[1].startswith(str(built / "opt"))
    assert (Path(checkpoint.split()[1]) / "model.safetensors").stat().st_size > 1e6
