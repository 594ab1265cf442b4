"""Answers: finding them in a text and telling whether two are equal."""

import re
from fractions import Fraction
from threading import current_thread, main_thread

from reasoning.markers import LETTER

_BRACES = re.compile(r"(?P<box>\\boxed\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)
_NUMBER = re.compile(r"(?:(?<![\w)])-)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+|/\d+)?")
_CHOICE = re.compile(rf"(?<!{LETTER.pattern})([A-E])(?=[).,:;*]|\s*$)")
_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
_WORDS = re.compile(r"[^\W\d_]{3,}(?:\s+[^\W\d_]+)*")

_LONGEST = 300
_SECONDS = 5


def boxed_answer(text: str) -> str | None:
    r"""Content of the last complete, non-empty ``\boxed{...}``, braces balanced; None if there is none."""
    opened: list[int | None] = []
    last, answer = -1, None
    for brace in _BRACES.finditer(text):
        if brace["box"]:
            opened.append(brace.end())
        elif brace["open"]:
            opened.append(None)
        elif brace["close"] and opened:
            start = opened.pop()
            if start is not None and start > last and (content := text[start : brace.start()].strip()):
                last, answer = start, content
    return answer


def extract_answer(text: str) -> str | None:
    r"""The answer of a text: the last ``\boxed{}``, else the last number, else the last lone choice letter A to E."""
    boxed = boxed_answer(text)
    if boxed is not None:
        return boxed
    if numbers := _NUMBER.findall(text):
        return str(numbers[-1]).replace(",", "")
    choices = _CHOICE.findall(text)
    return str(choices[-1]) if choices else None


def answers_equal(first: str | None, second: str | None) -> bool:
    """Whether two answers mean the same: equal strings, equal plain numbers, or equal to math-verify.

    None equals nothing, not even None. Words ("unknown") equal only the same words, whatever their case, and so does an
    answer of more than 300 characters. math-verify gives up after 5 seconds for each order, but only in the main
    thread: its time limit is a signal. A comparison in another thread lasts as long as it takes.
    """
    if first is None or second is None:
        return False
    first, second = first.strip(), second.strip()
    if first == second:
        return bool(first)
    if _WORDS.fullmatch(first) or _WORDS.fullmatch(second):
        return first.casefold() == second.casefold()
    if max(len(first), len(second)) > _LONGEST:
        return False
    one, other = _plain_number(first), _plain_number(second)
    if one is not None and other is not None:
        if one == other:
            return True
        if one.denominator == other.denominator == 1:
            return False
    return _verified(first, second)


def _plain_number(answer: str) -> Fraction | None:
    return Fraction(answer.replace(",", "")) if _PLAIN_NUMBER.fullmatch(answer) else None


def _verified(first: str, second: str) -> bool:
    from math_verify import parse, verify
    from math_verify.errors import TimeoutException

    seconds = _SECONDS if current_thread() is main_thread() else None
    try:
        one, other = (parse(f"${answer}$", parsing_timeout=seconds) for answer in (first, second))
        return any(verify(*pair, timeout_seconds=seconds) for pair in ((one, other), (other, one)))
    except (Exception, TimeoutException):
        # What a model writes in its box may be anything; text that trips the parser is no answer.
        return False
