import io
import json
import sys

import pytest
from clients_script import REPORT, completion
from rich.console import Console
from typer.testing import CliRunner

import stepgrpo
from clients.compare import Asked, InvalidQuestionsError, read_questions
from clients.compare_report import as_json, markdown, table, write
from clients.comparison import Comparison, Failed, Measured, Pair, judge


def pair(base, tuned, correct=(None, None), question="How?"):
    return Pair(question, Measured(base, 4, "model", correct[0]), Measured(tuned, 2, "model", correct[1]))


def compared(*pairs):
    return Comparison("base", "tuned", list(pairs))


def test_savings_are_a_ratio_of_means_with_an_interval_around_it():
    saved = compared(*(pair(100 + i, 50 + i % 7) for i in range(40))).savings()
    assert saved.value == pytest.approx(1 - sum(50 + i % 7 for i in range(40)) / sum(100 + i for i in range(40)))
    assert saved.low < saved.value < saved.high


def test_the_interval_is_of_pairs():
    """Questions of very different length, each shortened to its half: no doubt about the ratio."""
    saved = compared(*(pair(10**n, 10**n // 2) for n in range(1, 6))).savings()
    assert saved.low == saved.value == saved.high == 0.5


def test_accuracy_is_compared_where_answers_are_known():
    assert compared(pair(2, 1)).accuracy_gain() is None
    gain = compared(pair(2, 1, (False, True)), pair(2, 1, (True, True)), pair(2, 1)).accuracy_gain()
    assert gain.value == 0.5
    assert gain.low == 0
    assert gain.high == 1


@pytest.mark.parametrize(
    ("text", "right"), [("So \\boxed{19}.", True), ("It is 19", True), ("It is 18.", False), ("", False)]
)
def test_answers_are_compared_as_mathematics(text, right):
    assert judge(text, "19") is right


def test_questions_are_lines_of_text_or_of_json(tmp_path):
    file = tmp_path / "questions"
    file.write_text('How much?\n\n{"question": "And this?", "answer": 19}\n')
    assert read_questions(file) == [Asked(question="How much?"), Asked(question="And this?", answer="19")]


@pytest.mark.parametrize(
    ("content", "message"),
    [("\n", "holds no question"), ("a\n{broken", ":2 is not a JSON object like"), (None, "cannot be read")],
)
def test_a_file_without_questions_is_refused(tmp_path, content, message):
    file = tmp_path / "questions"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidQuestionsError, match=message):
        read_questions(file)


def test_the_table_shows_every_figure_in_a_terminal_of_80_columns():
    question = "Zoe has 6 stamps. In January 4 are lost. How many stamps does Zoe have now?"
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table(compared(pair(145, 99, (True, False), question), pair(75, 61, (True, True), question))))
    shown = console.export_text()
    row = next(line for line in shown.splitlines() if "Zoe has" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][1:] == [
        "145",
        "99",
        "32%",
        "4 > 2",
        "model",
        "yes > no",
    ]
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "110.0" in shown


def test_the_report_holds_every_pair_and_every_failure(tmp_path):
    comparison = compared(pair(100, 50, (True, True), "a | b"), pair(50, 40, (True, False)))
    comparison.failures.append(Failed("Why?", "no server"))
    text = markdown(comparison)
    assert "| a \\| b | 100 | 50 | 50% | 4 > 2 | model | yes > yes |" in text
    assert "| **mean** | 75.0 | 45.0 | 40.0% | 4.00 > 2.00 |  | 100.0% > 50.0% |" in text
    assert "- Why?: no server" in text
    write(comparison, tmp_path / "new")
    assert json.loads((tmp_path / "new" / "compare.json").read_text()) == as_json(comparison)
    assert "<svg" in (tmp_path / "new" / "compare.svg").read_text()


def test_questions_are_text_and_never_markup_nor_lines(tmp_path):
    comparison = compared(pair(100, 50, question="[/INST] :100:\n[bold]How?"))
    comparison.base = "[/base]"
    comparison.failures.append(Failed("Why\nnot?", "no\nserver"))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(comparison))
    shown = console.export_text()
    assert "[/base] and tuned" in shown
    assert "[/INST] :100: [bold]How?" in shown
    text = markdown(comparison)
    assert "| [/INST] :100: [bold]How? | 100 |" in text
    assert "- Why not?: no server\n" in text


