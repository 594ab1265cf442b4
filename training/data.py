"""Questions with reference answers: generated ones, public data sets by name, and one's own files."""

import json
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from training.problems import LONG, SHORT, Problem, Split, problems, take
from training.recipe import DataSettings

logger = logging.getLogger(__name__)

SUFFIXES = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}


class DataError(ValueError):
    """Data that cannot be trained on; the message is one line that says which row and what to change."""


@dataclass(frozen=True, slots=True)
class Question:
    """One row: what is asked and the answer to compare with."""

    question: str
    answer: str


GENERATED = {"word-problems": SHORT, "long-word-problems": LONG}
"""Data sets of :mod:`training.problems`, which have held-out splits of their own, and how long their problems get."""

Loader = Callable[[int], Iterator[Question]]
"""An endless or finite stream of questions for a seed."""


@dataclass(frozen=True, slots=True)
class HubSet:
    """A public data set: where it is, which columns are used, and how a row of them reads."""

    path: str
    split: str
    columns: tuple[str, ...]
    read: Callable[[dict[str, Any]], Question]
    config: str | None = None


HUB = {
    "dapo-math-17k": HubSet(
        "BytedTsinghua-SIA/DAPO-Math-17k",
        "train",
        ("prompt", "reward_model"),
        lambda row: Question(_without_dapo_frame(row["prompt"][0]["content"]), row["reward_model"]["ground_truth"]),
    ),
    "deepmath-103k": HubSet(
        "zwhe99/DeepMath-103K",
        "train",
        ("question", "final_answer"),
        lambda row: Question(row["question"], row["final_answer"]),
    ),
    "math": HubSet(
        "nlile/hendrycks-MATH-benchmark",
        "train",
        ("problem", "answer"),
        lambda row: Question(row["problem"], row["answer"]),
    ),
    "gsm8k": HubSet(
        "openai/gsm8k",
        "train",
        ("question", "answer"),
        lambda row: Question(row["question"], row["answer"].rpartition("####")[2].strip().replace(",", "")),
        "main",
    ),
}


def questions(settings: DataSettings, seed: int) -> Iterator[Question]:
    """The questions of a recipe, each with its suffix; a finite set is shuffled by ``seed`` and repeated.

    Raises:
        DataError: no such data set or file, one that cannot be read, a missing column, or a row of a file without a
            question or an answer; of a public set such rows are left out.
    """
    for row in _source(settings, seed):
        yield Question(row.question + settings.suffix, row.answer)


def take_questions(
    settings: DataSettings, seed: int, count: int, fits: Callable[[str], bool] = lambda question: True
) -> list[Question]:
    """The first ``count`` of :func:`questions` that fit; fewer where there are no more.

    Raises:
        DataError: hardly any question fits.
    """
    taken: list[Question] = []
    passed_over = 0
    for row in questions(settings, seed):
        if len(taken) == count:
            break
        if fits(row.question):
            taken.append(row)
            continue
        passed_over += 1
        if passed_over > 1000 + 100 * len(taken):
            raise DataError(f"{settings.name}: hardly any question fits rollout.max_prompt_tokens; raise it")
    return taken


def file_questions(settings: DataSettings, path: str) -> list[Question]:
    """All questions of a file in their order, with the columns and the suffix of a recipe's data.

    Raises:
        DataError: no such file, a broken one, a missing column, or a row without a question or an answer.
    """
    rows = _checked(_file_rows(settings.model_copy(update={"name": path})), path)
    return [Question(row.question + settings.suffix, row.answer) for row in rows]


def load_from_hub(path: str, config: str | None, split: str, instead: str) -> Any:
    """A split of one of the hub's data sets.

    Raises:
        DataError: it cannot be reached or may not be read; ``instead`` says what else can be given.
    """
    from datasets import load_dataset

    try:
        return load_dataset(path, config, split=split)
    except Exception as error:  # the library's own, the hub's and its transport's are of no common kind
        raise DataError(
            f"{path} cannot be loaded from the hub ({_reason(error)}): see that the hub can be reached, `hf auth login`"
            f" where the data set is gated, or give {instead}"
        ) from error


def load_file(path: Path) -> Any:
    """All rows of a JSON, Parquet or CSV file.

    Raises:
        DataError: it is broken; of a JSONL file the line is named.
    """
    from datasets import load_dataset

    try:
        return load_dataset(SUFFIXES.get(path.suffix, "csv"), data_files=str(path), split="train")
    except StopIteration as error:
        raise DataError(f"{path} holds no rows") from error
    except Exception as error:  # the library's own and those of Arrow and pandas are of no common kind
        reason = (_broken_line(path) if path.suffix == ".jsonl" else None) or _reason(error)
        raise DataError(f"{path} cannot be read: {reason}; mend the file") from error


