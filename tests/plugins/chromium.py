"""A headless Chromium in the session of the tests.

Playwright starts a browser in a session of its own. Linux shares the processor out by sessions, and an engine that
polls for its next step can keep a browser in another session waiting for many seconds.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from programs import program

# Pages that are left stay alive for the back button, as they do for users; Playwright's own start switches that off.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-renderer-backgrounding",
    "--disable-sync",
]
START_SECONDS = 120
STOP_SECONDS = 30


@contextlib.asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[str]:
    """Run the browser that ``CHROMIUM`` names, else the one on the path; yields the URL of its DevTools.

    Args:
        folder: empty; holds its profile and its log.
    """
    executable = os.environ.get("CHROMIUM") or program("chromium", "Debian's package chromium")
    options = [*FLAGS, f"--user-data-dir={folder / 'profile'}", "--remote-debugging-port=0"]
    with (folder / "chromium.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(executable, *options, stdout=log, stderr=log, process_group=0)
    try:
        yield f"http://127.0.0.1:{await _port(process, folder / 'profile' / 'DevToolsActivePort')}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _port(process: asyncio.subprocess.Process, file: Path) -> int:
    """The port that a browser writes into a file once it listens."""
    async with asyncio.timeout(START_SECONDS):
        while process.returncode is None:
            with contextlib.suppress(FileNotFoundError, IndexError):
                return int(file.read_text().splitlines()[0])  # noqa: ASYNC240 - nothing else runs yet
            await asyncio.sleep(0.1)
    raise RuntimeError(f"the browser ended at once; its log is in {file.parent.parent}")