def run(*arguments):
    return CliRunner().invoke(stepgrpo.app, ["compare", *arguments], prog_name="stepgrpo", env={"COLUMNS": "200"})


def test_the_command_asks_both(scripted, tmp_path):
    questions = tmp_path / "questions"
    questions.write_text('{"question": "How much is 12 plus 7?", "answer": "19"}\n')
    for _ in range(2):
        scripted.reply(completion(reasoning_efficiency=REPORT))
    both = ["--base", scripted.url, "--tuned", scripted.url, "--base-model", "old", "--tuned-model", "new"]
    result = run(*both, "--temperature", "0", "--output", str(tmp_path / "out"), str(questions))
    assert result.exit_code == 0, result.output
    assert sorted(body["model"] for body in scripted.bodies) == ["new", "old"]
    assert "new saves 0.0% of the tokens of old" in result.output
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"compare.json", "compare.md", "compare.svg"}


def test_a_question_that_fails_is_named_and_fails_the_command(scripted, tmp_path):
    questions = tmp_path / "questions"
    questions.write_text("How?\nWhy?\n")
    both = ["--base", scripted.url, "--tuned", scripted.url, "--base-model", "a", "--tuned-model", "b"]
    for status in (200, 200, 200, 400):
        scripted.reply(completion() if status == 200 else {"error": {"message": "too long"}}, status)
    result = run(*both, "--concurrency", "1", str(questions))
    assert result.exit_code == 1
    assert "1 questions failed, first: http" in result.output
    assert "too long" in result.output


def test_hostile_names_neither_fail_the_command_nor_cost_the_report(scripted, tmp_path):
    questions = tmp_path / "questions"
    questions.write_text("Say [/INST].\n")
    for _ in range(2):
        scripted.reply(completion())
    both = ["--base", scripted.url, "--tuned", scripted.url, "--base-model", "[/a]", "--tuned-model", "[/b]"]
    result = run(*both, "--output", str(tmp_path / "[/out]"), str(questions))
    assert result.exit_code == 0, result.output
    assert "[/b] saves 0.0% of the tokens of [/a]" in result.output
    assert f"report and plot: {tmp_path / '[/out]'}" in result.output.replace("\n", "")


def test_the_report_is_written_before_anything_is_printed(scripted, tmp_path, monkeypatch):
    def broken(_):
        raise RuntimeError

    questions = tmp_path / "questions"
    questions.write_text("How?\n")
    for _ in range(2):
        scripted.reply(completion())
    both = ["--base", scripted.url, "--tuned", scripted.url, "--base-model", "a", "--tuned-model", "b"]
    monkeypatch.setattr("clients.compare_report.table", broken)
    assert isinstance(run(*both, "--output", str(tmp_path / "out"), str(questions)).exception, RuntimeError)
    assert (tmp_path / "out" / "compare.md").exists()


def test_servers_that_count_no_tokens_cannot_be_compared(scripted, tmp_path):
    questions = tmp_path / "questions"
    questions.write_text("How?\n")
    for _ in range(2):
        scripted.reply(completion() | {"usage": None})
    both = ["--base", scripted.url, "--tuned", scripted.url, "--base-model", "a", "--tuned-model", "b"]
    result = run(*both, str(questions))
    assert result.exit_code == 1
    reason = f"{scripted.url}/v1/ counts no tokens: its answers have no `usage`"
    assert f"\nstepgrpo compare: no question was answered by both: {reason}\n" in result.output


def test_a_plot_that_cannot_be_drawn_is_refused_before_anything_is_asked(scripted, tmp_path, monkeypatch):
    questions = tmp_path / "questions"
    questions.write_text("How?\n")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("--base", scripted.url, "--tuned", scripted.url, "--output", str(tmp_path), str(questions))
    assert result.exit_code == 2
    assert "pip install matplotlib" in result.output
    assert scripted.bodies == []


def test_no_questions_no_server(tmp_path):
    questions = tmp_path / "questions"
    both = ["--base", "http://127.0.0.1:9", "--tuned", "http://127.0.0.1:9", str(questions)]
    assert "cannot be read" in run(*both).output
    questions.write_text("How?\n")
    assert "no server answers at http://127.0.0.1:9" in run(*both).output
