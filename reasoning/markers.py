"""Markers: the words and phrases that open a new reasoning step.

A marker counts where it stands alone: "Wait" opens a step in "so 12. Wait, no", but not in "Waiting" or "await". The
rule needs words that are written apart, so letters of scripts that are not (Chinese, Japanese, Thai, Lao, Burmese,
Khmer) neither guard a marker nor spoil one: "等等" is found inside a sentence, and "Wait" right before a Chinese
character. An edge of a marker that is no letter ("**Check**") is not guarded either. Matching is case-sensitive,
leftmost, longest first.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

PAPER_MARKERS: Final = ("Wait",)
"""What the released Step-GRPO code counts."""

DEFAULT_MARKERS: Final = ("Wait", "Alternatively", "Hmm")
"""Used for a checkpoint that does not say which markers it was trained with."""

_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana and iteration marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han
)
LETTER: Final = re.compile(rf"[^\W\d_{_UNSPACED}]")
"""One letter of a script that writes its words apart."""


def count_steps(text: str, markers: Sequence[str] = PAPER_MARKERS) -> int:
    """Count reasoning steps as the paper's Eq. 3 does: one more than the standalone markers in ``text``."""
    return 1 + sum(1 for _ in marker_pattern(markers).finditer(text))


def marker_pattern(markers: Sequence[str]) -> re.Pattern[str]:
    """Compile a pattern that matches each standalone marker; without markers it matches nowhere.

    Raises:
        TypeError: ``markers`` is one string instead of a sequence of strings.
        ValueError: a marker is empty or blank.
    """
    return _compiled(checked_markers(markers))


def checked_markers(markers: Sequence[str]) -> tuple[str, ...]:
    """Return the markers as a tuple, each once, the longest first; raises as :func:`marker_pattern` does."""
    if isinstance(markers, str):
        raise TypeError(f"markers must be a sequence of strings, not the string {markers!r}")
    if any(not marker.strip() for marker in markers):
        raise ValueError("a marker must not be blank")
    return tuple(sorted(dict.fromkeys(markers), key=len, reverse=True))


@lru_cache(maxsize=64)
def _compiled(markers: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(_guarded(marker) for marker in markers) or "(?!)")


def _guarded(marker: str) -> str:
    """The marker first and its guards behind it, so that the search looks for its first character and nothing else."""
    word = re.escape(marker)
    before = rf"(?<!{LETTER.pattern}{word})" if LETTER.match(marker[0]) else ""
    after = rf"(?!{LETTER.pattern})" if LETTER.match(marker[-1]) else ""
    return word + before + after
