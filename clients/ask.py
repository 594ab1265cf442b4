"""``stepgrpo ask``: one answer on the terminal, its thinking step by step, then its exit and savings."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from clients.answer import Answer, AnswerText, Event, ThinkingText
from clients.steps import StepSplitter, StepText

STEP_STYLES = ("cyan", "green", "blue")
MARKER_STYLE = "bold magenta"
ANSWER_STYLE = "bold"
REASONS = {
    "model": "the model itself",
    "confidence": "the confidence policy",
    "step_budget": "the step budget",
    "token_budget": "the token budget",
    "repetition": "its repeating itself",
    "length": "max_tokens or the context",
    "eos": "the end of the sequence",
    "stop": "a stop string",
    "abort": "an abort",
}
"""What ended the thinking, by the exit's reason."""


def show(events: Iterable[Event], console: Console, markers: Sequence[str]) -> Answer:
    """Print a stream as it comes; returns its answer.

    Args:
        events: of a client's ``stream``.
        console: where to; it decides about colours.
        markers: what opens a step.
    """
    page = _Page(console, markers)
    answer = None
    try:
        for event in events:
            if isinstance(event, ThinkingText):
                page.thinking(event.text)
            elif isinstance(event, AnswerText):
                page.answer(event.text)
            else:
                answer = event
    finally:
        page.close()
    if answer is None:
        raise ValueError("the stream has no answer at its end")
    console.print()
    console.print(summary(answer))
    return answer


class _Page:
    """Prints the pieces one after the other; blank text at the ends of thinking and answer is left out."""

    def __init__(self, console: Console, markers: Sequence[str]) -> None:
        self._console = console
        self._splitter = StepSplitter(markers)
        self._step = 0
        self._blank = ""
        self._answering = False

    def thinking(self, text: str) -> None:
        for piece in self._splitter.feed(text):
            self._print_step(piece)

    def answer(self, text: str) -> None:
        if not self._answering:
            text = text.lstrip()
            if not text:
                return
            self.close()
            self._answering = True
            if self._step:
                self._console.print()
        self._write(text, ANSWER_STYLE)

    def close(self) -> None:
        """The thinking, or the answer, has ended."""
        for piece in self._splitter.close():
            self._print_step(piece)
        if self._step or self._answering:
            self._console.print()
        self._blank = ""

    def _print_step(self, piece: StepText) -> None:
        text = piece.text
        if piece.step != self._step:
            if self._step:
                self._console.print()
            self._step, self._blank = piece.step, ""
            self._console.print(Text(f"{piece.step:>3}  ", style="dim"), end="")
            text = text.lstrip()
        style = STEP_STYLES[piece.step % len(STEP_STYLES)]
        if piece.marker:
            self._write(piece.marker, MARKER_STYLE)
            text = text.removeprefix(piece.marker)
        self._write(text, style)

    def _write(self, text: str, style: str) -> None:
        body = text.rstrip()
        if body:
            self._console.print(Text(self._blank + body, style=style), end="", soft_wrap=True)
            self._blank = ""
        self._blank += text[len(body) :]


def summary(answer: Answer) -> str:
    """Exit, tokens and savings of an answer, in a few lines."""
    report = answer.report
    if report is None:
        return (
            f"{answer.completion_tokens} tokens; this server reports no steps, exit and savings (stepgrpo serve does)"
        )
    exit_, tokens, baseline = report.exit, report.tokens, report.baseline
    if exit_.reason == "none":
        ended = "exit     no thinking"
    else:
        steps = f"step {exit_.step} of thinking" if exit_.step else "no step of thinking"
        ended = f"exit     after {steps}, by {REASONS[exit_.reason]} ({exit_.reason})"
    used = f"tokens   {tokens.completion} = {tokens.reasoning} thinking + {tokens.answer} answer"
    if answer.finish_reason == "length":
        used += ", cut off there (max_tokens or the context)"
    if report.savings_ratio is None or baseline.completion_tokens is None:
        saved = "savings  unknown: the checkpoint has no calibration (stepgrpo eval makes one)"
    else:
        saved = (
            f"savings  {report.savings_ratio:.1%} of the base model's {baseline.completion_tokens:g} tokens"
            f" ({baseline.source})"
        )
    return "\n".join((ended, used, saved))
