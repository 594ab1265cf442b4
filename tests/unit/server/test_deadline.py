import asyncio
import gc
import json
import weakref

import pytest
from starlette.responses import JSONResponse, Response, StreamingResponse

from server.deadline import Deadline

SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": [], "asgi": {"spec_version": "2.3"}}


async def run(app, seconds=0.05, path="/"):
    """What a client gets that has sent its body and never leaves."""
    sent = []
    body = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        if not body:
            await asyncio.Event().wait()
        return body.pop()

    async def send(message):
        sent.append(message)

    await Deadline(app, seconds)(SCOPE | {"path": path}, receive, send)
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), content, sent[-1].get("more_body", False)


async def test_an_answer_in_time_passes_unchanged():
    status, _, content, more = await run(JSONResponse({"a": 1}), 60)
    assert (status, content, more) == (200, b'{"a":1}', False)


async def test_an_answer_that_comes_too_late_is_a_504_that_is_not_retried():
    aborted = asyncio.Event()

    async def slow(scope, receive, send):
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        aborted.set()
        await Response("null")(scope, receive, send)

    status, headers, content, more = await run(slow)
    assert aborted.is_set()
    assert status == 504
    assert headers[b"x-should-retry"] == b"false"
    assert json.loads(content)["error"]["message"] == "The request took longer than 0.05 seconds and was given up."
    assert more is False


async def test_an_app_that_fails_because_of_the_departure_is_a_504_too():
    async def failing(scope, receive, send):
        await receive()
        await receive()
        raise ConnectionError

    assert (await run(failing))[0] == 504


async def test_a_failure_in_time_is_the_apps_own():
    async def failing(scope, receive, send):
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await run(failing)


async def test_a_request_that_is_cancelled_before_its_time_is_over_stays_cancelled():
    waiting = asyncio.Event()

    async def slow(scope, receive, send):
        await receive()
        waiting.set()
        await receive()

    task = asyncio.create_task(run(slow, 60))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_request_whose_listener_is_cancelled_leaves_nothing_to_the_garbage_collector():
    seen = []

    async def listening(scope, receive, send):
        seen.append(weakref.ref(receive))
        await receive()
        listener = asyncio.create_task(receive())  # as vLLM listens for its client's departure
        await asyncio.sleep(0)
        listener.cancel()
        await Response()(scope, receive, send)

    gc.disable()
    try:
        await run(listening, 60)
        await asyncio.sleep(0)
        assert seen[0]() is None
    finally:
        gc.enable()


async def test_all_that_wait_for_the_client_hear_of_its_departure():
    async def twice(scope, receive, send):
        await receive()
        left = await asyncio.gather(receive(), receive(), asyncio.sleep(0.1))
        assert [message["type"] for message in [*left[:2], await receive()]] == ["http.disconnect"] * 3

    assert (await run(twice))[0] == 504


async def test_a_stream_that_takes_too_long_ends_with_an_error_event():
    closed = asyncio.Event()

    async def endless():
        try:
            while True:
                yield "data: {}\n\n"
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    status, _, content, more = await run(StreamingResponse(endless(), media_type="text/event-stream"))
    assert status == 200
    *_, error, done, rest = content.decode().split("\n\n")
    assert json.loads(error.removeprefix("data: "))["error"]["type"] == "server_error"
    assert (done, rest, more) == ("data: [DONE]", "", False)
    await asyncio.wait_for(closed.wait(), 1)


async def test_a_stream_of_anthropics_api_ends_with_the_error_event_of_that_api():
    async def endless():
        yield "event: ping\ndata: {}\n\n"
        await asyncio.Event().wait()

    answer = StreamingResponse(endless(), media_type="text/event-stream")
    _, _, content, _ = await run(answer, path="/v1/messages")
    _, error, rest = content.decode().split("\n\n")
    event, data = error.split("\n")
    assert (event, rest) == ("event: error", "")
    assert json.loads(data.removeprefix("data: ")) == {
        "type": "error",
        "error": {
            "type": "timeout_error",
            "message": "The request took longer than 0.05 seconds and was given up.",
        },
    }


async def test_a_body_that_never_arrives_is_a_504():
    async def reading(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass

    assert (await run(reading))[0] == 504
