"""Cut a completion into reasoning steps while it streams.

Rules, the same for every chunking of a text:

* The first opening tag opens the thinking block, the first closing tag after it closes it. Any other tag is plain text.
* A step begins at the start of the block or at a standalone marker inside it, and reaches to the next step. Blank space
  before a marker that opens the block belongs to that marker's step. So steps tile the block, and a block that does not
  open with a marker has ``count_steps(reasoning, markers)`` of them.
* A token belongs where its first character lies: both tags to the steps beside them, all else to the answer. A token
  without text of its own (a piece of a character, an end of sequence) lies where the next character will.

Token counts are exact when every token is fed by itself. A chunk of several tokens is taken as tokens of even length, so
that sums stay exact and steps are right to within the chunk.
"""

import re
from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from reasoning.markers import DEFAULT_MARKERS, checked_markers, marker_pattern
from reasoning.trace import Exit, ExitReason, Step, Trace

DEFAULT_TAGS: Final = ("<think>", "</think>")

_SOMETHING = re.compile(r"\S")


class _Phase(Enum):
    BEFORE = auto()
    INSIDE = auto()
    AFTER = auto()


class Segmenter:
    """Incremental parser of one completion: linear in its text, a few characters of look-ahead.

    Args:
        markers: what opens a step; belongs to the checkpoint.
        think: opening and closing tag of the thinking block.
        inside: the prompt has opened the block already, as some chat templates do.

    Raises:
        ValueError: a blank marker, an empty tag, or two equal tags.
    """

    __slots__ = (
        "_block_end",
        "_block_start",
        "_buffer",
        "_close",
        "_context",
        "_cuts",
        "_length",
        "_lookahead",
        "_open",
        "_pattern",
        "_phase",
        "_pieces",
        "_something",
        "_starts",
        "_suspect",
        "_tag_start",
        "_through",
        "_tokens",
    )

    def __init__(
        self, markers: Sequence[str] = DEFAULT_MARKERS, think: tuple[str, str] = DEFAULT_TAGS, inside: bool = False
    ) -> None:
        self._open, self._close = think
        if not self._open or not self._close or self._open == self._close:
            raise ValueError(f"think must be two different, non-empty tags, not {think!r}")
        longest_first = checked_markers(markers)
        pattern = marker_pattern(markers).pattern
        self._pattern = re.compile(f"({re.escape(self._close)})|(?:{pattern})")
        self._lookahead = max([len(marker) for marker in longest_first] + [len(self._close) - 1])
        initials = {self._close[0], *(marker[0] for marker in longest_first)}
        self._suspect = re.compile("[" + re.escape("".join(sorted(initials))) + "]").search

        self._phase = _Phase.BEFORE
        self._pieces: list[str] = []
        self._length = 0
        self._buffer = ""
        self._context = 0
        self._tag_start = self._block_start = self._block_end = 0
        self._something = False
        self._cuts: list[tuple[int, str | None, int]] = []
        self._starts: deque[int] = deque()
        self._tokens = self._through = 0
        if inside:
            self._enter(0, 0)

    @property
    def in_reasoning(self) -> bool:
        """Whether the thinking block is open."""
        return self._phase is _Phase.INSIDE

    @property
    def steps_so_far(self) -> int:
        """Steps that have begun; a marker counts once the text after it shows that it stands alone."""
        return len(self._cuts)

    def feed(self, text: str, tokens: int = 0) -> None:
        """Take in the next piece of the completion and the number of tokens that it came as."""
        start = self._length
        if tokens == 1:
            self._starts.append(start)
        elif tokens:
            self._starts.extend(start + i * len(text) // tokens for i in range(tokens))
        if not text:
            return
        self._pieces.append(text)
        self._length += len(text)
        if self._phase is not _Phase.AFTER:
            self._buffer += text
            self._scan(final=False)
        self._count_before(self._length - len(self._buffer) + self._context)

    def close(self, finish_reason: str, *, stopped: bool = False, forced: ExitReason | None = None) -> Trace:
        """End the completion and return what it was made of. The segmenter must not be fed afterwards.

        Args:
            finish_reason: the engine's: ``stop``, ``length``, or anything else for an abort.
            stopped: ``stop`` came from a stop string or token of the request, not from the end of the sequence.
            forced: why an exit policy closed the block, where one did.
        """
        if self._phase is not _Phase.AFTER:
            self._scan(final=True)
        text = "".join(self._pieces)
        opened = self._phase is not _Phase.BEFORE
        if self._phase is _Phase.INSIDE:
            self._block_end = self._length
            after_block = self._length
        else:
            after_block = self._block_end + len(self._close) if opened else 0
        before = self._cuts[0][2] if self._cuts else 0
        total = self._tokens + len(self._starts)
        through = self._through if self._phase is _Phase.AFTER else total
        steps = self._finished_steps(text, through) if opened and self._something else ()
        reasoning_tokens = through - before if steps else 0
        return Trace(
            text=text,
            preamble=text[: self._tag_start] if opened else "",
            reasoning=text[self._block_start : self._block_end] if opened else "",
            answer=text[after_block:],
            steps=steps,
            exit=Exit(forced or self._reason(finish_reason, stopped), len(steps), reasoning_tokens),
            completion_tokens=total,
            answer_tokens=total - reasoning_tokens,
        )

    def _reason(self, finish_reason: str, stopped: bool) -> ExitReason:
        if self._phase is _Phase.AFTER:
            return "model"
        if finish_reason not in ("stop", "length"):
            return "abort"
        if self._phase is _Phase.BEFORE:
            return "none"
        if finish_reason == "length":
            return "length"
        return "stop" if stopped else "eos"

    def _finished_steps(self, text: str, through: int) -> tuple[Step, ...]:
        """The steps between the cuts; ``through`` is the number of tokens up to the end of the block."""
        ends = [*self._cuts[1:], (self._block_end, None, through)]
        return tuple(
            Step(text[start:end], marker, start, end, tokens_after - tokens_before)
            for (start, marker, tokens_before), (end, _, tokens_after) in zip(self._cuts, ends, strict=True)
        )

    def _scan(self, final: bool) -> None:
        """Look for what the buffer decides. Its first ``_context`` characters are settled, kept for look-behind."""
        if self._phase is _Phase.BEFORE:
            found = self._buffer.find(self._open)
            if found < 0:
                self._keep(len(self._open) - 1)
                return
            tag = self._length - len(self._buffer) + found
            self._buffer = self._buffer[found + len(self._open) :]
            self._context = 0
            self._enter(tag, tag + len(self._open))
        while self._phase is _Phase.INSIDE:
            position = self._context
            found_at = self._suspect(self._buffer, position)
            match = self._pattern.search(self._buffer, position) if found_at else None
            if match is None:
                undecided = len(self._buffer) - found_at.start() if found_at else 0
                self._settle(len(self._buffer) - min(self._lookahead, undecided))
                return
            if match[1] is None and not final and len(self._buffer) - match.start() <= self._lookahead:
                self._settle(match.start())
                return
            self._note(position, match.start())
            at = self._length - len(self._buffer) + match.start()
            if match[1] is None:
                self._cut(at, match[0])
                self._something = True
                self._settle(match.end())
            else:
                self._block_end = at
                self._phase = _Phase.AFTER
                self._through = self._count_before(at + len(self._close))
                self._buffer, self._context = "", 0

    def _enter(self, tag_start: int, block_start: int) -> None:
        self._phase = _Phase.INSIDE
        self._tag_start, self._block_start = tag_start, block_start
        self._cuts.append((block_start, None, self._count_before(tag_start)))

    def _cut(self, at: int, marker: str) -> None:
        if self._something:
            self._cuts.append((at, marker, self._count_before(at)))
        else:
            start, _, tokens = self._cuts[0]
            self._cuts[0] = start, marker, tokens

    def _settle(self, end: int) -> None:
        """Everything in the buffer before ``end`` is decided; one character of it stays for look-behind."""
        self._note(self._context, end)
        keep_from = max(0, end - 1)
        self._buffer = self._buffer[keep_from:]
        self._context = end - keep_from

    def _note(self, start: int, end: int) -> None:
        if not self._something:
            self._something = _SOMETHING.search(self._buffer, start, end) is not None

    def _keep(self, count: int) -> None:
        self._buffer = self._buffer[max(0, len(self._buffer) - count) :]

    def _count_before(self, position: int) -> int:
        """Settle the tokens that begin before ``position`` and return how many tokens those are in all."""
        starts = self._starts
        while starts and starts[0] < position:
            starts.popleft()
            self._tokens += 1
        return self._tokens


def parse_trace(
    text: str,
    markers: Sequence[str] = DEFAULT_MARKERS,
    think: tuple[str, str] = DEFAULT_TAGS,
    *,
    inside: bool = False,
    finish_reason: str = "stop",
    tokens: int = 0,
) -> Trace:
    """Take a whole completion apart in one call; ``tokens`` is its number of tokens, if known."""
    segmenter = Segmenter(markers, think, inside)
    segmenter.feed(text, tokens)
    return segmenter.close(finish_reason)
