"""Unruly clients: some leave before their answer ends, some ask nonsense; afterwards the server's books must balance.

``python -m loadtests.unruly http://127.0.0.1:8000 --requests 10000`` ends with status 1 where they do not.
"""

import asyncio
import json
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Annotated, Any, Final, Literal

import httpx
import typer
from prometheus_client.parser import text_string_to_metric_families

CHAT: Final = "/v1/chat/completions"
TEXT: Final = "/v1/completions"
SETTLE_SECONDS: Final = 30
ANSWER_SECONDS: Final = 300.0
MOST_GROWTH: Final = 32 * 2**20
"""Bytes that the server's memory may grow by once a quarter of the requests has warmed it up."""
MOST_FILES: Final = 8
"""File descriptors that may be open in the end beside those before: connections that are kept alive."""

Fate = Literal["answered", "left", "refused"]


@dataclass(frozen=True, slots=True)
class Client:
    """What one client does.

    Attributes:
        fate: ``answered`` waits for its answer, ``left`` goes before it ends, ``refused`` asks what cannot be answered.
        path: route.
        body: JSON, or bytes that are none.
        patience: seconds after which a client that does not stream leaves; one that does leaves at the first event.
        headers: beside the usual ones.
    """

    fate: Fate
    path: str
    body: dict[str, Any] | bytes
    patience: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def streams(self) -> bool:
        """Whether it asks for a stream."""
        return isinstance(self.body, dict) and bool(self.body.get("stream"))


@dataclass(slots=True)
class Seen:
    """What the clients saw.

    Attributes:
        clients: that had each fate.
        choices: that were answered, by the reason of their exit.
        tokens: completion tokens of the answers.
        begun: clients that left after their answer had begun.
        wrong: what should not have happened, one line each.
    """

    clients: Counter[Fate] = field(default_factory=Counter)
    choices: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    begun: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Books:
    """What the server says of itself.

    Attributes:
        requests: that the engine took on.
        exits: choices by the reason of their exit, ``abort`` included.
        answers: choices in the histograms.
        tokens: completion tokens in the histogram.
        vllm_tokens: the same by vLLM's count.
        running: requests in the engine now, waiting ones included.
        memory: resident bytes of the server's process.
        files: its open file descriptors.
    """

    requests: int
    exits: Counter[str]
    answers: int
    tokens: int
    vllm_tokens: int
    running: int
    memory: int
    files: int


def clients(model: str, count: int, leaving: float, malformed: float, seed: int) -> list[Client]:
    """Draw clients; the shares of the unruly ones are exact."""
    random = Random(seed)
    lefts, refusals = round(count * leaving), round(count * malformed)
    fates: list[Fate] = [
        "left" if i < lefts else "refused" if i < lefts + refusals else "answered" for i in range(count)
    ]
    random.shuffle(fates)
    draw = {"answered": _patient, "left": _leaving, "refused": _malformed}
    return [draw[fate](model, random) for fate in fates]


def _question(model: str, random: Random) -> tuple[str, dict[str, Any]]:
    text = f"How much is {random.randrange(50)} plus {random.randrange(50)}?"
    if random.random() < 0.5:
        return CHAT, {"model": model, "messages": [{"role": "user", "content": text}]}
    return TEXT, {"model": model, "prompt": text}


def _patient(model: str, random: Random) -> Client:
    path, body = _question(model, random)
    body |= {"max_tokens": random.randint(1, 24), "n": random.choice((1, 1, 1, 2)), "stream": random.random() < 0.5}
    return Client("answered", path, body)


def _leaving(model: str, random: Random) -> Client:
    path, body = _question(model, random)
    body |= {"max_tokens": 600, "ignore_eos": True, "stream": random.random() < 0.5}
    return Client("left", path, body, patience=random.uniform(0.001, 0.2))


def _malformed(model: str, random: Random) -> Client:
    path, body = _question(model, random)
    whole = json.dumps(body).encode()
    nonsense: list[tuple[str, dict[str, Any] | bytes, dict[str, str]]] = [
        (path, whole[: random.randrange(len(whole))], {}),
        (path, b"\xff\x00" + whole, {}),
        (path, body | {"max_tokens": -1}, {}),
        (path, body | {"temperature": "hot"}, {}),
        (path, body | {"model": "nobody"}, {}),
        (path, {"model": model}, {}),
        (path, body | {"n": 10**9}, {}),
        (path, body | {"max_reasoning_steps": 0}, {}),
        ("/v1/nowhere", body, {}),
        (path, body, {"x-filler": "x" * 100_000}),
    ]
    path, content, headers = random.choice(nonsense)
    return Client("refused", path, content, headers=headers)


