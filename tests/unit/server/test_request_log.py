"""One line for each request, with its report and without a word of what was said."""

import json
import logging

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from server.exchange import current_exchange
from server.request_id import RequestId
from server.request_log import RequestLog


@pytest.fixture
def ask(bench, caplog):
    """Sends a request to an app over a metered fake engine; returns the fields of the lines."""
    caplog.set_level(logging.INFO, "server.request_log")

    async def generate():
        bench.script.outputs = [bench.output((0, "<think>secret</think> b", "stop"))]
        engine = bench.engine
        return [output async for output in engine.generate("prompt", bench.sampling(), "id")]

    async def whole(request):
        await generate()
        return JSONResponse({"text": "secret"})

    async def stream(request):
        async def events():
            for _ in await generate():
                yield "data: secret\n\n"

        return StreamingResponse(events())

    async def refused(request):
        current_exchange().client = "alice"
        return JSONResponse({"error": "secret"}, 401)

    async def failing(request):
        raise ValueError

    paths = {"/whole": whole, "/stream": stream, "/refused": refused, "/failing": failing, "/metrics": refused}
    routes = [Route(path, endpoint, methods=["POST"]) for path, endpoint in paths.items()]
    transport = httpx.ASGITransport(RequestId(RequestLog(Starlette(routes=routes))), raise_app_exceptions=False)

    async def send(path):
        caplog.clear()
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            await http.post(path, json={"prompt": "secret"}, headers={"x-request-id": "mine"})
        assert "secret" not in json.dumps([vars(record) for record in caplog.records], default=str)
        return [vars(record) for record in caplog.records if record.name == "server.request_log"]

    return send


@pytest.mark.parametrize("path", ["/whole", "/stream"])
async def test_an_answer(ask, path):
    (line,) = await ask(path)
    assert (line["request_id"], line["client"], line["method"], line["path"]) == ("mine", "anonymous", "POST", path)
    assert (line["status"], line["model"], line["aborted"]) == (200, "tuned", 0)
    assert line["seconds"] > 0
    (choice,) = line["choices"]
    assert choice["exit"]["reason"] == "model"
    assert choice["tokens"]["completion"] == line["completion_tokens"] > 0
    assert line["prompt_tokens"] > 0


@pytest.mark.parametrize(("path", "status", "client"), [("/refused", 401, "alice"), ("/failing", 500, "anonymous")])
async def test_a_refusal_or_an_error(ask, path, status, client):
    (line,) = await ask(path)
    assert (line["status"], line["client"]) == (status, client)
    assert "model" not in line


async def test_a_client_that_leaves_before_its_answer_begins_has_no_status(caplog):
    caplog.set_level(logging.INFO, "server.request_log")

    async def gone():
        return {"type": "http.disconnect"}

    async def sent(message): ...

    async def app(scope, receive, send):
        await receive()
        await JSONResponse(None)(scope, receive, send)  # as vLLM's handlers do

    await RequestLog(app)({"type": "http", "method": "POST", "path": "/v1/completions"}, gone, sent)
    assert [record.status for record in caplog.records] == [None]


async def test_probes_are_not_logged(ask):
    assert await ask("/metrics") == []
