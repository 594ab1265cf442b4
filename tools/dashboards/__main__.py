"""Write the dashboards: ``make dashboards``."""

import json
from collections.abc import Iterator
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.savings import savings
from dashboards.service import service
from dashboards.steps import steps
from dashboards.tokens import tokens

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "dashboards"


def documents() -> Iterator[tuple[str, str]]:
    """File name and JSON text of every dashboard."""
    for build in (tokens, steps, savings, service):
        yield f"{build.__name__}.json", json.dumps(build().build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def main() -> None:
    """Replace the committed files."""
    for name, text in documents():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
