import openai
import pytest
from clients_script import REPORT, chunk, completion

from clients import Answer, AnswerText, AsyncClient, Client, EarlyExit, ExitControl, ThinkingText
from clients.answer import IncompleteAnswerError


@pytest.fixture
def client(scripted):
    client = Client(scripted.url, model="m", max_retries=2)
    yield client
    client.close()


def test_an_answer_has_its_report_typed(client, scripted):
    scripted.reply(completion(reasoning_efficiency=REPORT))
    answer = client.ask("How much is 12 plus 7?")
    assert (answer.thinking, answer.text) == ("12 + 7.\nWait, 19.", "It is 19.")
    assert answer.completion_tokens == 12
    assert answer.report.steps == 2
    assert answer.report.exit.reason == "model"
    assert answer.report.savings_ratio == 0.5
    assert scripted.bodies[0]["messages"] == [{"role": "user", "content": "How much is 12 plus 7?"}]


def test_a_server_without_reports_is_asked_all_the_same(client, scripted):
    scripted.reply(completion())
    assert client.ask("?").report is None


def test_exit_control_and_options_are_fields_of_the_request(client, scripted):
    scripted.reply(completion())
    control = ExitControl(max_reasoning_steps=2, early_exit=EarlyExit(threshold=0.9))
    client.ask("?", control, temperature=0, seed=3)
    body = scripted.bodies[0]
    assert body["max_reasoning_steps"] == 2
    assert body["early_exit"] == {"policy": "confidence", "threshold": 0.9}
    assert "thinking_token_budget" not in body
    assert (body["temperature"], body["seed"]) == (0, 3)


def test_the_mean_of_a_trial_answer_is_sent_where_it_is_chosen():
    control = ExitControl(early_exit=EarlyExit(mean="arithmetic"))
    assert control.extra_body == {"early_exit": {"policy": "confidence", "threshold": 0.95, "mean": "arithmetic"}}


STREAM = [
    chunk(delta={"role": "assistant", "content": ""}),
    chunk(delta={"reasoning": "12 + 7."}),
    chunk(delta={"content": "19"}),
    chunk(delta={"content": "."}, finish_reason="stop", reasoning_efficiency=REPORT),
    chunk(usage=12),
]
EVENTS = [ThinkingText("12 + 7."), AnswerText("19"), AnswerText(".")]


def whole(answer):
    assert isinstance(answer, Answer)
    assert (answer.thinking, answer.text, answer.finish_reason) == ("12 + 7.", "19.", "stop")
    assert answer.completion_tokens == answer.report.tokens.completion == 12
    return True


def test_a_stream_ends_with_the_whole_answer(client, scripted):
    scripted.stream(*STREAM)
    *events, answer = client.stream("?")
    assert events == EVENTS
    assert whole(answer)


async def test_the_asynchronous_client_does_the_same(scripted):
    client = AsyncClient(scripted.url, model="m")
    scripted.stream(*STREAM)
    *events, answer = [event async for event in client.stream("?")]
    assert events == EVENTS
    assert whole(answer)
    scripted.reply(completion(reasoning_efficiency=REPORT))
    assert (await client.ask("?")).report.steps == 2
    await client.close()


@pytest.mark.parametrize("lost", [False, True], ids=["ended", "connection lost"])
async def test_a_stream_that_breaks_off_is_no_answer(client, scripted, lost):
    for _ in range(2):
        scripted.stream(*STREAM[:3], done=False, lost=lost)
    with pytest.raises(IncompleteAnswerError, match="ended before"):
        list(client.stream("?"))
    async with AsyncClient(scripted.url, model="m") as other:
        with pytest.raises(IncompleteAnswerError, match="ended before"):
            [event async for event in other.stream("?")]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_after_the_time_that_it_names(client, scripted, status):
    scripted.reply({"error": {"message": "busy"}}, status, retry_after_ms="10")
    scripted.reply({"error": {"message": "busy"}}, status, retry_after_ms="10")
    scripted.reply(completion())
    assert client.ask("?").text == "It is 19."
    assert len(scripted.bodies) == 3


def test_retries_end(client, scripted):
    for _ in range(3):
        scripted.reply({"error": {"message": "busy"}}, 429, retry_after_ms="1")
    with pytest.raises(openai.RateLimitError):
        client.ask("?")
    assert len(scripted.bodies) == 3


def test_a_refused_request_is_not_repeated(client, scripted):
    scripted.reply({"error": {"message": "no"}}, 400)
    with pytest.raises(openai.BadRequestError):
        client.ask("?")
    assert len(scripted.bodies) == 1


def test_a_client_closes_its_connections_at_the_end_of_its_block(scripted):
    with Client(scripted.url, model="m") as client:
        scripted.reply(completion())
        assert client.ask("?").text == "It is 19."
    assert client.openai.is_closed()


async def test_so_does_the_asynchronous_client(scripted):
    async with AsyncClient(scripted.url, model="m") as client:
        scripted.reply(completion())
        assert (await client.ask("?")).text == "It is 19."
    assert client.openai.is_closed()


def test_the_key_comes_from_the_environment(scripted, monkeypatch):
    monkeypatch.setenv("STEPGRPO_API_KEY", "own")
    for client in (Client(scripted.url + "/v1/", model="m"), Client(scripted.url, model="m", api_key="given")):
        scripted.reply(completion())
        client.ask("?")
    assert scripted.keys == ["Bearer own", "Bearer given"]


def test_a_key_for_openai_is_sent_to_nobody_else(scripted, monkeypatch):
    monkeypatch.delenv("STEPGRPO_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    scripted.reply(completion())
    Client(scripted.url, model="m").ask("?")
    assert scripted.keys == ["Bearer none"]
