"""Cut thinking into its steps while it streams, for display, by the server's own rule.

A step begins at the start of the thinking and at every marker that stands alone as a word; matching is case-sensitive,
longest first.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import httpx
from pydantic import BaseModel, ValidationError

DEFAULT_MARKERS: Final = ("Wait", "Alternatively", "Hmm")
"""What opens a step in a checkpoint that does not say."""

_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
)
_LETTER: Final = re.compile(rf"[^\W\d_{_UNSPACED}]")
"""A letter of a script that writes its words apart; only such letters guard a marker."""


@dataclass(frozen=True, slots=True)
class StepText:
    """The next piece of a step's text.

    Attributes:
        step: 1-based number of the step.
        text: its next piece.
        marker: the marker that the piece begins with, where it opens a step by one.
    """

    step: int
    text: str
    marker: str | None = None


class _Page(BaseModel):
    markers: list[str]


def markers_of(url: str) -> Sequence[str]:
    """What opens a step at a server, as its web page is told; the default markers for a server without one."""
    try:
        page = httpx.get(f"{url.rstrip('/').removesuffix('/v1')}/web/page.json", timeout=5)
        return _Page.model_validate_json(page.content).markers
    except (httpx.HTTPError, httpx.InvalidURL, ValidationError):
        return DEFAULT_MARKERS


class StepSplitter:
    """Splits thinking while it streams; holds back what may still become a marker."""

    def __init__(self, markers: Sequence[str] = DEFAULT_MARKERS) -> None:
        self._markers = sorted(set(markers), key=len, reverse=True)
        self._longest = len(self._markers[0]) if self._markers else 0
        self._pattern = re.compile("|".join(map(_guarded, self._markers)) or "(?!)")
        self._before = ""  # the last decided character, which a marker's left edge has to see
        self._held = ""
        self._step = 0
        self._leading = ""  # blank text before the first step

    def feed(self, text: str) -> list[StepText]:
        """Take in the next text of the thinking; returns what is decided by it."""
        self._held += text
        return list(self._decided(final=False))

    def close(self) -> list[StepText]:
        """The thinking has ended; returns what was held back."""
        return list(self._decided(final=True))

    def _decided(self, final: bool) -> Iterator[StepText]:
        window, done = self._before + self._held, len(self._before)
        until = len(window) if final else self._undecided(window, done)
        for match in self._pattern.finditer(window, done):
            if match.start() >= until:
                break
            yield from self._append(window[done : match.start()])
            self._step += 1
            yield StepText(self._step, self._leading + match.group(), match.group())
            self._leading = ""
            done = match.end()
            until = len(window) if final else max(done, self._undecided(window, done))
        yield from self._append(window[done:until])
        done = max(done, until)
        self._before, self._held = window[:done][-1:], window[done:]

    def _append(self, text: str) -> Iterator[StepText]:
        if not self._step and not text.strip():
            self._leading += text
        elif text:
            self._step = self._step or 1
            yield StepText(self._step, self._leading + text)
            self._leading = ""

    def _undecided(self, window: str, start: int) -> int:
        """Where the first marker may stand that what follows could complete, prolong or spoil."""
        for at in range(max(start, len(window) - self._longest), len(window)):
            if any(marker.startswith(window[at:]) for marker in self._markers):
                return at
        return len(window)


def _guarded(marker: str) -> str:
    before = rf"(?<!{_LETTER.pattern})" if _LETTER.match(marker[0]) else ""
    after = rf"(?!{_LETTER.pattern})" if _LETTER.match(marker[-1]) else ""
    return before + re.escape(marker) + after
