import json
from types import SimpleNamespace

import pytest
from pydantic import BaseModel, ConfigDict

from reasoning import parse_trace
from server.exit_control import asked_exit_control
from server.report import ResponseReports, collecting, current_reports, report_of
from server.responses import with_reports, with_response_report
from server.savings import Baseline

REPORT = report_of(parse_trace("<think>a</think>b", tokens=8), Baseline("calibrated", 0.5, 20.0))


class RefusedError(Exception):
    """Of a message and a parameter."""


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Details(Open):
    reasoning_tokens: int = 0


class Usage(Open):
    completion_tokens: int = 16
    completion_tokens_details: Details | None = None


class Answer(Open):
    index: int = 0


class Response(Open):
    choices: list[Answer]
    usage: Usage | None


class Asked(Open):
    messages: list[str] = ["hi"]


def chunk(**values):
    return f"data: {json.dumps(values, separators=(',', ':'))}\n\n"


def answering(*events, reports=1):
    """A handler that streams ``events`` and has its first choices reported."""

    async def handler(request, raw_request=None):
        where = current_reports()
        for _ in range(reports):
            where.add(where.claim(1), REPORT)

        async def stream():
            for event in events:
                yield event

        return stream()

    return handler


async def streamed(handler, **values):
    return [event async for event in await with_reports(handler, RefusedError)(Asked(**values), None)]


async def test_every_choice_of_a_response_carries_its_report():
    async def handler(request, raw_request=None):
        where = current_reports()
        where.add(1, REPORT)
        return Response(choices=[Answer(index=0), Answer(index=1)], usage=Usage())

    response = (await with_reports(handler, RefusedError)(Asked(), None)).model_dump()
    assert response["choices"][0] == {"index": 0}
    assert response["choices"][1]["reasoning_efficiency"] == REPORT
    assert response["usage"]["completion_tokens_details"]["reasoning_tokens"] == REPORT["tokens"]["reasoning"]
    assert response["usage"]["completion_tokens"] == 16


async def test_a_request_can_turn_the_report_off_but_not_the_usage():
    async def handler(request, raw_request=None):
        current_reports().add(0, REPORT)
        return Response(choices=[Answer()], usage=Usage(completion_tokens_details=Details(reasoning_tokens=0)))

    response = (await with_reports(handler, RefusedError)(Asked(reasoning_efficiency=False), None)).model_dump()
    assert response["choices"] == [{"index": 0}]
    assert response["usage"]["completion_tokens_details"]["reasoning_tokens"] == REPORT["tokens"]["reasoning"]


async def test_a_stream_carries_the_report_where_the_choice_ends():
    plain = [
        chunk(choices=[{"index": 0, "delta": {"content": 'a "finish_reason":"stop"'}, "finish_reason": None}]),
        chunk(choices=[{"index": 0, "delta": {"content": "é"}, "finish_reason": None}]),
    ]
    last = chunk(choices=[{"index": 0, "delta": {"content": "ü"}, "finish_reason": "stop"}])
    events = await streamed(answering(*plain, last, "data: [DONE]\n\n"))
    assert events[:2] == plain
    assert events[3] == "data: [DONE]\n\n"
    ended = json.loads(events[2].removeprefix("data: "))["choices"][0]
    assert ended.pop("reasoning_efficiency") == REPORT
    assert ended == {"index": 0, "delta": {"content": "ü"}, "finish_reason": "stop"}
    assert events[2].endswith("\n\n")


