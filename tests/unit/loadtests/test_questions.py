import json
from pathlib import Path

from training.problems import take

QUESTIONS = Path(__file__).resolve().parents[3] / "loadtests" / "questions.jsonl"


def test_the_bundled_questions_are_held_out_and_come_from_the_generator():
    asked = [json.loads(line) for line in QUESTIONS.read_text().splitlines()]
    problems = take("test", seed=0, count=400)
    assert asked == [{"question": problem.question, "answer": problem.answer} for problem in problems]