async def send(http: httpx.AsyncClient, client: Client, seen: Seen) -> None:
    """Let a client do what it does."""
    seen.clients[client.fate] += 1
    try:
        if client.fate == "refused":
            seen.wrong += await _refused(http, client)
        elif client.fate == "left":
            seen.begun += await _leave(http, client)
        else:
            seen.wrong += await _answered(http, client, seen)
    except httpx.HTTPError as error:
        seen.wrong.append(f"{client.fate}: {type(error).__name__} {error}")


async def _refused(http: httpx.AsyncClient, client: Client) -> list[str]:
    answer = await _post(http, client)
    with suppress(ValueError, KeyError, TypeError):
        if 400 <= answer.status_code < 500 and answer.json()["error"]["message"]:
            return []
    return [f"{client.path} {str(client.body)[:200]}: status {answer.status_code}, {answer.text[:200]}"]


async def _leave(http: httpx.AsyncClient, client: Client) -> bool:
    """Whether the answer had begun."""
    if client.streams:
        async with http.stream("POST", client.path, json=client.body) as answer:
            async for _ in answer.aiter_bytes():
                return True
        return False
    with suppress(TimeoutError):
        await asyncio.wait_for(_post(http, client), client.patience)
        return True
    return False


async def _answered(http: httpx.AsyncClient, client: Client, seen: Seen) -> list[str]:
    wanted = client.body["n"] if isinstance(client.body, dict) else 1
    reports = []
    if client.streams:
        async with http.stream("POST", client.path, json=client.body) as answer:
            lines = [line.removeprefix("data: ") async for line in answer.aiter_lines() if line]
        events = [json.loads(line) for line in lines if line != "[DONE]"]
        choices = [choice for event in events for choice in event.get("choices", ()) if choice["finish_reason"]]
        complete = bool(lines) and lines[-1] == "[DONE]"
    else:
        answer = await _post(http, client)
        choices = answer.json().get("choices", [])
        complete = True
    reports = [choice["reasoning_efficiency"] for choice in choices if "reasoning_efficiency" in choice]
    if answer.status_code != 200 or not complete or len(reports) != wanted:
        return [f"{client.path}: status {answer.status_code}, {len(reports)} of {wanted} choices"]
    seen.choices.update(report["exit"]["reason"] for report in reports)
    seen.tokens += sum(report["tokens"]["completion"] for report in reports)
    return []


async def _post(http: httpx.AsyncClient, client: Client) -> httpx.Response:
    body = client.body
    if isinstance(body, bytes):
        headers = {"content-type": "application/json"} | client.headers
        return await http.post(client.path, content=body, headers=headers)
    return await http.post(client.path, json=body, headers=client.headers)


async def read_books(http: httpx.AsyncClient) -> Books:
    """The server's books as they are now."""
    sums: Counter[str] = Counter()
    exits: Counter[str] = Counter()
    for family in text_string_to_metric_families((await http.get("/metrics")).text):
        for sample in family.samples:
            sums[sample.name] += int(sample.value)
            if sample.name == "stepgrpo_exits_total":
                exits[sample.labels["reason"]] += int(sample.value)
    models = (await http.get("/v1/efficiency")).json()["data"]
    return Books(
        requests=sum(model["requests"] for model in models),
        exits=exits,
        answers=sums["stepgrpo_completion_tokens_count"],
        tokens=sums["stepgrpo_completion_tokens_sum"],
        vllm_tokens=sums["vllm:request_generation_tokens_sum"],
        running=sums["vllm:num_requests_running"] + sums["vllm:num_requests_waiting"],
        memory=sums["process_resident_memory_bytes"],
        files=sums["process_open_fds"],
    )


async def settled_books(http: httpx.AsyncClient) -> Books:
    """The server's books once nothing runs any more, or after a while."""
    for _ in range(SETTLE_SECONDS * 2):
        books = await read_books(http)
        await asyncio.sleep(0.5)
        if books.running == 0 and books == (again := await read_books(http)):
            return again
    return books


