"""A drawn share of the requests is asked again of the base model, and nobody who asks notices."""

import asyncio
import contextlib
import json
from types import SimpleNamespace

import httpx
import pytest
import uvicorn
from scripted_server import ScriptedServer
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from server.replay import MARK, OWN, BaseModel, replay_of
from server.request_id import RequestId
from server.settings import ServerSettings
from server.shadow import LAST, PRIORITY, Shadow, ShadowedRequests, shadowing

CHAT = "/v1/chat/completions"
QUESTION = {"model": "tuned", "messages": [{"role": "user", "content": "1 plus 2?"}], "temperature": 0.5, "seed": 3}


class Engine:
    draining = False
    errored = False
    unfinished = 0

    def __init__(self, policy="fcfs"):
        self.vllm_config = SimpleNamespace(scheduler_config=SimpleNamespace(policy=policy))

    def get_num_unfinished_requests(self):
        return self.unfinished


class WaitingBase:
    """Answers when it is told to."""

    def __init__(self):
        self.asked = self.cancelled = 0
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def completion_tokens(self, path, request):
        self.asked += 1
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return 100

    async def close(self):
        pass


class House:
    """An app over a metered fake engine, whose answers have ten tokens. It serves a model and its adapters."""

    def __init__(self, bench, base, engine=None, **settings):
        self.bench, self.engine, self.asked = bench, engine or Engine(), []
        self.shadow = Shadow(base, bench.meter, self.engine, ServerSettings(**({"shadow_share": 1.0} | settings)))
        self.finish = "stop"
        routes = [Route(path, self._answer, methods=["POST"]) for path in (CHAT, "/v1/completions", "/v1/responses")]
        self.app = RequestId(ShadowedRequests(Starlette(routes=routes), self.shadow))
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://house")

    async def _answer(self, request):
        body = await request.json()
        self.asked.append((request.headers, body))
        name = body["model"]
        adapter = None if name in NAMES else SimpleNamespace(lora_name=name, lora_path="no-such-folder")
        output = self.bench.output(*((i, "a b c d e f g h i j", self.finish) for i in range(body.get("n", 1))))
        with contextlib.suppress(RuntimeError):
            await self.bench.run(output, sampling=self.bench.sampling(n=body.get("n", 1)), lora_request=adapter)
        return JSONResponse({"usage": {"completion_tokens": 10}})

    async def ask(self, path=CHAT, headers=None, **fields):
        answer = await self.http.post(path, json=QUESTION | fields, headers=headers or {})
        assert answer.status_code == 200

    async def settled(self):
        await asyncio.gather(*self.shadow._tasks)

    def outcomes(self, model="tuned"):
        name = "stepgrpo_shadow_requests_total"
        every = {outcome: self.bench.value(name, outcome=outcome, model_name=model) for outcome in OUTCOMES}
        return {outcome: count for outcome, count in every.items() if count}

    def savings(self):
        (model,) = self.bench.meter.summary.models()
        return model.savings.get("shadow")


OUTCOMES = ("compared", "skipped", "failed")
NAMES = ("tuned", "alias")
"""Of the model itself."""


