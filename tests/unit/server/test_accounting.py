import pytest

from server.accounting import AccountedEngine
from server.exchange import Exchange, exchanging


class Spent:
    def __init__(self):
        self.tokens = []

    def spend(self, tokens):
        self.tokens.append(tokens)


async def test_tokens_are_charged_as_they_come(bench):
    bench.script.outputs = [bench.output((0, "a b", None), (1, "c", None)), bench.output((0, " d", "stop"))]
    engine = AccountedEngine(bench.engine)
    with exchanging(Exchange("id", budget=Spent())) as exchange:
        outputs = [output async for output in engine.generate("prompt", bench.sampling(n=2), "id")]
    assert outputs == bench.script.outputs
    prompt = len(outputs[0].prompt_token_ids)
    assert (exchange.prompt_tokens, exchange.completion_tokens) == (prompt, 4)
    assert exchange.budget.tokens == [prompt, 3, 1]


async def test_what_was_sampled_before_an_abort_is_charged_and_the_engine_told(bench):
    bench.script.outputs = [bench.output((0, "a b", None)), bench.output((0, " c", None))]
    with exchanging(Exchange("id")) as exchange:
        outputs = AccountedEngine(bench.engine).generate("prompt", bench.sampling(), "id")
        await anext(outputs)
        await outputs.aclose()
    assert exchange.completion_tokens == 2
    assert bench.script.closed == 1
    assert bench.exits() == {"abort": 1}


async def test_an_error_passes(bench):
    bench.script.outputs = [ValueError("too long")]
    with exchanging(Exchange("id")) as exchange, pytest.raises(ValueError, match="too long"):
        await anext(AccountedEngine(bench.engine).generate("prompt", bench.sampling(), "id"))
    assert exchange.completion_tokens == 0


def test_everything_else_is_the_engines(bench):
    assert AccountedEngine(bench.engine).errored is False
