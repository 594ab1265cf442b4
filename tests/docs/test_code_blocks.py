"""Every code block of README and docs is run against the real server, or says why it is not.

A block under a comment ``<!-- not run here: REASON -->`` is left out; so are the commands of ``ELSEWHERE``, which other
tests run or which need what a test has not. Blocks of data must be well-formed; plain text and diagrams are not run.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from programs import program
from real_server import Server, start_server, stop_server

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- not run here: (?P<reason>.+?) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
NOT_CODE = {"", "text", "mermaid", "promql", "diff"}

PROGRAMS = {"curl": "curl", "node": "nodejs", "npm": "npm"}
"""What commands need beside Python, and what brings it."""

ELSEWHERE = {
    r"make (serve|setup|test|test-fast|stack)\b.*": "tests/unit/tools/test_makefile.py",
    r"\S*stepgrpo serve .*": "tests/integration/test_server_start.py",
    r"\S*stepgrpo (train|eval) .*": "tests/integration/test_training.py",
    r"\S*accelerate launch .*": "tests/integration/test_training_setups.py",
    r"(\w+=\S+ )?docker .*": "tests/integration/test_stack.py",
    r"kubectl .*": "tests/unit/deploy/test_kubernetes.py",
    r"ray start .*": "tests/integration/test_ray.py",
    r"(\w+=\S+ )?serve deploy .*": "tests/integration/test_ray.py",
    r"\S*python tools/dashboard_pictures.py .*": "needs the Prometheus of `make stack`",
}
"""Commands that are not run here, by patterns: the test that runs their like, or what they need."""


@dataclass(frozen=True)
class Block:
    """One block of a page."""

    page: str
    line: int
    language: str
    code: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def run_here(self) -> list[str]:
        """The commands, each of what follows a prompt until the next one, without those of ``ELSEWHERE``."""
        commands = [part.strip() for part in re.split(r"^\$ ", self.code, flags=re.MULTILINE) if part.strip()]
        return [each for each in commands if not any(re.fullmatch(rule, each, re.DOTALL) for rule in ELSEWHERE)]


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(str(page.relative_to(ROOT)), line, found["language"], found["code"], found["reason"])


BLOCKS = [block for page in PAGES for block in blocks(page) if block.reason is None]


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


@pytest.fixture(scope="module")
def base_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The base model, for blocks that compare with it."""
    server = start_server(ROOT / "checkpoints" / "base", tmp_path_factory.mktemp("base") / "log")
    yield server
    stop_server(server)


@pytest.fixture
def here(server: Server, request: pytest.FixtureRequest, tmp_path: Path):
    """Runs code as a reader would in a clone, against the tests' servers; what it makes goes into its own folder."""
    for path in ROOT.iterdir():
        if not path.name.startswith(".") and path.name != "runs":
            (tmp_path / path.name).symlink_to(path)
    programs = Path(sys.executable).parent

    def run(command: list[str], code: str) -> None:
        code = code.replace("http://127.0.0.1:8000", server.url).replace(".venv/bin/", f"{programs}/")
        if "127.0.0.1:8001" in code:
            code = code.replace("http://127.0.0.1:8001", request.getfixturevalue("base_server").url)
        if server.model != "step-grpo":
            pytest.skip("the pages are about the bundled checkpoint")
        variables = {"PATH": f"{programs}:{os.environ['PATH']}", "STEPGRPO_URL": server.url, "COLUMNS": "120"}
        variables["PYTHONPATH"] = str(ROOT)
        result = subprocess.run(
            [*command, code],
            cwd=tmp_path,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert result.returncode == 0, f"{code}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"

    return run


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_python(block, here):
    here([sys.executable, "-c"], block.code)


@pytest.mark.parametrize("block", [block for block in of("console", "bash", "sh") if block.run_here], ids=str)
def test_commands(block, here):
    for name, package in PROGRAMS.items():
        if any(re.match(rf"{name}\b", command) for command in block.run_here):
            program(name, package)
    here(["bash", "-euo", "pipefail", "-c"], "\n".join(block.run_here))


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


def test_every_command_begins_with_a_prompt():
    assert [str(block) for block in of("console") if not block.code.startswith("$ ")] == []
