"""The client and its commands against the real server."""

import pytest
from typer.testing import CliRunner

import stepgrpo
from clients import Answer, AsyncClient, Client, ExitControl, ThinkingText
from reasoning import count_steps

pytestmark = pytest.mark.integration

QUESTION = (
    "Sam starts with 33 coins and gets 4 more each day. How many coins does Sam have"
    " the first time that 7 friends can share them equally?"
)


@pytest.fixture
def client(server):
    client = Client(server.url)
    yield client
    client.close()


def test_an_answer_and_its_stream_are_the_same(client, server):
    answer = client.ask(QUESTION, temperature=0)
    *events, streamed = client.stream(QUESTION, temperature=0)
    assert client.model == server.model
    assert streamed == answer
    assert "".join(event.text for event in events if isinstance(event, ThinkingText)) == answer.thinking
    assert answer.report.tokens.completion == answer.completion_tokens
    assert answer.report.steps == count_steps(answer.thinking, server.card.markers)


def test_the_step_budget_ends_the_thinking(client):
    free = client.ask(QUESTION, temperature=0)
    answer = client.ask(QUESTION, ExitControl(max_reasoning_steps=1), temperature=0)
    assert answer.report.steps == 1
    if free.report.steps > 1:
        assert answer.report.exit.reason == "step_budget"


async def test_the_asynchronous_client(server):
    client = AsyncClient(server.url)
    answer = await client.ask(QUESTION, temperature=0)
    assert isinstance(answer, Answer)
    assert [event async for event in client.stream(QUESTION, temperature=0)][-1] == answer
    await client.close()


def run(*arguments):
    return CliRunner().invoke(stepgrpo.app, arguments, prog_name="stepgrpo", env={"COLUMNS": "200"})


def test_ask(server, client):
    answer = client.ask(QUESTION, temperature=0)
    result = run("ask", "--url", server.url, "--temperature", "0", QUESTION)
    assert result.exit_code == 0, result.output
    assert f"tokens   {answer.completion_tokens} = " in result.output
    assert f"\n  {answer.report.steps}  " in "\n" + result.output


def test_a_checkpoint_compared_with_itself_saves_exactly_nothing(server, tmp_path):
    questions = tmp_path / "questions"
    questions.write_text(QUESTION + "\nHow much is 12 plus 7?\n")
    both = ["--base", server.url, "--tuned", server.url]
    result = run("compare", *both, "--temperature", "0", "--output", str(tmp_path), str(questions))
    assert result.exit_code == 0, result.output
    assert "saves 0.0% of the tokens" in result.output
    assert (tmp_path / "compare.svg").exists()
