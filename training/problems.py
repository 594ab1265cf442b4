"""Verifiable word problems whose needed number of reasoning steps differs and is known.

Three families, all with whole numbers below 100 so that every value is one token of the quickstart tokenizer:

- ``chain``: operations in a row, one a month. A first pass reads so many of them, so it solves the shorter chains and
  leaves the longer ones with a wrong result that a check has to mend.
- ``days`` and ``tickets``: guess and check. Candidates come in a fixed order and the first that fits is the answer,
  so the position of the answer in that order is the number of steps that the problem needs.

How long they get is their :class:`Size`. A problem belongs to one split by a hash of its question, so the splits are
disjoint by construction whatever the seed.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Family = Literal["chain", "days", "tickets"]
Split = Literal["train", "calibration", "test"]

FAMILIES: tuple[Family, ...] = ("chain", "days", "tickets")
GUESS_AND_CHECK: tuple[Family, ...] = ("days", "tickets")
FAMILY_WEIGHTS = {"chain": 0.5, "days": 0.25, "tickets": 0.25}
LIMIT = 99

NAMES = ("Mia", "Leo", "Ana", "Tom", "Eva", "Sam", "Ida", "Max", "Zoe", "Ben")
THINGS = ("marbles", "stamps", "coins", "shells", "cards", "beads", "pens", "nuts")
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)
EVENTS = {
    "+": ("{} more are found.", "{} more are bought.", "{} more arrive."),
    "-": ("{} are lost.", "{} are sold.", "{} are given away."),
    "*": ("{} times as many are there.",),
    "/": ("{} equal parts are made and one is kept.",),
}


@dataclass(frozen=True, slots=True)
class Size:
    """How long problems get.

    Attributes:
        operations: of a chain, from 2 to this many (12 at most).
        first_pass: operations of a chain that a first pass reads.
        needed: steps that a guess-and-check problem needs, from 1 to this many.
        divisor: what a candidate is divided by, from 3 to this; at least ``needed``, or no such problem exists.
    """

    operations: int = 8
    first_pass: int = 5
    needed: int = 6
    divisor: int = 7


SHORT = Size()
LONG = Size(operations=12, first_pass=7, needed=10, divisor=12)


@dataclass(frozen=True, slots=True)
class Operation:
    """One arithmetic move of a chain: ``symbol`` is one of ``+ - * /``."""

    symbol: str
    operand: int

    def apply(self, value: int) -> int | None:
        """The result, or None where it leaves the whole numbers from 0 to 99."""
        match self.symbol:
            case "+":
                result = value + self.operand
            case "-":
                result = value - self.operand
            case "*":
                result = value * self.operand
            case _:
                if value % self.operand:
                    return None
                result = value // self.operand
        return result if 0 <= result <= LIMIT else None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One guess of a guess-and-check problem: how it is written, what it answers and what it leaves (0 fits)."""

    guess: str
    answer: str
    remainder: int


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its answer and what its solution is made of.

    ``needed`` is the number of semantic steps after which the answer is justified (2 for a chain that is longer than
    what a first pass reads, 1 for a shorter one). ``start``, ``operations`` (one a month) and ``first_pass`` (how many
    of them a first pass reads) are set for chains, ``candidates`` (the needed ones and some beyond) for guess and
    check.
    """

    family: Family
    question: str
    answer: str
    needed: int
    start: int = 0
    operations: tuple[Operation, ...] = ()
    first_pass: int = 0
    candidates: tuple[Candidate, ...] = ()

    @property
    def difficulty(self) -> int:
        """Operations of a chain, needed steps of a guess-and-check problem."""
        return len(self.operations) if self.family == "chain" else self.needed

    @property
    def split(self) -> Split:
        """The only split in which this question may appear: 90 % train, 5 % calibration, 5 % test."""
        bucket = int.from_bytes(hashlib.blake2b(self.question.encode(), digest_size=4).digest(), "big") % 20
        return "calibration" if bucket == 0 else "test" if bucket == 1 else "train"


def problems(
    split: Split, seed: int, families: tuple[Family, ...] = FAMILIES, *, size: Size = SHORT
) -> Iterator[Problem]:
    """An endless, reproducible stream of problems of one split."""
    rng = random.Random(f"{split}:{seed}")
    weights = [FAMILY_WEIGHTS[family] for family in families]
    while True:
        problem = _GENERATORS[rng.choices(families, weights)[0]](rng, size)
        if problem.split == split:
            yield problem


def take(split: Split, seed: int, count: int, *, size: Size = SHORT) -> list[Problem]:
    """``count`` problems of a split with no question twice."""
    found: dict[str, Problem] = {}
    for problem in problems(split, seed, size=size):
        found.setdefault(problem.question, problem)
        if len(found) == count:
            break
    return list(found.values())


def _chain(rng: random.Random, size: Size) -> Problem:
    length = rng.randint(2, size.operations)
    while True:
        start = rng.randint(2, 40)
        operations, values = _operations(rng, start, length)
        if length <= size.first_pass or values[size.first_pass - 1] != values[-1]:
            break
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    sentences = " ".join(
        f"In {month} {rng.choice(EVENTS[operation.symbol]).format(operation.operand)}"
        for month, operation in zip(MONTHS, operations, strict=False)
    )
    question = f"{name} has {start} {things}. {sentences} How many {things} does {name} have now?"
    needed = 1 if length <= size.first_pass else 2
    return Problem(
        "chain",
        question,
        str(values[-1]),
        needed,
        start=start,
        operations=tuple(operations),
        first_pass=size.first_pass,
    )


def _operations(rng: random.Random, start: int, length: int) -> tuple[list[Operation], list[int]]:
    """Random operations that stay within 1 and 99, and the value after each."""
    operations: list[Operation] = []
    values: list[int] = []
    while len(operations) < length:
        symbol = rng.choices("+-*/", (4, 4, 1.5, 1.5))[0]
        operation = Operation(symbol, rng.randint(2, 12 if symbol in "+-" else 3))
        result = operation.apply(values[-1] if values else start)
        if result:
            operations.append(operation)
            values.append(result)
    return operations, values


def _days(rng: random.Random, size: Size) -> Problem:
    needed = rng.randint(1, size.needed)
    while True:
        start, daily, friends = rng.randint(2, 50), rng.randint(2, 9), rng.randint(3, size.divisor)
        values = [start + i * daily for i in range(needed + 3)]
        remainders = [value % friends for value in values]
        if values[-1] <= LIMIT and _first_fit(remainders) == needed:
            break
    name, things = rng.choice(NAMES), rng.choice(THINGS)
    question = (
        f"{name} starts with {start} {things} and gets {daily} more each day. How many {things} does {name} have"
        f" the first time that {friends} friends can share them equally?"
    )
    candidates = tuple(
        Candidate(f"{value} / {friends}", str(value), rest) for value, rest in zip(values, remainders, strict=True)
    )
    return Problem("days", question, str(values[needed - 1]), needed, candidates=candidates)


def _tickets(rng: random.Random, size: Size) -> Problem:
    needed = rng.randint(1, size.needed)
    while True:
        adult, child, total = rng.randint(3, 9), rng.randint(3, size.divisor), rng.randint(20, LIMIT)
        values = [total - adult * count for count in range(1, needed + 4)]
        remainders = [value % child for value in values]
        if values[-1] > 0 and _first_fit(remainders) == needed:
            break
    name = rng.choice(NAMES)
    question = (
        f"{name} spends exactly {total} coins on tickets. Large ones cost {adult} coins and small ones take {child}."
        f" What is the smallest number of large tickets, at least 1, that {name} can have bought?"
    )
    candidates = tuple(
        Candidate(f"{count}: {value + adult} - {adult} = {value}, {value} / {child}", str(count), rest)
        for count, (value, rest) in enumerate(zip(values, remainders, strict=True), start=1)
    )
    return Problem("tickets", question, str(needed), needed, candidates=candidates)


def _first_fit(remainders: list[int]) -> int:
    """1-based position of the first candidate that leaves nothing; 0 where none does."""
    return remainders.index(0) + 1 if 0 in remainders else 0


_GENERATORS: dict[Family, Callable[[random.Random, Size], Problem]] = {
    "chain": _chain,
    "days": _days,
    "tickets": _tickets,
}
