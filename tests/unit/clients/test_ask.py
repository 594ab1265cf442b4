import io
import json

import pytest
from clients_script import REPORT, chunk, completion
from rich.console import Console
from typer.testing import CliRunner

import stepgrpo
from clients.answer import Answer, AnswerText, ThinkingText
from clients.ask import show, summary
from clients.client import MAX_RETRIES
from clients.report import EfficiencyReport

THINKING = ["12 + 7 is 18.\nWa", "it, it is 19.\n", "Alternatively", ", count.\n"]
ANSWER = Answer("".join(THINKING), "\n\nIt is 19.\n", "stop", 12, EfficiencyReport.model_validate(REPORT))
EVENTS = [*map(ThinkingText, THINKING), AnswerText("\n\n"), AnswerText("It is "), AnswerText("19.\n"), ANSWER]
PAGE = """\
  1  12 + 7 is 18.
  2  Wait, it is 19.
  3  Alternatively, count.

It is 19.

exit     after step 2 of thinking, by the model itself (model)
tokens   12 = 9 thinking + 3 answer
savings  50.0% of the base model's 24 tokens (calibrated)
"""


def shown(events, **options):
    console = Console(file=io.StringIO(), highlight=False, **options)
    answer = show(events, console, ("Wait", "Alternatively"))
    return answer, console.file.getvalue()


def test_thinking_is_shown_step_by_step_then_answer_exit_and_savings():
    assert shown(EVENTS) == (ANSWER, PAGE)


def test_each_step_has_a_colour_and_its_marker_stands_out():
    _, text = shown(EVENTS, force_terminal=True, color_system="standard")
    assert "\x1b[1;35mWait\x1b[0m" in text
    assert "\x1b[32m12 + 7 is 18.\x1b[0m" in text


def test_an_answer_without_thinking():
    assert shown([AnswerText("19"), ANSWER])[1].startswith("19\n\nexit")


def changed(finish_reason="stop", **fields):
    return summary(Answer("", "19", finish_reason, 5, EfficiencyReport.model_validate(REPORT | fields)))


def test_savings_that_are_not_known_are_not_made_up():
    unknown = {"baseline": {"source": "none", "completion_tokens": None}, "savings_ratio": None}
    assert "savings  unknown" in changed(**unknown)


def test_an_answer_that_was_cut_off_says_so():
    assert "3 answer, cut off there (max_tokens" in changed("length")
    assert "cut off" not in changed()


def test_an_answer_without_thinking_has_no_exit():
    assert "no thinking" in changed(exit={"reason": "none", "step": 0, "reasoning_tokens": 0})


def test_another_server_reports_nothing():
    assert (
        summary(Answer("", "19", "stop", 5, None))
        == "5 tokens; this server reports no steps, exit and savings (stepgrpo serve does)"
    )


def run(*arguments, stdin=None):
    return CliRunner().invoke(stepgrpo.app, ["ask", *arguments], input=stdin, prog_name="stepgrpo")


def test_the_command_asks_as_its_options_say(scripted):
    scripted.stream(chunk(delta={"content": "19"}, finish_reason="stop", reasoning_efficiency=REPORT), chunk(usage=12))
    result = run(
        "--url", scripted.url, "--model", "m", "--max-steps", "2", "--early-exit", "0.9", "--seed", "1", "How?"
    )
    assert result.exit_code == 0, result.output
    assert "19\n\nexit     after step 2" in result.output
    body = scripted.bodies[0]
    assert body["max_reasoning_steps"] == 2
    assert body["early_exit"] == {"policy": "confidence", "threshold": 0.9}
    assert body["seed"] == 1


THINKING_ALOUD = [chunk(delta={"reasoning": "12. Hold on, 19."}), chunk(delta={}, finish_reason="stop"), chunk(usage=9)]


@pytest.mark.parametrize(
    ("markers", "options", "second"),
    [(["Hold on"], [], "  2  Hold on, 19."), (["Wait"], ["--marker", "19"], "  2  19."), (None, [], None)],
)
def test_steps_open_where_the_server_or_the_user_says(scripted, markers, options, second):
    scripted.markers = markers
    scripted.stream(*THINKING_ALOUD)
    lines = run("--url", f"{scripted.url}/v1/", *options, "How?").output.splitlines()
    assert (second in lines) == (second is not None)
    assert (second is None) == ("  1  12. Hold on, 19." in lines)


def test_the_question_may_come_from_standard_input_and_the_answer_as_json(scripted):
    scripted.reply(completion(reasoning_efficiency=REPORT))
    result = run("--url", scripted.url, "--model", "m", "--json", "-", stdin="How much?\n")
    assert scripted.bodies[0]["messages"][0]["content"] == "How much?"
    answer = json.loads(result.output)
    assert (answer["text"], answer["report"]) == ("It is 19.", REPORT)


@pytest.mark.parametrize(
    ("status", "advised"),
    [
        (401, "set STEPGRPO_API_KEY"),
        (400, "refuses the request (400): max_reasoning_steps must be"),
        (500, "failed (500): max_reasoning_steps must be; ask again, and see its log"),
    ],
)
def test_a_refusal_says_what_to_do(scripted, status, advised):
    for _ in range(1 + MAX_RETRIES):
        scripted.reply({"error": {"message": "max_reasoning_steps must be"}}, status, retry_after_ms="1")
    result = run("--url", scripted.url, "--model", "m", "How?")
    assert result.exit_code == 1
    assert advised in result.output


def test_what_had_come_of_an_answer_that_breaks_off_ends_its_line_before_the_error(scripted):
    scripted.stream(*THINKING_ALOUD[:1], done=False, lost=True)
    result = run("--url", scripted.url, "--model", "m", "How?")
    assert result.exit_code == 1
    assert result.output.startswith("  1  12. Hold on, 19.\nstepgrpo ask: ")
    assert "the stream ended before the answer did" in result.output


def test_no_server_and_no_question():
    result = run("--url", "http://127.0.0.1:9", "--timeout", "5", "How?")
    assert result.exit_code == 1
    assert "start one with `stepgrpo serve`" in result.output
    assert run("-", stdin=" \n").output == "stepgrpo ask: the question is empty\n"
