"""Benchmarks in their public formats, written here in small."""

import csv
import json

import datasets
import pytest
from datasets.exceptions import DatasetNotFoundError

from training.benchmarks import BOXED, BOXED_LETTER, Item, is_right, load_benchmark, same_text
from training.data import DataError


def write(folder, name, *rows):
    path = folder / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


GPQA = {
    "Question": "Which is a metal?",
    "Correct Answer": "Iron\n",
    "Incorrect Answer 1": "Neon",
    "Incorrect Answer 2": "Argon",
    "Incorrect Answer 3": "Xenon",
    "Writer's Difficulty Estimate": "Easy undergraduate level (or easier)",
}


@pytest.mark.parametrize(
    ("name", "row", "question", "answer", "difficulty"),
    [
        ("gsm8k", {"question": "Q", "answer": "1+1=<<1+1=2>>2\n#### 1,002"}, "Q", "1002", "1 operations"),
        ("math-500", {"problem": "Q", "answer": "\\pi", "level": 3}, "Q", "\\pi", "level 3"),
        ("amc-2023", {"question": "Q", "answer": "27.0"}, "Q", "27", ""),
        ("aime-2024", {"ID": "2024-I-1", "Problem": "Q", "Answer": "033"}, "Q", "33", ""),
        ("aime-2025", {"problem": "Q", "answer": "0"}, "Q", "0", ""),
    ],
)
def test_a_row_of_each(tmp_path, name, row, question, answer, difficulty):
    write(tmp_path, name, row)
    [item] = load_benchmark(name, tmp_path)
    assert (item.question, item.answer, item.difficulty) == (question + BOXED, answer, difficulty)


def test_gpqa_lists_its_choices_in_an_order_of_the_questions_own(tmp_path):
    with (tmp_path / "gpqa-diamond.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, GPQA)
        writer.writeheader()
        writer.writerow(GPQA)
    [item] = load_benchmark("gpqa-diamond", tmp_path)
    assert f"({item.answer}) Iron" in item.question
    assert item.question.endswith(BOXED_LETTER)
    assert sorted(item.choices) == ["Argon", "Iron", "Neon", "Xenon"]
    assert item.difficulty == "Easy undergraduate level"
    assert load_benchmark("gpqa-diamond", tmp_path) == [item]


def test_bbh_is_a_folder_of_tasks(tmp_path):
    write(tmp_path / "bbh", "navigate", {"input": "Q", "target": "Yes"})
    write(tmp_path / "bbh", "snarks", {"input": "Q", "target": "(A)"})
    write(tmp_path / "bbh", "dyck_languages", {"input": "Q", "target": ") )"})
    items = load_benchmark("bbh", tmp_path)
    found = [(item.difficulty, item.answer) for item in items]
    assert found == [("dyck_languages", ") )"), ("navigate", "Yes"), ("snarks", "A")]


def test_bbh_in_its_public_files_is_an_object_a_task(tmp_path):
    choice = {"input": "Which?\nOptions:\n(A) a dog\n(B) a cat", "target": "(B)"}
    text = json.dumps({"canary": "c", "examples": [choice, {"input": "Q", "target": "Yes"}]}, indent=2)
    (tmp_path / "bbh").mkdir()
    (tmp_path / "bbh" / "snarks.json").write_text(text)
    chosen, free = load_benchmark("bbh", tmp_path)
    assert chosen == Item(choice["input"] + BOXED_LETTER, "B", "snarks", ("a dog", "a cat"))
    assert free == Item("Q" + BOXED, "Yes", "snarks")


CHOICE = Item("", "B", choices=("B. cereus", "5 m", "10 m", "A. niger"))


@pytest.mark.parametrize(
    "found", ["B", "(b)", "B.", "B. 5 m", "(B) 5 m", "B) 5 m", "B: 5 m", "\\text{(B) 5 m}", "5 m", "\\textbf{B}"]
)
def test_a_choice_is_its_letter_or_its_text(found):
    assert is_right(found, CHOICE)


@pytest.mark.parametrize("found", ["A", "10 m", "C. 5 m", "B. cereus", "Both", "5", "", "m"])
def test_another_choice_is_wrong(found):
    assert not is_right(found, CHOICE)


def test_sorted_words_may_have_commas_between_them():
    words = Item("", "apple bear cat")
    assert is_right("apple, bear, cat", words)
    assert is_right("\\text{apple}, \\text{bear},\\text{cat}", words)
    assert not is_right("apple, cat, bear", words)


@pytest.mark.parametrize(
    ("name", "row", "says"),
    [
        ("mmlu", None, "there are gsm8k"),
        ("math-500", None, "no file"),
        ("math-500", {"problem": "Q"}, "row 1 does not read"),
        ("aime-2024", {"problem": "Q", "result": "1"}, "none of the columns answer"),
        ("bbh", None, "no rows"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_a_line(tmp_path, name, row, says):
    if row:
        write(tmp_path, name, row)
    with pytest.raises(DataError, match=says):
        load_benchmark(name, tmp_path)


def test_a_broken_file_is_named_with_its_line(tmp_path):
    (tmp_path / "gsm8k.jsonl").write_text('{"question": "Q", "answer": "#### 1"}\n{"question"\n')
    with pytest.raises(DataError, match=r"gsm8k\.jsonl cannot be read: line 2 is no JSON object"):
        load_benchmark("gsm8k", tmp_path)


def test_a_benchmark_that_the_hub_does_not_give_can_be_read_from_a_file(monkeypatch):
    def load_dataset(path, config, split):
        raise DatasetNotFoundError("Dataset 'Idavidrein/gpqa' is a gated dataset on the Hub.")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"gpqa cannot.*gated dataset on the Hub.*`hf auth login`.*--data FOLDER"):
        load_benchmark("gpqa-diamond")


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        ("(A)", "A"),
        ("a).", "A"),
        ("\\text{True}", "True"),
        (" yes. ", "Yes"),
        ("\\mathrm{True}", "True"),
        ("$\\text{Yes}$", "Yes"),
        ("\\(\\mbox{(A)}\\)", "A"),
    ],
)
def test_words_and_choices_are_compared_as_such(found, answer):
    assert same_text(found, answer)
    assert not same_text(found, "B")


@pytest.mark.parametrize(
    ("found", "answer"), [("] )", "] )"), ("])", "] )"), ("] ) \\}", "] ) }"), ("\\text{> )}", "> )"), ("$] )$", "] )")]
)
def test_brackets_that_are_the_answer_are_compared_one_by_one(found, answer):
    assert same_text(found, answer)
    assert not any(same_text(other, answer) for other in ("\\( \\)", ")", "(", "( )", ") >", "(((", ") ]", "."))
