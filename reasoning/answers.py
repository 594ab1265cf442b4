"""Answers: finding them in a text and telling whether two are equal."""

import re
from contextlib import suppress

_BOX = "\\boxed{"
_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")
_CHOICE = re.compile(r"(?<![A-Za-z])\(?([A-E])\)?(?![A-Za-z])")
_INTEGER = re.compile(r"[+-]?\d+")


def boxed_answer(text: str) -> str | None:
    r"""Content of the last complete ``\boxed{...}``, braces balanced; None if there is none."""
    end = len(text)
    while (start := text.rfind(_BOX, 0, end)) >= 0:
        content = _balanced(text, start + len(_BOX))
        if content is not None:
            return content.strip()
        end = start
    return None


def extract_answer(text: str) -> str | None:
    r"""The answer of a text: the last ``\boxed{}``, else the last number, else the last lone choice letter A to E."""
    boxed = boxed_answer(text)
    if boxed is not None:
        return boxed
    numbers = _NUMBER.findall(text)
    if numbers:
        return str(numbers[-1]).replace(",", "")
    choices = _CHOICE.findall(text)
    return str(choices[-1]) if choices else None


def answers_equal(first: str | None, second: str | None) -> bool:
    """Whether two answers mean the same: equal strings, equal integers, or equal to math-verify.

    None equals nothing, not even None. An answer that cannot be parsed equals only the same string.
    """
    if first is None or second is None:
        return False
    first, second = first.strip(), second.strip()
    if first == second:
        return bool(first)
    if _INTEGER.fullmatch(first) and _INTEGER.fullmatch(second):
        return int(first) == int(second)
    return _verified(first, second)


def _verified(first: str, second: str) -> bool:
    from math_verify import parse, verify

    # math-verify's own time limits use signals, which only the main thread may set.
    with suppress(Exception):
        one, other = (parse(f"${answer}$", parsing_timeout=None, raise_on_error=True) for answer in (first, second))
        return bool(one and other and verify(one, other, timeout_seconds=None, raise_on_error=True))
    return False


def _balanced(text: str, start: int) -> str | None:
    depth = 1
    for position in range(start, len(text)):
        depth += (text[position] == "{") - (text[position] == "}")
        if depth == 0:
            return text[start:position]
    return None
