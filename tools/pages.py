"""The code blocks of README and docs: which there are, how one is run, and what it printed.

``python tools/pages.py URL`` runs those whose output stands on the page, against a server of the bundled checkpoint,
and writes the output down again.
"""

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
URL = "http://127.0.0.1:8000"
"""The server of the pages."""

RUN_SECONDS = 180
WIDTH = 120
_BLOCK = re.compile(
    r"(?:^<!-- not run here: (?P<reason>.+?) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
_PRINTED = re.compile(r"<!-- what that prints -->\n```text\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block of a page.

    Attributes:
        page: its path in the repository.
        line: where it begins.
        language: what stands behind the opening fence.
        code: what stands in it.
        reason: why it is not run, if it is not.
        printed: what the page says that it prints, if the page does.
    """

    page: str
    line: int
    language: str
    code: str
    reason: str | None
    printed: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """What follows each prompt, until the next one."""
        return [part.strip() for part in re.split(r"^\$ ", self.code, flags=re.MULTILINE) if part.strip()]


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page; output under ``<!-- what that prints -->`` belongs to the block before it."""
    text = page.read_text()
    found = list(_BLOCK.finditer(text))
    for number, match in enumerate(found):
        line = text.count("\n", 0, match.start()) + 1
        until = found[number + 1].end() if number + 1 < len(found) else len(text)
        printed = _PRINTED.search(text, match.end(), until)
        name = str(page.relative_to(ROOT))
        yield Block(name, line, match["language"], match["code"], match["reason"], printed and printed["text"])


def inline_commands(program: str) -> list[str]:
    """What the sentences of all pages say to run with a program, each once."""
    found = re.compile(rf"`((?:\w+=\S+ )*(?:\.venv/bin/)?{program} [^`]+)`")
    texts = (_BLOCK.sub("", page.read_text()) for page in PAGES)
    return list(dict.fromkeys(command for text in texts for command in found.findall(text)))


def run(
    language: str, code: str, folder: Path, addresses: Mapping[str, str], programs: Path
) -> "subprocess.CompletedProcess[str]":
    """Run code as a reader would in a clone.

    Args:
        language: ``python``; else a shell's.
        code: a Python program, or commands without their prompts.
        folder: the clone, or what looks like one.
        addresses: what to put in the place of the addresses that the pages name.
        programs: the folder to use as ``.venv/bin``.
    """
    for named, real in addresses.items():
        code = code.replace(named, real)
    code = code.replace(".venv/bin/", f"{programs}/")
    command = [sys.executable, "-c"] if language == "python" else ["bash", "-euo", "pipefail", "-c"]
    variables = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "STEPGRPO_URL": addresses[URL],
        "COLUMNS": str(WIDTH),
    }
    return subprocess.run(
        [*command, code],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


def main(url: str) -> None:
    """Run every block whose output is on its page, and write the output down."""
    for page in PAGES:
        text = page.read_text()
        for block in blocks(page):
            if block.printed is None:
                continue
            code = block.code if block.language == "python" else "\n".join(block.commands)
            result = run(block.language, code, ROOT, {URL: url}, Path(sys.executable).parent)
            if result.returncode:
                sys.exit(f"{block}: {result.stderr.strip()}")
            if result.stdout.split() != block.printed.split():
                text = text.replace(f"```text\n{block.printed}```", f"```text\n{_tidy(result.stdout)}```")
                print(f"{block}: written down again")
        page.write_text(text)


def _tidy(output: str) -> str:
    """Output as a page shows it: no two blank lines in a row, and none too long."""
    lines = re.sub(r"\n\s*\n+", "\n\n", output.rstrip()).lstrip("\n").split("\n")
    return "".join(
        f"{textwrap.fill(line, 100, subsequent_indent=' ', replace_whitespace=False) if len(line) > 100 else line}\n"
        for line in lines
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
