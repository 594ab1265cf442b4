"""Questions from names, files and functions."""

import json
from dataclasses import replace

import datasets
import pytest
from datasets.exceptions import DatasetNotFoundError

from training import data
from training.data import HUB, DataError, Question, file_questions, take_questions
from training.recipe import DataSettings

ROWS = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(5)]


def settings(name, **options):
    return DataSettings(name=str(name), **options)


@pytest.fixture(autouse=True)
def nothing_read_before():
    """Public sets are read once a process."""
    data._hub_rows.cache_clear()


@pytest.fixture
def jsonl(tmp_path):
    def write(rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def test_generated_problems_are_the_default():
    assert len({row.question for row in take_questions(DataSettings(), 0, 20)}) > 15


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_local_files_are_shuffled_and_repeated(tmp_path, suffix):
    path = tmp_path / f"rows.{suffix}"
    table = datasets.Dataset.from_list(ROWS)
    table.to_json(path) if suffix == "jsonl" else table.to_parquet(path)
    found = take_questions(settings(path, suffix=" Box it."), 3, 12)
    assert {row.question for row in found[:5]} == {row["question"] + " Box it." for row in ROWS}
    assert found == take_questions(settings(path, suffix=" Box it."), 3, 12)
    assert len(found) == 12


def test_columns_have_names_of_their_own(jsonl):
    path = jsonl([{"problem": "a", "solution": "1"}])
    assert take_questions(settings(path, question="problem", answer="solution"), 0, 1) == [Question("a", "1")]
    with pytest.raises(DataError, match=r"data\.question to one of problem, solution"):
        take_questions(settings(path), 0, 1)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([*ROWS, {"question": "a", "answer": None}], "row 6 has no answer"),
        ([{"question": " ", "answer": "1"}], "row 1 has no question"),
    ],
)
def test_a_row_that_lacks_something_is_named(jsonl, rows, says):
    with pytest.raises(DataError, match=says):
        take_questions(settings(jsonl(rows)), 0, 1)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("rows.jsonl", '{"question": "a", "answer": "1"}\n\n{"question": "b", "ans\n', "line 3 is no JSON object"),
        ("rows.jsonl", '{"question": "a", "answer": "1"}\n5\n', "line 2 is no JSON object"),
        ("rows.jsonl", "", "holds no rows"),
        ("rows.json", '[{"question": ', "position 13"),
        ("rows.parquet", "nonsense", "magic bytes"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(tmp_path, name, text, says):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=f"{path}.*{says}") as raised:
        take_questions(settings(path), 0, 1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Couldn't reach 'openai/gsm8k' on the Hub"),
        DatasetNotFoundError("'openai/gsm8k' is a gated dataset.\nYou must be authenticated."),
        RuntimeError(),
    ],
)
def test_a_public_set_that_cannot_be_loaded_is_said_in_a_line(monkeypatch, error):
    def load_dataset(path, config, split):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    says = r"openai/gsm8k cannot be loaded.*`hf auth login`.* a file of your own as data\.name"
    with pytest.raises(DataError, match=says) as raised:
        take_questions(settings("gsm8k"), 0, 1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "known: word-problems, long-word-problems, dapo"),
        ("x.jsonl", "no file"),
        ("no.module:f", "imported"),
    ],
)
def test_unknown_data_is_refused_in_a_line(name, says):
    with pytest.raises(DataError, match=says):
        take_questions(settings(name), 0, 1)


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        (
            "dapo-math-17k",
            {
                "prompt": [
                    {
                        "content": "Solve the following math problem step by step.\n\nWhat is 1+1?\n\n"
                        'Remember to put your answer on its own line after "Answer:".'
                    }
                ],
                "reward_model": {"ground_truth": "2"},
            },
            Question("What is 1+1?", "2"),
        ),
        ("deepmath-103k", {"question": "Q", "final_answer": "$\\pi$"}, Question("Q", "$\\pi$")),
        ("math", {"problem": "Q", "answer": "3"}, Question("Q", "3")),
        ("gsm8k", {"question": "Q", "answer": "So 1,000 + 1.\n#### 1,001"}, Question("Q", "1001")),
    ],
)
def test_public_sets_are_read_from_their_own_rows(monkeypatch, name, row, expected):
    def load_dataset(path, config, split):
        assert (path, config, split) == (HUB[name].path, HUB[name].config, HUB[name].split)
        return datasets.Dataset.from_list([row, row])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert take_questions(settings(name), 0, 2) == [expected, expected]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Puts a file in the place of DeepMath-103K, and returns the columns that are read of each row."""
    load_dataset, source, read = datasets.load_dataset, HUB["deepmath-103k"], []

    def publish(rows):
        datasets.Dataset.from_list(rows).to_parquet(tmp_path / "hub.parquet")
        return read

    def reading(row):
        read.append(set(row))
        return source.read(row)

    def local(path, config, split):
        return load_dataset("parquet", data_files=str(tmp_path / "hub.parquet"), split=split)

    monkeypatch.setattr(datasets, "load_dataset", local)
    monkeypatch.setitem(HUB, "deepmath-103k", replace(source, read=reading))
    return publish


def test_of_a_public_set_only_the_columns_in_use_are_read(hub):
    read = hub([{"question": "Q", "final_answer": "1", "r1_solution_1": "long " * 1000, "difficulty": 5.0}])
    assert take_questions(settings("deepmath-103k"), 0, 1) == [Question("Q", "1")]
    assert read == [{"question", "final_answer"}]


def test_incomplete_rows_of_a_public_set_are_left_out_and_counted(hub, caplog):
    hub([{"question": f"Q{n}", "final_answer": answer} for n, answer in enumerate(["1", None, " ", "2"])])
    found = take_questions(settings("deepmath-103k"), 0, 4)
    assert {row.question for row in found} == {"Q0", "Q3"}
    [record] = caplog.records
    assert record.getMessage() == "deepmath-103k: left out 2 of 4 rows, which have no question or no answer"
    caplog.clear()
    hub([{"question": "Q", "final_answer": "1"}])
    take_questions(settings("deepmath-103k"), 0, 1)
    assert not caplog.records


def test_a_public_set_must_have_some_complete_row(hub):
    hub([{"question": "Q", "final_answer": None}, {"question": "", "final_answer": "1"}])
    with pytest.raises(DataError, match="deepmath-103k: no row has a question and an answer"):
        take_questions(settings("deepmath-103k"), 0, 1)


def test_questions_that_do_not_fit_are_passed_over(jsonl):
    path = jsonl([{"question": "long " * 50, "answer": "1"}, {"question": "short", "answer": "2"}])
    found = take_questions(settings(path), 0, 3, lambda question: len(question) < 20)
    assert [row.question for row in found] == ["short"] * 3
    with pytest.raises(DataError, match="max_prompt_tokens"):
        take_questions(settings(path), 0, 3, lambda question: False)


def test_a_file_of_questions_is_asked_once_in_its_order(jsonl):
    found = file_questions(settings("word-problems", suffix=" Box it."), str(jsonl(ROWS)))
    assert found == [Question(f"What is {n} + 1? Box it.", str(n + 1)) for n in range(5)]
    with pytest.raises(DataError, match="row 1 has no answer"):
        file_questions(settings("word-problems"), str(jsonl([{"question": "a", "answer": ""}])))
