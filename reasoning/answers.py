"""Answers: finding them in a text and telling whether two are equal."""

import re
from fractions import Fraction
from string import ascii_lowercase
from threading import current_thread, main_thread

from reasoning.markers import LETTER

_BRACES = re.compile(r"(?P<box>\\boxed\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)
_NUMBER = re.compile(r"(?:(?<![\w)])-)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+|/\d+)?")
_CHOICE = re.compile(rf"(?<!{LETTER.pattern})([A-E])(?=[).,:;*]|\s*$)")
_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
_WORDS = re.compile(r"(?:[^\W\d_]{3,}|[Nn][Oo])(?:\s+[^\W\d_]+)*")
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm)?|mathrm|mbox)\s*\{([^{}]*)\}")
_MATH = re.compile(r"\$\$?([^$]+)(?<!\\)\$\$?|\\\(((?:(?!\\\)).)+)\\\)", re.DOTALL)
_AMOUNT = re.compile(
    rf"(?:\\?\$)?(?P<number>{_PLAIN_NUMBER.pattern}(?:/\d+)?|-?\\[dt]?frac\{{\d+\}}\{{\d+\}})"
    r"(?:(?:\s|~|\\[ ,;])+(?P<unit>[A-Za-z]{3,}))?"
)
_FUNCTIONS = (
    "sin cos tan cot sec csc sinh cosh tanh coth sech csch arcsin arccos arctan log exp sqrt cbrt root abs max min sup"
    " inf gcd lcm det dim ker deg arg mod floor ceil erf sgn sign euler infinity infty imaginary"
    " alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda omicron rho sigma tau upsilon"
    " phi varphi chi psi omega"
)
_MULTIPLES = (
    "percent permille dozen dozens score pair pairs gross hundred hundreds thousand thousands million millions billion"
    " billions trillion trillions half halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths"
    " seventh sevenths eighth eighths ninth ninths tenth tenths eleventh elevenths twelfth twelfths hundredth"
    " hundredths thousandth thousandths millionth millionths plus minus times over per and not squared cubed factorial"
    " choose double triple remainder base"
)
_NO_UNITS = frozenset(f"{_FUNCTIONS} {_MULTIPLES}".split())

_LONGEST = 300
_SECONDS = 5
_NESTED = 3


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


def plain_text(answer: str) -> str:
    r"""An answer without what is only about its look: ``\text{}`` and its like, ``$...$``, ``\(...\)``, a final dot."""
    for _ in range(_NESTED):
        bare = _TEXT.sub(r"\1", answer).strip().rstrip(".").rstrip()
        if math := _MATH.fullmatch(bare):
            bare = (math[1] or math[2]).strip() or bare
        if bare == answer:
            break
        answer = bare
    return answer


def answers_equal(first: str | None, second: str | None) -> bool:
    r"""Whether two answers mean the same: equal strings, equal plain numbers, or equal to math-verify.

    None equals nothing, not even None. Words ("unknown") equal only the same words, whatever their case and whether or
    not they stand in ``\text{}``, and so does an answer of more than 300 characters. A number equals the same number
    with a unit ("72", "72 dollars"). math-verify gives up after 5 seconds for each order, but only in the main thread:
    its time limit is a signal. A comparison in another thread lasts as long as it takes.
    """
    if first is None or second is None:
        return False
    first, second = first.strip(), second.strip()
    if first == second:
        return bool(first)
    one, other = (" ".join(plain_text(answer).split()) for answer in (first, second))
    if one == other:
        return bool(one)
    if _WORDS.fullmatch(one) or _WORDS.fullmatch(other):
        return one.casefold() == other.casefold()
    if max(len(first), len(second)) > _LONGEST:
        return False
    if numbers := _without_unit(one, other):
        first, second = one, other = numbers
    values = _plain_number(one), _plain_number(other)
    if values[0] is not None and values[1] is not None:
        if values[0] == values[1]:
            return True
        if values[0].denominator == values[1].denominator == 1:
            return False
    return _verified(first, second)


def _without_unit(first: str, second: str) -> tuple[str, str] | None:
    """The numbers of two amounts, one of which has a unit, or both the same; None for all else."""
    one, other = _AMOUNT.fullmatch(first), _AMOUNT.fullmatch(second)
    if one is None or other is None:
        return None
    units = {amount["unit"].casefold() for amount in (one, other) if amount["unit"]}
    return (one["number"], other["number"]) if len(units) == 1 and _is_unit(*units) else None


def _is_unit(word: str) -> bool:
    """Whether a word in small letters counts something; it may also be a function, or a product such as ``abc``."""
    return word not in _NO_UNITS and word not in ascii_lowercase and any(vowel in word for vowel in "aeiouy")


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