async def test_the_usage_of_a_stream_is_corrected():
    usage = chunk(choices=[], usage={"completion_tokens": 16, "completion_tokens_details": {"reasoning_tokens": 0}})
    (event,) = await streamed(answering(usage, reports=2))
    body = json.loads(event.removeprefix("data: "))
    assert body["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2 * REPORT["tokens"]["reasoning"]}
    assert body["choices"] == []


async def test_a_running_usage_is_corrected_per_choice():
    ended = chunk(choices=[{"index": 1, "finish_reason": "stop"}], usage={"completion_tokens": 8})
    (event,) = await streamed(answering(ended, reports=2))
    body = json.loads(event.removeprefix("data: "))
    assert body["usage"]["completion_tokens_details"] == {"reasoning_tokens": REPORT["tokens"]["reasoning"]}


async def test_a_stream_with_the_report_turned_off():
    last = chunk(choices=[{"index": 0, "finish_reason": "stop"}])
    assert await streamed(answering(last), reasoning_efficiency=False) == [last]


async def test_a_choice_without_a_report_stays_as_it_is():
    last = chunk(choices=[{"index": 0, "finish_reason": "stop"}], usage={"completion_tokens": 8})
    assert await streamed(answering(last, reports=0)) == [last]


async def test_an_error_within_a_stream_is_worded_as_all_errors_are():
    error = f"data: {json.dumps({'error': {'message': 'no', 'type': 'InternalServerError', 'code': 500}})}\n\n"
    (event,) = await streamed(answering(error))
    assert json.loads(event.removeprefix("data: "))["error"] == {
        "message": "no",
        "type": "server_error",
        "param": None,
        "code": None,
    }


async def test_errors_pass():
    error = object()

    async def handler(request, raw_request=None):
        return error

    assert await with_reports(handler, RefusedError)(Asked(), None) is error


async def test_a_client_that_leaves_ends_the_stream_behind():
    closed = []

    async def handler(request, raw_request=None):
        async def stream():
            try:
                yield "data: 1\n\n"
                yield "data: 2\n\n"
            finally:
                closed.append(True)

        return stream()

    stream = await with_reports(handler, RefusedError)(Asked(), None)
    await anext(stream)
    await stream.aclose()
    assert closed == [True]


@pytest.mark.parametrize(
    ("values", "param"), [({"messages": []}, "messages"), ({"reasoning_efficiency": "no"}, "reasoning_efficiency")]
)
async def test_what_is_refused_before_vllm_sees_it(values, param):
    with pytest.raises(RefusedError) as refused:
        await with_reports(answering(), RefusedError)(Asked(**values), None)
    assert refused.value.args[1] == param


class Whole(Open):
    output: list[str]
    usage: BaseModel | None


class OutputUsage(Open):
    output_tokens_details: Details


async def test_an_object_of_the_responses_api_carries_the_report_itself():
    async def finish():
        return Whole(output=[], usage=OutputUsage(output_tokens_details=Details()))

    for wanted in (True, False):
        with collecting(ResponseReports(wanted)) as reports:
            reports.add(0, REPORT)
            whole = (await with_response_report(finish)()).model_dump(serialize_as_any=True)
        assert whole.get("reasoning_efficiency") == (REPORT if wanted else None)
        assert whole["usage"]["output_tokens_details"]["reasoning_tokens"] == REPORT["tokens"]["reasoning"]


async def test_a_stream_that_calls_the_engine_late_still_finds_its_request():
    async def handler(request, raw_request=None):
        async def stream():
            for _ in range(2):
                yield (current_reports(), asked_exit_control.get().max_reasoning_steps)

        return stream()

    asked = Asked(max_reasoning_steps=3)
    events = [event async for event in await with_reports(handler, RefusedError, lazy=True)(asked, None)]
    (first, steps), second = events[0], events[1]
    assert first is not None
    assert second == (first, steps)
    assert steps == 3
    assert (current_reports(), asked_exit_control.get().max_reasoning_steps) == (None, None)


class Event(Open):
    type: str = "response.created"
    sequence_number: int = 0


@pytest.mark.parametrize(
    ("error", "code", "param"),
    [
        (SimpleNamespace(message="leave it out", parameter="min_tokens"), "invalid_request_error", "min_tokens"),
        (SimpleNamespace(message="the engine died", parameter=None), "server_error", None),
    ],
)
async def test_a_late_stream_that_fails_says_so_in_its_last_event(error, code, param):
    failure = RuntimeError(error.message)
    if error.parameter is not None:
        failure.parameter = error.parameter

    async def handler(request, raw_request=None):
        async def stream():
            yield Event(sequence_number=0)
            yield Event(sequence_number=1)
            raise failure

        return stream()

    *begun, last = [event async for event in await with_reports(handler, RefusedError, lazy=True)(Asked(), None)]
    assert [event.sequence_number for event in begun] == [0, 1]
    said = json.loads(last.model_dump_json())
    assert said["error"] == {"message": error.message, "type": code, "param": param, "code": None}
    assert (said["type"], said["sequence_number"]) == ("error", 2)
    assert (said["message"], said["code"], said["param"]) == (error.message, code, param)


async def test_a_late_handler_is_not_begun_where_the_request_would_be_refused():
    def check(request):
        raise RefusedError("leave it out", "presence_penalty")

    async def handler(request, raw_request=None):
        pytest.fail("it was begun")

    with pytest.raises(RefusedError):
        await with_reports(handler, RefusedError, check, lazy=True)(Asked(), None)


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"max_reasoning_steps": 0}, "max_reasoning_steps"),
        ({"early_exit": {"policy": "luck"}}, "early_exit.policy"),
    ],
)
async def test_exit_control_that_does_not_fit_is_refused(values, param):
    with pytest.raises(RefusedError) as refused:
        await with_reports(answering(), RefusedError)(Asked(**values), None)
    assert refused.value.args[1] == param


NO_THINKING = report_of(parse_trace("just an answer", tokens=8), Baseline())


async def test_the_usage_of_an_answer_without_thinking_stays_as_it_is():
    async def handler(request, raw_request=None):
        current_reports().add(0, NO_THINKING)
        return Response(choices=[Answer()], usage=Usage())

    response = await with_reports(handler, RefusedError)(Asked(), None)
    assert response.usage == Usage()
    ended = chunk(choices=[{"index": 0, "finish_reason": "stop"}], usage={"completion_tokens": 8})
    (event,) = [event async for event in _reported(handler, ended)]
    assert json.loads(event.removeprefix("data: "))["usage"] == {"completion_tokens": 8}


async def _reported(handler, event):
    async def streaming(request, raw_request=None):
        await handler(request)

        async def stream():
            yield event

        return stream()

    async for each in await with_reports(streaming, RefusedError)(Asked(), None):
        yield each
