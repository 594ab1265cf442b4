"""Public benchmarks by name, from the hub or from files in their public formats."""

import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from reasoning.answers import plain_text
from training.data import SUFFIXES, DataError, load_file, load_from_hub

BOXED = "\nPlease reason step by step, and put your final answer within \\boxed{}."
BOXED_LETTER = "\nPlease reason step by step, and put the letter of your choice within \\boxed{}."
CHOICE = re.compile(r"^\(?([A-Za-z])\)$")
OPTION = re.compile(r"^\(([A-Z])\) (.+)$", re.MULTILINE)
LEADING_LETTER = re.compile(r"\(?([A-Za-z])(?:\)|[.:])(?:\s|$)")


@dataclass(frozen=True, slots=True)
class Item:
    """One question; ``difficulty`` groups items (a level, a year, a task), where the benchmark has one.

    ``choices``: what there is to choose from, in the order of the letters; ``answer`` is then a letter.
    """

    question: str
    answer: str
    difficulty: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Where a benchmark is and how its rows read. ``configs`` are loaded one after the other."""

    path: str
    split: str
    read: Callable[[dict[str, Any], str], Item]
    configs: tuple[str | None, ...] = (None,)


def _first(row: dict[str, Any], *names: str) -> str:
    lowered = {key.lower(): value for key, value in row.items()}
    found = next((lowered[name] for name in names if lowered.get(name) is not None), None)
    if found is None:
        raise DataError(f"a row has none of the columns {', '.join(names)}; it has {', '.join(row)}")
    return str(found).strip()


def _gsm8k(row: dict[str, Any], _: str) -> Item:
    solution, _, answer = row["answer"].rpartition("####")
    return Item(row["question"], answer.strip().replace(",", ""), f"{solution.count('<<')} operations")


def _competition(row: dict[str, Any], _: str) -> Item:
    answer = _first(row, "answer", "expected_answer")
    number = answer.removesuffix(".0").lstrip("0") or "0"
    return Item(_first(row, "problem", "question"), number if number.isdigit() else answer)


def _math(row: dict[str, Any], _: str) -> Item:
    level = str(row.get("level", ""))
    return Item(row["problem"], row["answer"], f"level {level[-1]}" if level[-1:].isdigit() else "")


def _gpqa(row: dict[str, Any], _: str) -> Item:
    """Choices in an order that depends on the question alone."""
    right = row["Correct Answer"].strip()
    choices = [right, *(row[f"Incorrect Answer {number}"].strip() for number in (1, 2, 3))]
    random.Random(row["Question"]).shuffle(choices)
    listed = "\n".join(f"({letter}) {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False))
    letter = ascii_uppercase[choices.index(right)]
    return Item(f"{row['Question'].strip()}\n\n{listed}", letter, _level(row), tuple(choices))


def _level(row: dict[str, Any]) -> str:
    return str(row.get("Writer's Difficulty Estimate") or "").partition(" (")[0]


def _bbh(row: dict[str, Any], config: str) -> Item:
    letter = CHOICE.match(row["target"])
    choices = tuple(text for _, text in OPTION.findall(row["input"])) if letter else ()
    return Item(row["input"], letter[1] if letter else row["target"], config, choices)


BBH_TASKS = (
    "boolean_expressions causal_judgement date_understanding disambiguation_qa dyck_languages formal_fallacies"
    " geometric_shapes hyperbaton logical_deduction_five_objects logical_deduction_seven_objects"
    " logical_deduction_three_objects movie_recommendation multistep_arithmetic_two navigate object_counting"
    " penguins_in_a_table reasoning_about_colored_objects ruin_names salient_translation_error_detection snarks"
    " sports_understanding temporal_sequences tracking_shuffled_objects_five_objects"
    " tracking_shuffled_objects_seven_objects tracking_shuffled_objects_three_objects web_of_lies word_sorting"
)

BENCHMARKS = {
    "gsm8k": Benchmark("openai/gsm8k", "test", _gsm8k, ("main",)),
    "math-500": Benchmark("HuggingFaceH4/MATH-500", "test", _math),
    "amc-2023": Benchmark("math-ai/amc23", "test", _competition),
    "aime-2024": Benchmark("HuggingFaceH4/aime_2024", "train", _competition),
    "aime-2025": Benchmark("math-ai/aime25", "test", _competition),
    "gpqa-diamond": Benchmark("Idavidrein/gpqa", "train", _gpqa, ("gpqa_diamond",)),
    "bbh": Benchmark("lukaemon/bbh", "test", _bbh, tuple(BBH_TASKS.split())),
}


def load_benchmark(name: str, folder: Path | None = None) -> list[Item]:
    r"""All items of a benchmark, each asking for a ``\boxed{}`` answer, a letter where there are choices.

    Args:
        name: one of :data:`BENCHMARKS`.
        folder: where files in the public format lie (``NAME.jsonl``, ``.parquet`` or ``.csv``; for ``bbh`` one per
            task, ``bbh/TASK.json`` or ``.jsonl``); the hub by default.

    Raises:
        DataError: no such benchmark or file, one that cannot be loaded, or a row that does not read.
    """
    if name not in BENCHMARKS:
        raise DataError(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    benchmark = BENCHMARKS[name]
    items = []
    for config in benchmark.configs if folder is None or name == "bbh" else (None,):
        for index, row in enumerate(_rows(benchmark, name, config, folder), start=1):
            try:
                item = benchmark.read(row, config or "")
            except (KeyError, AttributeError) as error:
                raise DataError(f"{name}: row {index} does not read ({error!r}); is it the public format?") from error
            items.append(replace(item, question=item.question + (BOXED_LETTER if item.choices else BOXED)))
    if not items:
        raise DataError(f"{name}: no rows found")
    return items


def _rows(benchmark: Benchmark, name: str, config: str | None, folder: Path | None) -> Iterable[dict[str, Any]]:
    rows: Iterable[dict[str, Any]]
    if folder is None:
        rows = load_from_hub(benchmark.path, config, benchmark.split, "--data FOLDER with its file")
        return rows
    stem = folder / name / str(config) if name == "bbh" else folder / name
    named = (stem.with_name(stem.name + suffix) for suffix in (*SUFFIXES, ".csv"))
    path = next((found for found in named if found.exists()), None)
    if path is None:
        if name == "bbh":
            return ()
        raise DataError(f"no file {stem}.jsonl, .parquet or .csv; put it there, or leave the folder out to use the hub")
    rows = load_file(path)
    return (one for row in rows for one in row.get("examples", [row]))  # a public file of bbh is one object


def is_right(found: str, item: Item) -> bool:
    """Whether a short answer is the item's: its words or, where there are choices, its letter or its option's text."""
    if same_text(found, item.answer):
        return True
    bare, texts = _plain(found), [_plain(choice) for choice in item.choices]
    if bare in texts:
        return ascii_uppercase[texts.index(bare)] == item.answer
    leading = LEADING_LETTER.match(bare) if texts else None
    return leading is not None and same_text(leading[1], item.answer)


def same_text(found: str, answer: str) -> bool:
    """Whether two short answers are the same words, commas between them or not, the same choice, as "(A)" and "a" are,
    or the same brackets.
    """
    return _plain(found) == _plain(answer)


def _plain(text: str) -> str:
    bare = CHOICE.sub(r"\1", plain_text(text))
    if any(character.isalnum() for character in bare):
        return re.sub(r"[\s,]+", " ", bare).casefold()
    return re.sub(r"[\s\\]", "", bare)
