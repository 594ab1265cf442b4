"""Cut a completion into reasoning steps while it streams.

Rules, the same for every chunking of a text:

* The first opening tag opens the thinking block, the first closing tag after it closes it. Any other tag is plain text.
  A closing tag that comes first closes a block that began with the completion: where the prompt shows the model how to
  think, it may leave the opening tag out, and reasoning parsers read it so.
* A step begins at the start of the block or at a standalone marker inside it, and reaches to the next step. Blank space
  before a marker that opens the block belongs to that marker's step. So steps tile the block, and a block that does not
  open with a marker has ``count_steps(reasoning, markers)`` of them.
* A token belongs where its first character lies: both tags to the steps beside them, all else to the answer. A token
  without text of its own (a piece of a character, an end of sequence) lies where the next character will.

Token counts are exact when every token is fed by itself. A chunk of several tokens is taken as tokens of even length:
sums stay exact, and steps are right to within the chunk.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple

from reasoning.markers import DEFAULT_MARKERS, checked_markers, marker_pattern
from reasoning.trace import Exit, ExitReason, Step, Trace

DEFAULT_TAGS: Final = ("<think>", "</think>")

_SOMETHING = re.compile(r"\S")
_NOTHING = re.compile(r"(?!)")


class _Phase(Enum):
    BEFORE = auto()
    INSIDE = auto()
    AFTER = auto()


class _Signs(NamedTuple):
    """What may happen in a text.

    Attributes:
        markers: checked, the longest first.
        standalone: matches a standalone marker.
        initials: matches the first characters of markers.
        opening: of the opening tag.
        inside: of the closing tag and markers.
        before: of both tags and markers.
    """

    markers: tuple[str, ...]
    standalone: re.Pattern[str]
    initials: re.Pattern[str]
    opening: re.Pattern[str]
    inside: re.Pattern[str]
    before: re.Pattern[str]


class Segmenter:
    """Incremental parser of one completion: linear in its text, a few characters of look-ahead.

    Args:
        markers: what opens a step; belongs to the checkpoint.
        think: opening and closing tag of the thinking block.
        inside: the prompt has opened the block already, as some chat templates do.
        implied: a closing tag that comes first closes a block; false where the prompt has closed it before.

    Raises:
        ValueError: a blank marker, an empty tag, or two equal tags.
    """

    __slots__ = (
        "_block_end",
        "_block_start",
        "_close",
        "_cuts",
        "_fresh",
        "_held",
        "_implied",
        "_length",
        "_open",
        "_phase",
        "_pieces",
        "_signs",
        "_starts",
        "_suspect",
        "_tag_start",
        "_tokens",
    )

    def __init__(
        self,
        markers: Sequence[str] = DEFAULT_MARKERS,
        think: tuple[str, str] = DEFAULT_TAGS,
        inside: bool = False,
        *,
        implied: bool = True,
    ) -> None:
        self._open, self._close = think
        self._signs = _signs_of(markers if isinstance(markers, str) else tuple(markers), (self._open, self._close))
        self._suspect = _SOMETHING.search if implied else self._signs.opening.search

        self._phase = _Phase.BEFORE
        self._implied = implied
        self._pieces: list[str] = []
        self._length = 0
        self._held = ""
        self._fresh = 0
        self._tag_start = self._block_start = self._block_end = 0
        self._cuts: list[tuple[int, str | None]] = []
        self._tokens = [0, 0] if implied else [0]
        self._starts: list[int] = []
        if inside:
            self._enter(0, 0)

    def feed(self, text: str, tokens: int = 0) -> None:
        """Take in the next piece of the completion and the number of tokens it was decoded from."""
        if self._held or self._starts or not text or self._suspect(text):
            self._examine(text, [self._length + index * len(text) // tokens for index in range(tokens)])
        else:
            self._append(text, tokens)

    def feed_tokens(self, texts: Sequence[str]) -> None:
        """Take in the texts of some tokens: what feeding each by itself does, in a fraction of the time."""
        text = "".join(texts)
        if self._held or self._starts or not text or self._suspect(text):
            self._examine(text, accumulate(map(len, texts[:-1]), initial=self._length) if texts else ())
        else:
            self._append(text, len(texts))

    def close(self, finish_reason: str | None, *, stopped: bool = False, forced: ExitReason | None = None) -> Trace:
        """End the completion and return what it was made of. The segmenter must not be fed afterwards.

        Args:
            finish_reason: the engine's: ``stop``, ``length``, or anything else for an abort.
            stopped: ``stop`` came from a stop string or token of the request, not from the end of the sequence.
            forced: why an exit policy closed the block, where one did.
        """
        self._examine("", (), final=True)
        self._settle(self._length + 1)
        if self._phase is _Phase.BEFORE:
            self._forget()
        text = "".join(self._pieces)
        opened, closed = self._phase is not _Phase.BEFORE, self._phase is _Phase.AFTER
        block_end = self._block_end if closed else self._length if opened else 0
        steps = self._steps(text, block_end)
        completion_tokens = sum(self._tokens)
        reasoning_tokens = sum(step.tokens for step in steps)
        return Trace(
            text=text,
            preamble=text[: self._tag_start],
            reasoning=text[self._block_start : block_end],
            answer=text[block_end + len(self._close) if closed else block_end :],
            steps=steps,
            exit=Exit(forced or self._reason(finish_reason, stopped), len(steps), reasoning_tokens),
            completion_tokens=completion_tokens,
            answer_tokens=completion_tokens - reasoning_tokens,
        )

    def _steps(self, text: str, block_end: int) -> tuple[Step, ...]:
        ends = [*(start for start, _ in self._cuts[1:]), block_end]
        return tuple(
            Step(text[start:end], marker, start, end, tokens)
            for (start, marker), end, tokens in zip(self._cuts, ends, self._tokens[1:], strict=False)
        )

    def _reason(self, finish_reason: str | None, stopped: bool) -> ExitReason:
        if self._phase is _Phase.AFTER:
            return "model"
        if finish_reason not in ("stop", "length"):
            return "abort"
        if self._phase is _Phase.BEFORE:
            return "none"
        if finish_reason == "length":
            return "length"
        return "stop" if stopped else "eos"

    def _append(self, text: str, tokens: int) -> None:
        self._pieces.append(text)
        self._length += len(text)
        self._tokens[-1] += tokens

    def _examine(self, text: str, starts: Iterable[int], final: bool = False) -> None:
        """Decide what can be decided of the held-back text and the new one; ``final``: nothing follows.

        ``starts`` are the positions at which the new text's tokens begin. The window is the undecided text, led by the
        character before it, which a marker's left edge has to see.
        """
        self._starts += starts
        if not text and not final:
            return
        window, cursor = self._held, self._fresh
        if not window and self._length > self._block_start:
            window, cursor = self._pieces[-1][-1], 1
        base = self._length - len(window)
        window += text
        if text:
            self._append(text, 0)

        if self._phase is _Phase.BEFORE:
            at = self._opening(window, cursor)
            if at >= 0:
                after = at + len(self._open)
                self._enter(base + at, base + after)
                window, base, cursor = window[after:], base + after, 0
            elif not self._implied:
                self._hold(window, base, len(window) if final else _partial(window, self._open, cursor))
                return
        if self._phase is not _Phase.AFTER:
            at = window.find(self._close, cursor)
            if at < 0:
                limit = len(window) if final else _partial(window, self._close, cursor)
                if self._phase is _Phase.BEFORE and not final:
                    limit = min(limit, _partial(window, self._open, cursor))
                self._hold(window, base, self._mark(window, base, cursor, limit, final))
                return
            self._mark(window, base, cursor, at, final=True)
            self._leave(base + at)
        self._hold(window, base, len(window))

    def _opening(self, window: str, cursor: int) -> int:
        """Where the opening tag stands; -1 if it does not, or a closing tag is complete before it is."""
        opened = window.find(self._open, cursor)
        closed = window.find(self._close, cursor) if self._implied else -1
        if closed >= 0 and (closed + len(self._close), closed) < (opened + len(self._open), opened):
            return -1
        return opened

    def _forget(self) -> None:
        """Take back the steps that were marked in case a closing tag comes first."""
        self._cuts.clear()
        self._tokens = [sum(self._tokens)]

    def _enter(self, tag: int, start: int) -> None:
        """Open the block: its tag stands at ``tag``, its text begins at ``start``."""
        self._settle(tag)
        self._forget()
        self._tokens.append(0)
        self._tag_start, self._block_start = tag, start
        self._phase = _Phase.INSIDE
        self._suspect = _SOMETHING.search

    def _leave(self, tag: int) -> None:
        """Close the block: its closing tag stands at ``tag``."""
        self._settle(tag + len(self._close))
        self._tokens.append(0)
        self._block_end = tag
        self._phase = _Phase.AFTER
        self._suspect = _NOTHING.search

    def _mark(self, window: str, base: int, cursor: int, limit: int, final: bool) -> int:
        """Begin the steps that certainly begin in ``window[cursor:limit]``; return where the undecided text begins."""
        hold = limit if final else self._undecided(window, cursor, limit)
        for match in self._signs.standalone.finditer(window, cursor, limit):
            at = match.start()
            if at >= hold:
                break
            if not self._cuts and not _SOMETHING.search(window, 0, at):
                self._begin_first(match.group())
            else:
                if not self._cuts:
                    self._begin_first(None)
                self._settle(base + at)
                self._tokens.append(0)
                self._cuts.append((base + at, match.group()))
            if match.end() > hold:
                hold = self._undecided(window, match.end(), limit)
        if not self._cuts and _SOMETHING.search(window, 0, hold):
            self._begin_first(None)
        return hold

    def _begin_first(self, marker: str | None) -> None:
        self._cuts.append((self._block_start, marker))
        inside = self._phase is _Phase.INSIDE
        self._suspect = (self._signs.inside if inside else self._signs.before).search

    def _undecided(self, window: str, cursor: int, limit: int) -> int:
        """Where the first marker may stand that what follows ``limit`` could complete, prolong or spoil."""
        markers = self._signs.markers
        longest = len(markers[0]) if markers else 0
        for match in self._signs.initials.finditer(window, max(cursor, limit - longest), limit):
            tail = window[match.start() : limit]
            if any(marker.startswith(tail) for marker in markers):
                return match.start()
        return limit

    def _hold(self, window: str, base: int, at: int) -> None:
        """Keep ``window[at:]`` undecided and count the tokens before it."""
        self._settle(base + at)
        self._fresh = min(at, 1) if at < len(window) else 0
        self._held = window[at - self._fresh :]

    def _settle(self, end: int) -> None:
        """Count the waiting tokens that start before ``end`` to the current span."""
        count = bisect_left(self._starts, end)
        self._tokens[-1] += count
        del self._starts[:count]


def parse_trace(
    text: str,
    markers: Sequence[str] = DEFAULT_MARKERS,
    think: tuple[str, str] = DEFAULT_TAGS,
    *,
    inside: bool = False,
    implied: bool = True,
    finish_reason: str | None = "stop",
    tokens: int = 0,
) -> Trace:
    """Take a whole completion apart in one call; ``tokens`` is its number of tokens, if known."""
    segmenter = Segmenter(markers, think, inside, implied=implied)
    segmenter.feed(text, tokens)
    return segmenter.close(finish_reason)


@lru_cache(maxsize=64)
def _signs_of(markers: str | tuple[str, ...], think: tuple[str, str]) -> _Signs:
    if not all(think) or think[0] == think[1]:
        raise ValueError(f"think must be two different, non-empty tags, not {think!r}")
    checked = checked_markers(markers)
    initials, (opening, closing) = [marker[0] for marker in checked], (tag[0] for tag in think)
    return _Signs(
        markers=checked,
        standalone=marker_pattern(checked),
        initials=_any_of(initials),
        opening=_any_of([opening]),
        inside=_any_of([closing, *initials]),
        before=_any_of([opening, closing, *initials]),
    )


def _any_of(characters: Iterable[str]) -> re.Pattern[str]:
    joined = "".join(map(re.escape, characters))
    return re.compile(f"[{joined}]") if joined else _NOTHING


def _partial(window: str, tag: str, cursor: int) -> int:
    """Where an unfinished ``tag`` begins at the end of ``window``; its length when there is none."""
    at = window.find(tag[0], max(cursor, len(window) - len(tag) + 1))
    while at >= 0 and not tag.startswith(window[at:]):
        at = window.find(tag[0], at + 1)
    return at if at >= 0 else len(window)
