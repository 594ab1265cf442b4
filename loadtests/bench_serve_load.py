"""Closed-loop load on one OpenAI-compatible server: as many requests in flight as asked for, until all are answered."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from ssl import SSLContext
from typing import Final

import httpx

TIMEOUT_SECONDS: Final = 300

Clock = Callable[[], float]
"""Seconds since some moment."""


class LoadError(Exception):
    """A server did not answer as it should; the message is one line."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to ask for.

    Attributes:
        concurrency: requests in flight.
        requests: in all.
        tokens: completion tokens of each answer; the model is kept from ending earlier.
        stream: answers come as streams.
    """

    concurrency: int
    requests: int
    tokens: int
    stream: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of a load.

    Attributes:
        seconds: from the first request to the last answer.
        completion_tokens: of all answers, as the server's usage counts them.
        first: seconds to each answer's first token; to the whole answer where it is no stream.
        cpu_seconds: of the server, where they can be told.
    """

    seconds: float
    completion_tokens: int
    first: tuple[float, ...]
    cpu_seconds: float | None = None

    @property
    def throughput(self) -> float:
        """Completion tokens per second."""
        return self.completion_tokens / self.seconds


async def run_load(url: str, model: str, load: Load, seed: int, clock: Clock = time.perf_counter) -> Measured:
    """Put a load on a server.

    Args:
        url: of the server, without ``/v1``.
        model: to ask for.
        load: the requests.
        seed: of the prompts; equal seeds ask equal questions.
        clock: what all is timed with.

    Raises:
        LoadError: a request failed.
    """
    bodies = _bodies(model, load, seed)
    first: list[float] = []
    tokens: list[int] = []

    async def worker(client: httpx.AsyncClient) -> None:
        for body in bodies:
            took, count = await (_stream if load.stream else _whole)(client, body, clock)
            first.append(took)
            tokens.append(count)

    trusted = httpx.create_ssl_context(trust_env=False)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(_client(url, trusted)) for _ in range(load.concurrency)]
        begun = clock()
        try:
            await asyncio.gather(*map(worker, clients))
        except (httpx.HTTPError, KeyError, ValueError) as error:
            raise LoadError(f"{url} did not answer: {type(error).__name__} {error}") from error
        seconds = clock() - begun
    return Measured(seconds, sum(tokens), tuple(first))


def _client(url: str, trusted: SSLContext) -> httpx.AsyncClient:
    """A client with a connection of its own: in a pool of a hundred, finding the free one takes httpx seconds."""
    return httpx.AsyncClient(base_url=url, verify=trusted, timeout=TIMEOUT_SECONDS, trust_env=False)


def _bodies(model: str, load: Load, seed: int) -> Iterator[bytes]:
    """Bodies of all requests; the workers share the iterator. No two prompts begin alike, so none is cached."""
    for number in range(load.requests):
        question = f"{seed}-{number}: Tom has {number % 89} apples and buys {seed % 10} more. How many does he have?"
        body = {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": load.tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": load.stream,
        }
        yield json.dumps(body | ({"stream_options": {"include_usage": True}} if load.stream else {})).encode()


async def _whole(client: httpx.AsyncClient, body: bytes, clock: Clock) -> tuple[float, int]:
    begun = clock()
    answer = await client.post("/v1/chat/completions", content=body, headers=JSON)
    answer.raise_for_status()
    return clock() - begun, int(answer.json()["usage"]["completion_tokens"])


async def _stream(client: httpx.AsyncClient, body: bytes, clock: Clock) -> tuple[float, int]:
    """Time to the first event that brings text, and the tokens that the last one counts."""
    begun = clock()
    first, last = 0.0, ""
    async with client.stream("POST", "/v1/chat/completions", content=body, headers=JSON) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            if not first and '"role"' not in line:
                first = clock() - begun
            last = line
    return first, int(json.loads(last.removeprefix("data: "))["usage"]["completion_tokens"])


JSON = {"content-type": "application/json"}
