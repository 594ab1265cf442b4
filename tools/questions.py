"""Write the load tests' questions, held-out ones of the quickstart task: ``python tools/questions.py``."""

import json
from pathlib import Path

from training.problems import take

FILE = Path(__file__).resolve().parent.parent / "loadtests" / "questions.jsonl"
COUNT = 400


def lines() -> list[str]:
    """One JSON object a line, with ``question`` and ``answer``."""
    problems = take("test", seed=0, count=COUNT)
    return [json.dumps({"question": problem.question, "answer": problem.answer}) + "\n" for problem in problems]


if __name__ == "__main__":
    FILE.write_text("".join(lines()))
