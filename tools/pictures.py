"""Make the docs' pictures of dashboards, web page and one answer, from the bundled checkpoints: ``make pictures``.

It starts a server of each, lets a real Prometheus watch the tuned one under load by locust, a fifth of it replayed on
the base, and draws what these say. Needs Prometheus and a Chromium (``.ci/programs`` installs both on Debian).
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import answer_picture
import dashboard_pictures
import page_pictures
from prometheus import PrometheusError, free_port, running
from stack import becomes_ready, serving

ROOT = Path(__file__).resolve().parent.parent
USERS = 12
SPEED = 5
"""A scrape every second, so that two minutes of load show what a longer time does in operation."""

WINDOW = "15s"


def main() -> int:
    """Draw all of them; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs", help="where they go; by default docs")
    parser.add_argument("--seconds", type=int, default=100, help="of load; by default 100")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stepgrpo-pictures-") as scratch:
        try:
            draw(options.folder, options.seconds, Path(scratch))
        except (PrometheusError, subprocess.CalledProcessError) as error:
            print(f"pictures: {error}", file=sys.stderr)
            return 1
    return 0


def draw(folder: Path, seconds: int, scratch: Path) -> None:
    """Put load on the tuned server for so many seconds, and draw the pictures.

    Raises:
        PrometheusError: Prometheus is missing or did not start.
        subprocess.CalledProcessError: a server or locust ended before its time.
    """
    port, base_port = free_port(), free_port()
    url, base_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{base_port}"
    base_options = ("--allowed-origins", f'["{url}"]')
    shadow = (f"--shadow-url={base_url}", "--shadow-share=0.2", "--shadow-per-minute=120", "--shadow-max-busy=16")
    with (
        running([f"127.0.0.1:{port}"], scratch, speed=SPEED) as prometheus,
        serving(str(ROOT / "checkpoints" / "base"), base_port, *base_options) as base,
        serving(str(ROOT / "checkpoints" / "step-grpo"), port, "--compare-url", base_url, *shadow) as tuned,
    ):
        _wait(base, base_url)
        _wait(tuned, url)
        _load(url, seconds)
        dashboard_pictures.main(prometheus.url, str(folder), str(seconds), WINDOW)
        answer_picture.main(url, str(folder / "answer.svg"))
        page_pictures.main(url, str(folder))


def _wait(server: "subprocess.Popen[bytes]", url: str) -> None:
    if not becomes_ready(server, url):
        raise subprocess.CalledProcessError(server.returncode, server.args)


def _load(url: str, seconds: int) -> None:
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--only-summary"]
    command += ["--host", url, "--scenario", "exit-control", "--users", str(USERS), "--run-time", f"{seconds}s"]
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main())