@contextlib.asynccontextmanager
async def open_house(bench, model=NAMES[0], policy="fcfs", **settings):
    """A house at an address of its own, where it asks for the base model itself."""
    config = uvicorn.Config(_nobody, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    base = BaseModel(f"http://127.0.0.1:{port}", model, None, timeout=10)
    house = House(bench, base, Engine(policy), **settings)
    config.loaded_app = house.app
    yield house
    await house.shadow.close()
    server.should_exit = True
    await serving


async def _nobody(scope, receive, send):
    raise AssertionError("nobody is in yet")


@pytest.fixture(scope="module")
def scripted():
    with ScriptedServer().running() as server:
        server.models = ["base"]
        yield server


@pytest.fixture
def base(scripted):
    scripted.refusal = (200, {"usage": {"completion_tokens": 40}}, {})
    scripted.asked.clear()
    return scripted


@pytest.fixture
async def house(bench, base):
    house = House(bench, BaseModel(base.url, None, None, timeout=10))
    yield house
    await house.shadow.close()


async def test_an_answer_is_compared_with_the_base_models(house, base):
    await house.ask(n=2, stream=True, stream_options={"include_usage": True}, max_reasoning_steps=2, top_logprobs=3)
    await house.settled()
    ((headers, asked),) = base.asked
    assert asked == QUESTION | {"model": "base", "n": 2}
    assert headers[MARK] == OWN
    assert PRIORITY not in headers
    assert "authorization" not in headers
    assert house.outcomes() == {"compared": 1}
    assert house.bench.value("stepgrpo_actual_tokens_total", source="shadow") == 20
    assert house.bench.value("stepgrpo_baseline_tokens_total", source="shadow") == 40
    assert (house.savings().answers, house.savings().savings_ratio) == (1, 0.5)


async def test_the_base_model_has_a_key_and_a_name_of_its_own(bench, base):
    house = House(bench, BaseModel(f"{base.url}/v1/", "other", "its-key", timeout=10))
    await house.ask()
    await house.settled()
    ((headers, asked),) = base.asked
    assert (asked["model"], headers["authorization"]) == ("other", "Bearer its-key")
    await house.shadow.close()


async def test_a_base_model_that_is_served_under_another_name_by_now(house, base):
    await house.ask()
    await house.settled()
    base.models, base.refusal = ["another"], (404, {"error": {"message": "no such model"}}, {})
    await house.ask()
    await house.settled()
    base.refusal = (200, {"usage": {"completion_tokens": 40}}, {})
    await house.ask()
    await house.settled()
    base.models = ["base"]
    assert [asked["model"] for _, asked in base.asked] == ["base", "base", "another"]
    assert house.outcomes() == {"compared": 2, "failed": 1}


async def test_nobody_waits_for_the_base_model(bench):
    house = House(bench, WaitingBase())
    async with asyncio.timeout(5):
        await house.ask()
        await house.shadow._base.begun.wait()
    assert house.shadow._base.asked == 1
    assert house.outcomes() == {}
    house.shadow._base.go.set()
    await house.settled()
    assert house.outcomes() == {"compared": 1}


@pytest.mark.parametrize(
    "refusal",
    [(500, {"error": {"message": "no"}}, {}), (200, "<html>", {}), (200, {"usage": None}, {}), (200, ["a"], {})],
)
async def test_a_base_model_that_fails_costs_nobody_an_answer(house, base, refusal):
    base.refusal = refusal
    await house.ask()
    await house.settled()
    assert house.outcomes() == {"failed": 1}
    assert house.savings() is None


async def test_a_base_model_that_is_not_there(bench):
    house = House(bench, BaseModel("http://127.0.0.1:9", "base", None, timeout=10))
    await house.ask()
    await house.settled()
    assert house.outcomes() == {"failed": 1}
    await house.shadow.close()


@pytest.mark.parametrize(
    ("name", "value"), [("unfinished", 3), ("draining", True), ("errored", True)], ids=["busy", "draining", "dead"]
)
async def test_an_engine_that_is_busy_or_ending_is_left_in_peace(bench, name, value):
    house = House(bench, WaitingBase(), shadow_max_busy=2)
    setattr(house.engine, name, value)
    await house.ask()
    assert (house.outcomes(), house.shadow._base.asked) == ({"skipped": 1}, 0)
    setattr(house.engine, name, 2 if name == "unfinished" else False)
    await house.ask()
    async with asyncio.timeout(5):
        await house.shadow._base.begun.wait()
    assert house.shadow._base.asked == 1
    await house.shadow.close()


async def test_replays_under_way_do_not_hold_up_a_shutdown(bench):
    house = House(bench, WaitingBase())
    await house.ask()
    await house.ask()
    await asyncio.sleep(0.2)
    assert (house.shadow._base.asked, house.shadow._base.cancelled) == (2, 0)
    house.engine.draining = True
    async with asyncio.timeout(5):
        await house.settled()
    assert house.shadow._base.cancelled == 2
    assert house.outcomes() == {"skipped": 2}


async def test_an_adapter_is_compared_with_its_own_base_at_the_servers_own_address(bench):
    async with open_house(bench) as house:
        await house.ask(model="adapter", priority=-5)
        await house.settled()
        assert [asked["model"] for _, asked in house.asked] == ["adapter", "tuned"]
        assert "priority" not in house.asked[1][1]
        assert (house.outcomes("adapter"), house.outcomes()) == ({"compared": 1}, {})


@pytest.mark.parametrize("name", NAMES)
async def test_the_base_model_is_not_compared_with_itself(bench, name):
    """Whatever name it is asked by. Where the replay comes back to is known from the first on, which counts nowhere."""
    async with open_house(bench) as house:
        for _ in range(3):
            await house.ask(model=name)
            await house.settled()
        assert [asked["model"] for _, asked in house.asked] == [name, "tuned", name, name]
        assert (house.outcomes(), house.savings()) == ({}, None)
        await house.ask(model="adapter")
        await house.settled()
        assert house.outcomes("adapter") == {"compared": 1}


async def test_another_server_may_serve_the_base_model_under_the_same_name(bench, base):
    house = House(bench, BaseModel(base.url, "tuned", None, timeout=10))
    for _ in range(2):
        await house.ask()
        await house.settled()
    assert house.outcomes() == {"compared": 2}
    await house.shadow.close()


@pytest.mark.parametrize(("policy", "priority"), [("priority", str(LAST)), ("fcfs", None)])
async def test_a_replay_that_comes_back_is_the_last_where_the_engine_knows_an_order(bench, policy, priority):
    async with open_house(bench, policy=policy) as house:
        await house.ask(model="adapter", headers={PRIORITY: "-7"})
        await house.settled()
        assert [headers.get(PRIORITY) for headers, _ in house.asked] == ["-7", priority]


async def test_the_replay_of_another_server_keeps_its_place(bench):
    house = House(bench, WaitingBase(), Engine("priority"))
    await house.ask(headers={MARK: "another"})
    ((headers, _),) = house.asked
    assert PRIORITY not in headers
    assert house.shadow._base.asked == 0


async def test_only_so_many_in_a_minute(house, bench, base):
    house = House(bench, BaseModel(base.url, "base", None, timeout=10), shadow_per_minute=2)
    for _ in range(5):
        await house.ask()
        await house.settled()
    assert house.outcomes() == {"compared": 2, "skipped": 3}
    await house.shadow.close()


async def test_only_so_many_at_a_time(bench):
    house = House(bench, WaitingBase())
    for _ in range(6):
        await house.ask()
    assert house.outcomes() == {"skipped": 2}
    house.shadow._base.go.set()
    await house.settled()
    assert house.outcomes() == {"compared": 4, "skipped": 2}


def test_the_share_is_drawn_by_the_seed(bench):
    def draws(seed):
        shadow = House(bench, None, shadow_share=0.3, shadow_seed=seed).shadow
        return [shadow.draws() for _ in range(2000)]

    assert draws(1) == draws(1) != draws(2)
    assert 500 < sum(draws(1)) < 700
    assert not any(House(bench, None, shadow_share=0).shadow.draws() for _ in range(100))


@pytest.mark.parametrize(
    ("path", "headers"), [("/v1/responses", {}), (CHAT, {MARK: "another"})], ids=["another route", "a replay"]
)
async def test_what_is_never_drawn(house, base, path, headers):
    await house.ask(path, headers=headers)
    await house.settled()
    assert (house.outcomes(), base.asked) == ({}, [])


async def test_an_answer_that_did_not_come_to_its_end_is_not_compared(house, base):
    house.finish = "abort"
    await house.ask()
    assert (house.outcomes(), base.asked) == ({}, [])


async def test_a_body_that_is_too_large_is_not_kept(house, base):
    await house.ask(user="x" * 2**21)
    assert (house.outcomes(), base.asked) == ({}, [])


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": [1, 2]},
        {"prompt": ["a", "b"]},
        {"prompt": "a", "use_beam_search": True},
        {"prompt": "a", "logit_bias": {"3": 1}},
        {"prompt": "a", "stop_token_ids": [3]},
        {"prompt": "a", "n": 2},
    ],
)
def test_what_cannot_be_compared(fields):
    assert replay_of(json.dumps(fields).encode(), answered=1) is None


async def test_what_is_under_way_ends_with_the_server(bench):
    house = House(bench, WaitingBase())
    await house.ask()
    async with asyncio.timeout(5):
        await house.shadow.close()
    assert house.outcomes() == {}


async def test_without_a_url_nothing_is_asked_again(bench):
    async with shadowing(ServerSettings(), bench.meter, Engine()) as shadow:
        assert shadow is None
    async with shadowing(ServerSettings(shadow_url="http://127.0.0.1:9"), bench.meter, Engine()) as shadow:
        assert shadow is not None
