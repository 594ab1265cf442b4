"""What a completion amounts to: right or wrong, boxed or not, in how many steps and with which exit."""

from collections.abc import Sequence
from dataclasses import dataclass

from reasoning import Trace, answers_equal, boxed_answer, count_steps, parse_trace
from reasoning.segmenter import DEFAULT_TAGS


@dataclass(frozen=True, slots=True)
class Grade:
    """``steps`` is the paper's count (1 + markers) over the thinking block, so it is at least 1."""

    correct: bool
    formatted: bool
    steps: int
    trace: Trace


def grade(
    text: str,
    answer: str,
    markers: Sequence[str],
    *,
    finish_reason: str = "stop",
    think: tuple[str, str] = DEFAULT_TAGS,
    inside: bool = False,
) -> Grade:
    """Grade one completion against the reference answer. Only a boxed answer after the thinking block counts.

    ``inside``: the prompt opened the thinking block.
    """
    trace = parse_trace(text, markers=markers, think=think, finish_reason=finish_reason, inside=inside)
    found = boxed_answer(trace.answer)
    return Grade(
        correct=found is not None and answers_equal(found, answer),
        formatted=found is not None,
        steps=count_steps(trace.reasoning, markers),
        trace=trace,
    )
