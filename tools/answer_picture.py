"""Draw one real answer of a running server: ``python tools/answer_picture.py URL docs/answer.svg``."""

import io
import sys
from pathlib import Path

from openai import OpenAI
from rich.console import Console
from rich.text import Text

from reasoning import DEFAULT_MARKERS, load_card, parse_trace

QUESTION = (
    "Sam starts with 33 coins and gets 4 more each day. How many coins does Sam have"
    " the first time that 7 friends can share them equally?"
)
CARD = Path(__file__).resolve().parent.parent / "checkpoints" / "step-grpo"


def main(url: str, picture: str) -> None:
    """Ask, cut the thinking into its steps, and save the picture."""
    client = OpenAI(base_url=f"{url}/v1", api_key="none")
    model = client.models.list().data[0].id
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": QUESTION}], temperature=0
    ).model_dump()
    choice = answer["choices"][0]
    message, report = choice["message"], choice["reasoning_efficiency"]
    card = load_card(CARD)
    markers = card.markers if card else DEFAULT_MARKERS
    trace = parse_trace(f"<think>{message['reasoning']}</think>", markers=markers)

    console = Console(record=True, width=88, file=io.StringIO())
    console.print(Text(QUESTION, style="bold"), "")
    for number, step in enumerate(trace.steps, start=1):
        marker, text = step.marker or "", step.text.strip()
        console.print(Text.assemble((f" step {number}  ", "dim"), (marker, "bold #d7a6e0"), text.removeprefix(marker)))
    exit_, tokens = report["exit"], report["tokens"]
    console.print(Text(f"   exit  {exit_['reason']}, after step {exit_['step']}", style="bold cyan"))
    console.print("", Text(message["content"].strip(), style="bold"), "")
    console.print(
        f"{tokens['reasoning']} thinking + {tokens['answer']} answer = {tokens['completion']} tokens;"
        f" base model {report['baseline']['completion_tokens']} ({report['baseline']['source']}):"
        f" {report['savings_ratio']:.1%} saved"
    )
    console.save_svg(picture, title=f"{model}: one answer")


if __name__ == "__main__":
    main(*sys.argv[1:])
