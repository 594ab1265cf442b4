"""The commands of the Dockerfile, run outside Docker: they make the images' programs, user and server."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dockerfile import ROOT, STAGES, runs
from prometheus import free_port

pytestmark = pytest.mark.integration
OUTSIDE = next(path for path in sys.path if path.endswith("site-packages"))
START_SECONDS = 300

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make the image's user")
with_mounts = pytest.mark.skipif(
    subprocess.run("unshare --mount true", shell=True, capture_output=True, check=False).returncode != 0,
    reason="needs root that may mount, to make the disk read-only",
)

CONTAINER = """
set -e
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/stepgrpo /mnt/libraries /mnt/python /mnt/home
chown {user} /mnt/home
mount --bind "$1" /mnt/stepgrpo
mount --bind "$2" /mnt/libraries
mount --bind "$3" /mnt/python
mount -t tmpfs -o mode=755 tmpfs /root
mkdir -p "$3"
mount --bind /mnt/python "$3"
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -o remount,bind,ro /
shift 3
cd /mnt/home
exec setpriv --reuid {uid} --regid {gid} --clear-groups --bounding-set=-all --no-new-privs "$@"
"""
"""As compose.yaml runs the image: a read-only disk, a home and a folder for scratch, no capabilities, no root.

Its arguments are the folders of the environment, of the libraries and of Python, which may be root's alone; then the
command.
"""


def instruction(stage, name):
    """What an instruction of a stage says."""
    (line,) = [line for line in STAGES[stage] if line.startswith(f"{name} ")]
    return line.partition(" ")[2]


def built(stages, folder):
    """A folder with the virtual environment that the commands of build stages make.

    The libraries of this environment are visible in it, so that pip finds the heavy ones and installs the project.
    """
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder)} | {
        name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP", "http"))
    }

    def run(command):
        command = command.replace("/opt/stepgrpo", str(folder / "opt"))
        result = subprocess.run(
            ["/bin/bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr

    for line in [line for stage in stages for line in STAGES[stage]]:
        kind, _, rest = line.partition(" ")
        if kind == "RUN":
            run(rest)
            (site,) = folder.glob("opt/lib/python3.*/site-packages")
            (site / "outside.pth").write_text(f"{OUTSIDE}\n")
        elif kind == "COPY":
            for name in rest.split()[:-1]:
                run(f"cp -r {ROOT / name} {folder}/")
    return folder


@pytest.fixture(scope="module")
def cpu(tmp_path_factory):
    """What the build stages of the target ``cpu`` make."""
    return built(["build", "build-cpu"], tmp_path_factory.mktemp("cpu"))


def test_the_build_installs_the_command_and_the_bundled_checkpoint(cpu):
    environment = {"PATH": f"{cpu / 'opt' / 'bin'}:/usr/bin:/bin", "HOME": str(cpu), "STEPGRPO_HOST": "0.0.0.0"}
    command = [*json.loads(instruction("cpu", "ENTRYPOINT")), *json.loads(instruction("cpu", "CMD")), "--print-config"]
    result = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "host: 0.0.0.0" in result.stdout
    (checkpoint,) = [line for line in result.stdout.splitlines() if line.startswith("checkpoint:")]
    assert checkpoint.split()[1].startswith(str(cpu / "opt"))
    assert (Path(checkpoint.split()[1]) / "model.safetensors").stat().st_size > 1e6


def test_the_load_image_has_locust_with_the_scenarios(tmp_path):
    (folder := tmp_path / "build").mkdir()
    built(["build", "build-load"], folder)
    (final := tmp_path / "final").mkdir()
    for line in STAGES["load"]:
        if line.startswith("COPY ") and "--from" not in line:
            source, target = line.split()[1:]
            subprocess.run(["cp", "-r", ROOT / source, final / Path(target).name], check=True)
    environment = {"PATH": f"{folder / 'opt' / 'bin'}:/usr/bin:/bin", "HOME": str(folder)}
    program, *arguments = json.loads(instruction("load", "ENTRYPOINT"))  # its script lies with the libraries outside
    command = [str(folder / "opt" / "bin" / "python"), "-m", program, *arguments, "--list"]
    result = subprocess.run(command, cwd=final, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Asker" in result.stdout


@as_root
@pytest.mark.parametrize("stage", ["runtime", "gpu"])
def test_the_user_is_made_with_the_number_and_the_home_that_the_image_says(stage, tmp_path):
    (tmp_path / "etc").mkdir()
    for name in ("passwd", "group", "shadow", "gshadow", "login.defs"):
        (tmp_path / "etc" / name).write_text("USERGROUPS_ENAB yes\n" if name == "login.defs" else "")
    (made,) = re.findall(r"useradd [^&]+", " ".join(runs(stage)))
    subprocess.run(["/bin/sh", "-c", made.replace("useradd", f"useradd --prefix {tmp_path}")], check=True)
    name, _, uid, gid, _, home, _ = (tmp_path / "etc" / "passwd").read_text().split(":")
    assert (name, f"{uid}:{gid}") == ("stepgrpo", instruction("cpu", "USER"))
    assert f"HOME={home}" in " ".join(STAGES[stage])
    owned = (tmp_path / home[1:]).stat()
    assert f"{owned.st_uid}:{owned.st_gid}" == instruction("cpu", "USER")


@with_mounts
def test_the_server_of_the_image_runs_as_its_user_on_a_read_only_disk(cpu, tmp_path):
    uid, gid = instruction("cpu", "USER").split(":")
    script = CONTAINER.format(user=instruction("cpu", "USER"), uid=uid, gid=gid)
    contained = ["unshare", "--mount", "--propagation", "private", "/bin/bash", "-c", script, "-"]
    contained += [str(cpu / "opt"), OUTSIDE, sys.base_prefix]
    python, port = "/mnt/stepgrpo/bin/python", str(free_port())
    (entry,) = json.loads(instruction("cpu", "ENTRYPOINT"))
    environment = dict(re.findall(r"(\w+)=(\S+)", instruction("runtime", "ENV") + " " + instruction("cpu", "ENV")))
    environment |= {"PATH": "/mnt/stepgrpo/bin:/usr/bin:/bin", "HOME": "/mnt/home", "PYTHONPATH": "/mnt/libraries"}
    command = [python, f"/mnt/stepgrpo/bin/{entry}", *json.loads(instruction("cpu", "CMD")), "--port", port]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*contained, *command],
            env=environment | {"STEPGRPO_HOST": "127.0.0.1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    check = json.loads(instruction("cpu", "HEALTHCHECK").partition("CMD ")[2])[2].replace(":8000/", f":{port}/")
    try:
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run([sys.executable, "-c", check], stderr=subprocess.DEVNULL, check=False).returncode:
            assert server.poll() is None, (tmp_path / "log").read_text()[-4000:]
            assert time.monotonic() < deadline
            time.sleep(1)
        server.send_signal(signal.SIGTERM)
        assert server.wait(45) == 0
    finally:
        server.kill()
        server.wait()
