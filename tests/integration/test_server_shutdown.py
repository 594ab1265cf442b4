"""Last of the tests of the shared server, because it stops it: SIGTERM, a restart and SIGKILL, all under load."""

import asyncio
import json
import signal
import socket
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import psutil
import pytest
from real_server import start_server, stop_server

pytestmark = pytest.mark.integration

CHAT = "/v1/chat/completions"
CLIENTS = 12
AWAY = (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError)


@dataclass
class Load:
    """Clients that ask without a pause, and ask again where nobody is there.

    Every second one asks for a stream, every third one for an early exit, which takes many requests of the engine.

    Attributes:
        outcomes: ``answered``, ``refused`` (503), ``away`` (no connection), ``error`` (said so in the answer).
        broken: answers that ended without a word.
    """

    url: str
    model: str
    outcomes: Counter = field(default_factory=Counter)
    broken: list = field(default_factory=list)
    signalled: float = float("inf")
    done: bool = False

    async def run(self):
        await asyncio.gather(*(self._client(number) for number in range(CLIENTS)))

    async def _client(self, number):
        unshared = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=self.url, timeout=60, limits=unshared) as http:
            while not self.done:
                outcome = await self._ask(http, stream=number % 2 == 0, steered=number % 3 == 0)
                self.outcomes[outcome] += 1
                if outcome != "answered":
                    await asyncio.sleep(0.2)

    async def _ask(self, http, stream, steered):
        body = {"model": self.model, "messages": [{"role": "user", "content": "How much is 12 plus 7?"}]}
        body |= {"max_tokens": 400 if stream else 60, "ignore_eos": True, "stream": stream}
        body |= {"early_exit": {"policy": "confidence", "threshold": 0.999}} if steered else {}
        began = time.monotonic()
        try:
            async with http.stream("POST", CHAT, json=body) as answer:
                status, text = answer.status_code, (await answer.aread()).decode()
        except AWAY as error:
            if began < self.signalled - 0.1:
                self.broken.append(repr(error))
            return "away"
        if status != 200:
            assert json.loads(text)["error"]["type"] == "server_error"
            return "refused" if status == 503 else "error"
        if stream and '"error"' in text:
            assert text.endswith("data: [DONE]\n\n")
            return "error"
        reports = text.count('"reasoning_efficiency":{')
        if (reports, text.endswith("data: [DONE]\n\n")) != (1, stream):
            self.broken.append(text[-300:])
        return "answered"

    async def reaches(self, outcome, more):
        """Wait for so many more of an outcome."""
        wanted = self.outcomes[outcome] + more
        async with asyncio.timeout(60):
            while self.outcomes[outcome] < wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@contextmanager
def standing_still(url):
    """A client that begins to send a request, and then does nothing more."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: {address.host}\r\nContent-Type: application/json\r\n"
        connection.sendall(f'{head}Content-Length: 100\r\n\r\n{{"model": "'.encode())
        yield


async def test_sigterm_under_load_loses_nothing_and_after_a_restart_all_goes_on(server, checkpoint, tmp_path):
    load = Load(server.url, server.model)
    running = asyncio.create_task(load.run())
    await load.reaches("answered", 3 * CLIENTS)
    with standing_still(server.url):
        load.signalled = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.process.wait, 60) == 0
    await load.reaches("away", 1)
    again = await asyncio.to_thread(start_server, checkpoint, tmp_path / "log", port=int(server.url.split(":")[-1]))
    try:
        await load.reaches("answered", 3 * CLIENTS)
        assert load.broken == []
        assert load.outcomes["error"] == 0

        with standing_still(again.url):
            for process in psutil.Process(again.process.pid).children(recursive=True):
                process.kill()
            load.signalled = time.monotonic()
            code = await asyncio.to_thread(again.process.wait, 30)
        load.done = True
        await running
        assert code == 1
        assert load.broken == []
        assert load.outcomes["error"] + load.outcomes["refused"] > 0
    finally:
        stop_server(again)
