import asyncio

import anyio
import pytest

from server.beams import with_metered_beams
from server.exchange import Exchange, exchanging


class Spent:
    def __init__(self):
        self.tokens = []

    def spend(self, tokens):
        self.tokens.append(tokens)


@pytest.mark.parametrize("detokenize", [True, False])
async def test_tokens_are_charged_as_they_come(bench, detokenize):
    sampling = bench.sampling(n=2, detokenize=detokenize)
    with exchanging(Exchange("id", budget=Spent())) as exchange:
        outputs = await bench.run(
            bench.output((0, "a b", None), (1, "c", None)), bench.output((0, " d", "stop")), sampling=sampling
        )
    prompt = [len(outputs[0].prompt_token_ids)] if detokenize else []
    assert (exchange.prompt_tokens, exchange.completion_tokens) == (sum(prompt), 4)
    assert exchange.budget.tokens == [*prompt, 3, 1]


async def test_a_long_stream_is_charged_before_its_end(bench):
    bench.script.outputs = [bench.output((0, " a", None)) for _ in range(100)]
    with exchanging(Exchange("id")) as exchange:
        stream = bench.engine.generate("prompt", bench.sampling(), "id")
        for _ in range(99):
            await anext(stream)
        assert 99 - exchange.completion_tokens < 50
        await stream.aclose()
    assert exchange.completion_tokens == 99


async def test_what_was_sampled_before_an_abort_is_charged_and_the_engine_told(bench):
    bench.script.outputs = [
        bench.output((0, "a b", None)),
        bench.output((0, " c", None)),
        bench.output((0, " d", None)),
    ]
    with exchanging(Exchange("id")) as exchange:
        outputs = bench.engine.generate("prompt", bench.sampling(), "id")
        await anext(outputs)
        await anext(outputs)
        await outputs.aclose()
    assert exchange.completion_tokens == 3
    assert bench.script.closed == 1
    assert bench.exits() == {"abort": 1}


async def test_what_is_left_while_it_is_metered_is_charged_once(bench):
    """A long piece is metered in several goes, between which others get their turn."""
    bench.script.outputs = [bench.output((0, " a" * 5000, None))]
    with exchanging(Exchange("id")) as exchange:
        task = asyncio.ensure_future(anext(bench.engine.generate("prompt", bench.sampling(), "id")))
        await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert exchange.completion_tokens == 5000
    assert bench.exits() == {"abort": 1}


async def test_a_stream_that_is_left_with_a_long_piece_unmetered_is_an_abort_for_all_that_count_it(bench):
    """As Starlette does it for a client that has left: everything that is awaited is cancelled, time and again."""
    bench.script.outputs = [bench.output((0, "a", None)), bench.output((0, " b" * 5000, None))]
    with exchanging(Exchange("id")) as exchange, anyio.CancelScope() as scope:
        stream = bench.engine.generate("prompt", bench.sampling(), "id")
        for _ in range(2):
            await anext(stream)
        scope.cancel()
        await stream.aclose()
    assert (exchange.completion_tokens, exchange.aborted) == (5001, 1)
    assert (bench.meter.underway, bench.script.closed) == (0, 1)


async def test_the_prompt_of_an_answer_that_is_left_before_it_began_is_charged(bench):
    bench.script.outputs = [bench.failure]
    prompt = {"type": "token", "prompt_token_ids": [1, 2, 3]}
    with exchanging(Exchange("id")) as exchange, pytest.raises(type(bench.failure)):
        await anext(bench.engine.generate(prompt, bench.sampling(n=2), "id"))
    assert (exchange.prompt_tokens, exchange.completion_tokens, exchange.aborted) == (3, 0, 2)


async def test_a_refused_request_is_not_charged(bench):
    with exchanging(Exchange("id")) as exchange, pytest.raises(ValueError, match="too long"):
        await bench.run(ValueError("too long"))
    assert exchange.completion_tokens == 0


async def test_a_beam_search_is_charged_its_prompt_once_and_what_its_steps_sample(bench):
    """The engine sees its prompt again in every step."""

    async def search(prompt, request_id, params, lora_request=None):
        for _ in range(3):
            bench.script.outputs = [bench.output((0, "a", "length"))]
            (step,) = [o async for o in bench.engine.generate("prompt", bench.sampling(detokenize=False), "step")]
        yield step

    beams = bench.sampling(beam_width=1)
    with exchanging(Exchange("id")) as exchange:
        outputs = [
            output async for output in with_metered_beams(search, bench.meter, lambda: None)("prompt", "id", beams)
        ]
    (output,) = outputs
    assert (exchange.prompt_tokens, exchange.completion_tokens) == (len(output.prompt_token_ids), 3)
    assert bench.exits() == {"none": 1}