def audit(seen: Seen, before: Books, after: Books) -> list[str]:
    """Hold what the clients saw against the gain in the server's books; one line for each thing that does not fit."""
    exits = after.exits - before.exits
    answered = sum(seen.choices.values())
    left = after.requests - before.requests - (seen.clients["answered"])
    finished = exits.total() - exits["abort"]
    checks = {
        f"{exits.total()} exits, but {answered} choices answered and {left} left": exits.total() == answered + left,
        f"{left} left in the engine, of {seen.clients['left']}, {seen.begun} of them with an answer begun": (
            seen.begun <= left <= seen.clients["left"]
        ),
        f"exits {dict(exits)}, but answered {dict(seen.choices)}": seen.choices <= exits,
        f"{after.answers - before.answers} answers in the histograms, but {finished} exits": (
            after.answers - before.answers == finished
        ),
        f"{after.tokens - before.tokens} tokens, but vLLM has {after.vllm_tokens - before.vllm_tokens}": (
            after.tokens - before.tokens == after.vllm_tokens - before.vllm_tokens
        ),
        f"{after.tokens - before.tokens} tokens, but {seen.tokens} were answered": (
            after.tokens - before.tokens >= seen.tokens
        ),
        f"{after.running} requests in the engine": after.running == 0,
        f"{before.files} open files became {after.files}": after.files <= before.files + MOST_FILES,
    }
    return [line for line, fits in checks.items() if not fits]


async def run(url: str, drawn: list[Client], concurrency: int, seen: Seen) -> None:
    """Send clients, so many at a time."""
    waiting = iter(drawn)
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(base_url=url, timeout=ANSWER_SECONDS, limits=limits) as http:

        async def work() -> None:
            for client in waiting:
                await send(http, client, seen)

        await asyncio.gather(*(work() for _ in range(concurrency)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a rehearsal went: its figures, a line each, and what was wrong, a line each."""

    figures: list[str]
    wrong: list[str]


async def rehearse(url: str, requests: int, concurrency: int, seed: int) -> Outcome:
    """Send unruly clients: of ten one leaves, of twenty one asks nonsense. Then audit the server's books."""
    unshared = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, timeout=ANSWER_SECONDS, limits=unshared) as http:
        model = (await http.get("/v1/models")).json()["data"][0]["id"]
        drawn = clients(model, requests, leaving=0.10, malformed=0.05, seed=seed)
        before, seen = await settled_books(http), Seen()
        await run(url, drawn[: requests // 4], concurrency, seen)
        warm = await settled_books(http)
        await run(url, drawn[requests // 4 :], concurrency, seen)
        after = await settled_books(http)
    wrong = seen.wrong + audit(seen, before, after)
    grown = after.memory - warm.memory
    if grown > MOST_GROWTH:
        wrong.append(f"the memory grew by {grown >> 20} MiB")
    return Outcome(
        figures=[
            f"{requests} clients: " + ", ".join(f"{count} {fate}" for fate, count in sorted(seen.clients.items())),
            f"exits: {dict(after.exits - before.exits)}",
            f"memory: {before.memory >> 20} MiB, {warm.memory >> 20} after a quarter, {after.memory >> 20} in the end",
            f"open files: {before.files}, {warm.files}, {after.files}",
        ],
        wrong=wrong,
    )


def main(
    url: Annotated[str, typer.Argument(help="The server's address, without /v1.")],
    requests: Annotated[int, typer.Option(min=4, help="Clients in all.")] = 10_000,
    concurrency: Annotated[int, typer.Option(min=1, help="Clients at a time.")] = 32,
    seed: Annotated[int, typer.Option(help="Of what the clients do.")] = 0,
) -> None:
    """Send clients of whom 10 % leave early and 5 % ask nonsense, then audit the server's metrics."""
    outcome = asyncio.run(rehearse(url, requests, concurrency, seed))
    for line in outcome.figures:
        typer.echo(line)
    for line in outcome.wrong:
        typer.echo(f"wrong: {line}")
    typer.echo("the books balance" if not outcome.wrong else "the books do not balance")
    sys.exit(bool(outcome.wrong))


if __name__ == "__main__":
    typer.run(main)