def _broken_line(path: Path) -> str | None:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                whole = not line.strip() or isinstance(json.loads(line), dict)
            except ValueError:
                whole = False
            if not whole:
                return f"line {number} is no JSON object"
    return None


def _reason(error: Exception) -> str:
    """The first line of what went wrong, beneath what a library says of all that does."""
    return next(iter(str(error.__cause__ or error).splitlines()), type(error).__name__)


def check_held_out(settings: DataSettings) -> None:
    """Refuse data without held-out questions of their own.

    Raises:
        DataError: anything but generated word problems.
    """
    if settings.name not in GENERATED:
        raise DataError(f"{settings.name} has no held-out questions here: train, then measure with `stepgrpo eval`")


def held_out(settings: DataSettings, split: Split, seed: int, count: int) -> list[Problem]:
    """``count`` generated word problems of a split, no question twice.

    Raises:
        DataError: the data are no generated word problems.
    """
    check_held_out(settings)
    return take(split, seed, count, size=GENERATED[settings.name])


def _source(settings: DataSettings, seed: int) -> Iterator[Question]:
    if settings.name in GENERATED:
        generated = problems("train", seed, size=GENERATED[settings.name])
        return (Question(row.question, row.answer) for row in generated)
    if settings.name in HUB:
        return _repeated(_hub_rows(settings.name), settings.name, seed)
    if Path(settings.name).suffix in SUFFIXES:
        return _repeated(_file_rows(settings), settings.name, seed)
    module, separator, attribute = settings.name.partition(":")
    if not separator:
        known = ", ".join([*GENERATED, *HUB])
        raise DataError(f"no data set {settings.name!r}; known: {known}, a .jsonl or .parquet file, or module:function")
    try:
        loader: Loader = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise DataError(f"data {settings.name!r} cannot be imported: {error}") from error
    return loader(seed)


@cache
def _hub_rows(name: str) -> list[Question]:
    source = HUB[name]
    rows = load_from_hub(source.path, source.config, source.split, "a file of your own as data.name")
    rows = rows.select_columns(list(source.columns))
    complete = [row for row in map(source.read, rows) if _lacks(row) is None]
    if not complete:
        raise DataError(f"{name}: no row has a question and an answer")
    if left_out := len(rows) - len(complete):
        logger.warning("%s: left out %d of %d rows, which have no question or no answer", name, left_out, len(rows))
    unique = {row.question: row for row in complete}  # DAPO-Math-17k repeats its rows a hundred times
    return list(unique.values())


def _file_rows(settings: DataSettings) -> list[Question]:
    path = Path(settings.name)
    if not path.exists():
        raise DataError(f"no file {path}; give data.name an existing .jsonl or .parquet file")
    rows = load_file(path)
    for key, column in (("data.question", settings.question), ("data.answer", settings.answer)):
        if column not in rows.column_names:
            raise DataError(f"{path} has no column {column!r}; set {key} to one of {', '.join(rows.column_names)}")
    return [Question(row[settings.question], row[settings.answer]) for row in rows]


def _repeated(rows: list[Question], name: str, seed: int) -> Iterator[Question]:
    checked, rng = _checked(rows, name), random.Random(seed)
    while True:
        rng.shuffle(checked)
        yield from checked


def _checked(rows: list[Question], name: str) -> list[Question]:
    if not rows:
        raise DataError(f"{name} holds no rows")
    for index, row in enumerate(rows):
        if lacking := _lacks(row):
            raise DataError(f"{name}: row {index + 1} has no {lacking}; remove the row")
    return [Question(str(row.question), str(row.answer)) for row in rows]


def _lacks(row: Question) -> str | None:
    """What a row lacks, as a file or a data set may hold anything."""
    values = {"question": row.question, "answer": row.answer}
    return next((name for name, value in values.items() if value is None or not str(value).strip()), None)


def _without_dapo_frame(prompt: str) -> str:
    """The problem itself: the data set asks for an ``Answer:`` line around it, where a recipe asks for a box."""
    problem = prompt.partition("\n\n")[2] or prompt
    return problem.rpartition("\n\nRemember to put your answer")[0] or problem
