"""Exit control over a fake model: what the client gets, and what the engine is asked for."""

import asyncio
import gc
from math import log
from types import SimpleNamespace

import pytest
from story import END, Story

from server.exit_control import EarlyExit, ExitControl, ExitLimits, asking
from server.models import ServedModel
from server.savings import Baseline
from server.steered import SteeredEngine

THOUGHT = "<think>\nTwo and two.\nWait, four.\nWait, yes.\n</think>\n\n"
PROMPT = "<|im_start|>assistant\n"
TUNED = ServedModel("tuned", ("Wait", "Alternatively"), ("<think>", "</think>"), Baseline(), None)
STEPS = ExitControl(max_reasoning_steps=1)
SURE = ExitControl(early_exit=EarlyExit(policy="confidence", threshold=0.9))


class RefusedError(Exception):
    """Of a message and a parameter."""


class Plain:
    """An engine that only remembers what it was asked for."""

    errored = False

    def __init__(self):
        self.asked = []

    def generate(self, prompt, sampling, request_id, **options):
        self.asked.append((prompt, sampling, request_id, options))
        return "plain"


def sampling(kind="DELTA", **values):
    defaults = {"n": 1, "stop": [], "stop_token_ids": [], "max_tokens": 100, "logprobs": None, "seed": None}
    defaults |= {"detokenize": True, "thinking_token_budget": None, "min_tokens": 0}
    defaults |= {"presence_penalty": 0.0, "frequency_penalty": 0.0, "logprob_token_ids": None}
    return SimpleNamespace(output_kind=SimpleNamespace(name=kind), **(defaults | values))


class Asking:
    """Requests to a steered engine that tells a story."""

    def __init__(self, story, control, limits=None):
        self.story = story
        self.control = control
        self.plain = Plain()
        self.engine = SteeredEngine(self.plain, story, lambda adapter: TUNED, limits or ExitLimits(), RefusedError)

    def generate(self, sampling, prompt=PROMPT):
        ids = self.story.text.encode(prompt)
        with asking(self.control):
            return self.engine.generate({"prompt_token_ids": ids, "prompt": prompt}, sampling, "id", priority=3)

    def checked(self, request):
        with asking(self.control):
            self.engine.check_request(request)

    async def outputs(self, sampling, prompt=PROMPT):
        return [output async for output in self.generate(sampling, prompt)]

    async def streamed(self, **values):
        """Of a stream of one choice: its text, its tokens' text, and its last part."""
        prompt = values.pop("prompt", PROMPT)
        parts = [output.outputs[0] for output in await self.outputs(sampling(**values), prompt)]
        assert [part.finish_reason for part in parts[:-1]] == [None] * (len(parts) - 1)
        tokens = [token for part in parts for token in part.token_ids]
        return "".join(part.text for part in parts), self.story.text.decode(tokens), parts[-1]

    async def whole(self, **values):
        (output,) = await self.outputs(sampling("FINAL_ONLY", **values))
        assert output.finished
        return output


@pytest.fixture
def ask(bench):
    def asking(control, thought=THOUGHT, limits=None, **more):
        return Asking(Story(bench.words, thought, **more), control, limits)

    return asking


@pytest.mark.parametrize("chunk", [1, 2, 3, 50])
async def test_a_step_budget_closes_the_block_where_one_more_step_would_begin(ask, chunk):
    text, tokens, end = await ask(STEPS, chunk=chunk).streamed()
    assert text == "<think>\nTwo and two.\n\n</think>\n\n So 4."
    assert tokens == text + END
    assert (end.finish_reason, end.stop_reason, end.forced_exit) == ("stop", None, "step_budget")


async def test_a_budget_that_is_not_reached_changes_nothing(ask):
    text, tokens, end = await ask(ExitControl(max_reasoning_steps=3)).streamed()
    assert text == THOUGHT + " So 4."
    assert tokens == text + END
    assert (end.finish_reason, end.forced_exit) == ("stop", None)


@pytest.mark.parametrize("chunk", [1, 2, 50])
async def test_a_sure_trial_answer_ends_the_thinking_and_is_never_shown(ask, chunk):
    sure = {"two.\n": ("{3}</think>", 0.5), "four.\n": ("{4}</think>", 0.99)}
    asking = ask(SURE, trials=sure, chunk=chunk)
    text, tokens, end = await asking.streamed()
    assert text == "<think>\nTwo and two.\nWait, four.\n\n</think>\n\n So 4."
    assert tokens == text + END
    assert end.forced_exit == "confidence"
    assert [piece.kind for piece in asking.story.pieces].count("trial") == 2


@pytest.mark.parametrize(("mean", "forced"), [("geometric", None), ("arithmetic", "confidence")])
async def test_the_confidence_is_the_mean_that_was_asked_for(ask, mean, forced):
    control = ExitControl(early_exit=EarlyExit(policy="confidence", threshold=0.9, mean=mean))
    unequal = ("{3}</think>", (1.0, 0.72, 1.0, 1.0))
    _, _, end = await ask(control, trials={"two.\n": unequal}).streamed()
    assert end.forced_exit == forced


async def test_trial_answers_that_are_not_sure_leave_no_trace(ask):
    text, tokens, end = await ask(SURE).streamed()
    assert text == THOUGHT + " So 4."
    assert tokens == text + END
    assert end.forced_exit is None


async def test_a_stream_never_shows_what_may_still_be_dropped(ask):
    """As long as a step may be dropped, neither its marker nor a part of it is on the wire."""
    asking = ask(STEPS)
    shown = ""
    async for output in asking.generate(sampling()):
        shown += output.outputs[0].text
        assert "W" not in shown
    assert shown


async def test_a_marker_of_several_tokens_is_held_back_whole(ask):
    asking = ask(STEPS, "<think>\nTwo.\nWait a minute, four.\n</think>\n\n")
    phrase = ServedModel("tuned", ("Wait a minute",), ("<think>", "</think>"), Baseline(), None)
    asking.engine = SteeredEngine(asking.plain, asking.story, lambda adapter: phrase, ExitLimits(), RefusedError)
    text, tokens, _ = await asking.streamed()
    assert text == "<think>\nTwo.\n\n</think>\n\n So 4."
    assert tokens == text + END


async def test_a_marker_within_a_word_is_none(ask):
    thought = "<think>\nTwo.\nWaiting, awaiting Wait.\n</think>\n\n"
    text, _, end = await ask(ExitControl(max_reasoning_steps=2), thought).streamed()
    assert text.startswith("<think>\nTwo.\n")
    assert end.finish_reason == "stop"


async def test_a_whole_reply_is_the_stream_in_one_piece(ask):
    text, tokens, _ = await ask(STEPS).streamed()
    output = await ask(STEPS).whole()
    (part,) = output.outputs
    assert (part.text, part.finish_reason, part.stop_reason, part.forced_exit) == (text, "stop", None, "step_budget")
    assert ask(STEPS).story.text.decode(part.token_ids) == tokens
    assert output.request_id == "id"
    assert output.prompt == PROMPT
    assert output.num_cached_tokens == 7


async def test_several_choices_come_as_one_reply(ask):
    output = await ask(STEPS).whole(n=3)
    assert [part.index for part in output.outputs] == [0, 1, 2]
    assert len({part.text for part in output.outputs}) == 1
    outputs = await ask(STEPS).outputs(sampling(n=3))
    assert [output.finished for output in outputs] == [False] * (len(outputs) - 1) + [True]
    assert sorted(output.outputs[0].index for output in outputs if output.outputs[0].finish_reason) == [0, 1, 2]


@pytest.mark.parametrize("limit", range(2, 40))
async def test_max_tokens_holds_over_all_pieces(ask, limit):
    for control in (STEPS, SURE, ExitControl(max_reasoning_steps=2)):
        asking = ask(control, trials={"four.\n": ("{4}</think>", 0.99)})
        text, tokens, end = await asking.streamed(max_tokens=limit)
        taken = len(asking.story.text.encode(tokens))
        assert taken <= limit
        assert end.finish_reason == ("stop" if tokens.endswith(END) else "length")
        assert text == tokens.removesuffix(END)


async def test_log_probabilities_belong_to_every_token(ask):
    """Sampled tokens bring theirs; those that were appended are scored by the next piece."""
    output = await ask(STEPS).whole(logprobs=0)
    (part,) = output.outputs
    closing = ask(STEPS).story.text.encode("\n</think>\n\n")
    at = next(i for i in range(len(part.token_ids)) if part.token_ids[i : i + len(closing)] == closing)
    assert [list(entry) for entry in part.logprobs] == [[token] for token in part.token_ids]
    scores = [entry[token].logprob for entry, token in zip(part.logprobs, part.token_ids, strict=True)]
    after = len(part.token_ids) - at - len(closing)
    assert scores == pytest.approx([log(0.5)] * at + [log(0.25)] * len(closing) + [log(0.5)] * after)
    assert part.cumulative_logprob == pytest.approx(sum(scores))
    streamed = [output.outputs[0] for output in await ask(STEPS).outputs(sampling(logprobs=0))]
    assert [entry for each in streamed for entry in each.logprobs] == part.logprobs


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (" two", "<think>\nTwo and"),
        ("Wait, four", "<think>\nTwo and two.\n"),  # across a pause
        ("4", THOUGHT + " So "),
    ],
)
@pytest.mark.parametrize("kind", ["DELTA", "FINAL_ONLY"])
async def test_stop_strings_of_the_request_hold_over_all_pieces(ask, stop, text, kind):
    asking = ask(ExitControl(max_reasoning_steps=9))
    parts = [output.outputs[0] for output in await asking.outputs(sampling(kind, stop=[stop]))]
    assert "".join(part.text for part in parts) == text
    assert (parts[-1].finish_reason, parts[-1].stop_reason) == ("stop", stop)
    assert asking.story.running == 0


async def test_a_block_that_the_prompt_has_opened(ask):
    asking = ask(STEPS, THOUGHT.removeprefix("<think>"))
    text, _, end = await asking.streamed(prompt=PROMPT + "<think>")
    assert text == "\nTwo and two.\n\n</think>\n\n So 4."
    assert end.forced_exit == "step_budget"


async def test_a_model_that_does_not_think_just_answers(ask):
    text, _, end = await ask(STEPS, "Wait, Wait, Wait.").streamed()
    assert text == "Wait, Wait, Wait. So 4."
    assert end.forced_exit is None


@pytest.mark.parametrize("control", [ExitControl(), ExitControl(thinking_token_budget=5)])
def test_requests_that_need_no_pause_take_the_plain_path(ask, control):
    asking = ask(control)
    parameters = sampling()
    assert asking.generate(parameters) == "plain"
    ((_, passed, name, options),) = asking.plain.asked
    assert passed is parameters
    assert passed.thinking_token_budget == control.thinking_token_budget
    assert (name, options) == ("id", {"priority": 3})
    assert asking.story.pieces == []


async def test_thinking_that_is_off_stays_off(ask):
    text, tokens, end = await ask(STEPS, "Wait, Wait, Wait.").streamed(prompt=PROMPT + "<think>\n\n</think>\n\n")
    assert (text, tokens) == ("Wait, Wait, Wait. So 4.", text + END)
    assert end.forced_exit is None


@pytest.mark.parametrize("prompt", ["What does </think> mean?", PROMPT + "<think>\n\n</think>\n\n"])
async def test_a_block_that_is_opened_again_is_steered(ask, prompt):
    _, _, end = await ask(ExitControl(), limits=ExitLimits(cap=STEPS)).streamed(prompt=prompt)
    assert end.forced_exit == "step_budget"


def test_vllms_own_budget_field_is_capped_too(ask):
    asking = ask(ExitControl(), limits=ExitLimits(cap=ExitControl(thinking_token_budget=7)))
    asking.generate(parameters := sampling(thinking_token_budget=50))
    assert parameters.thinking_token_budget == 7
    asking.generate(parameters := sampling(thinking_token_budget=3))
    assert parameters.thinking_token_budget == 3


async def test_the_servers_default_steers_requests_that_ask_for_nothing(ask):
    asking = ask(ExitControl(), limits=ExitLimits(default=STEPS))
    _, _, end = await asking.streamed()
    assert end.forced_exit == "step_budget"


@pytest.mark.parametrize("field", ["min_tokens", "presence_penalty", "frequency_penalty", "logprob_token_ids"])
def test_what_counts_within_one_request_cannot_be_steered(ask, field):
    with pytest.raises(RefusedError) as refused:
        ask(STEPS).generate(sampling(**{field: 1}))
    assert refused.value.args[1] == field


@pytest.mark.parametrize("field", ["presence_penalty", "frequency_penalty"])
def test_what_a_request_says_itself_is_refused_before_it_is_sampled(ask, field):
    with pytest.raises(RefusedError) as refused:
        ask(STEPS).checked(SimpleNamespace(**{field: 1}))
    assert refused.value.args[1] == field


def test_nothing_is_refused_that_a_mere_default_gives_way_to_or_that_says_nothing(ask):
    ask(STEPS).checked(SimpleNamespace(presence_penalty=None))
    ask(ExitControl(), limits=ExitLimits(default=STEPS)).checked(SimpleNamespace(presence_penalty=0.5))


@pytest.mark.parametrize("limits", [ExitLimits(default=STEPS), ExitLimits(cap=SURE)])
def test_a_single_token_needs_no_steering(ask, limits):
    limits = limits.model_copy(update={"default": limits.default.model_copy(update={"thinking_token_budget": 9})})
    asking = ask(ExitControl(), limits=limits)
    assert asking.generate(parameters := sampling(max_tokens=1, logprob_token_ids=[5, 6])) == "plain"
    assert parameters.thinking_token_budget == 9


LIMITS = [ExitLimits(default=STEPS), ExitLimits(default=SURE)]


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize(
    "fields", [{"presence_penalty": 0.5}, {"min_tokens": 3}, {"detokenize": False}, {"logprob_token_ids": [5]}]
)
def test_a_mere_default_gives_way_to_what_cannot_be_steered(ask, fields, limits):
    limits = limits.model_copy(update={"default": limits.default.model_copy(update={"thinking_token_budget": 9})})
    asking = ask(ExitControl(), limits=limits)
    assert asking.generate(parameters := sampling(**fields)) == "plain"
    assert parameters.thinking_token_budget == 9


@pytest.mark.parametrize("asked", [ExitControl(), STEPS])
@pytest.mark.parametrize("field", ["presence_penalty", "detokenize"])
def test_a_cap_holds_and_its_refusal_says_whose_limit_it_is(ask, field, asked):
    with pytest.raises(RefusedError) as refused:
        ask(asked, limits=ExitLimits(cap=STEPS)).generate(sampling(**{field: 0.5 if field != "detokenize" else False}))
    said = f"{field} cannot be combined with this server's limits on thinking: leave it out"
    assert refused.value.args == (said, field)


def test_a_prompt_that_cannot_be_steered(ask):
    asking = ask(ExitControl(), limits=ExitLimits(cap=STEPS))
    with pytest.raises(RefusedError, match="a prompt that is not text alone") as refused:
        asking.engine.generate({"type": "embeds"}, sampling(), "id")
    assert refused.value.args[1] == "prompt"
    assert ask(ExitControl(), limits=ExitLimits(default=STEPS)).engine.generate(object(), sampling(), "id") == "plain"


@pytest.mark.parametrize(
    ("asked", "limits", "said"),
    [
        (STEPS, ExitLimits(), "cannot be combined with max_reasoning_steps or early_exit"),
        (SURE, ExitLimits(), "cannot be combined with max_reasoning_steps or early_exit"),
        (ExitControl(), ExitLimits(cap=STEPS), "with this server's limits"),
        (ExitControl(), ExitLimits(cap=SURE), "with this server's limits"),
        (ExitControl(), ExitLimits(cap=ExitControl(thinking_token_budget=5)), "with this server's limits"),
    ],
)
def test_a_beam_search_would_evade_exit_control(ask, asked, limits, said):
    engine = ask(asked, limits=limits).engine
    with asking(asked), pytest.raises(RefusedError, match=said) as refused:
        engine.check_beam_search()
    assert refused.value.args[1] == "use_beam_search"


@pytest.mark.parametrize("limits", [ExitLimits(), *LIMITS, ExitLimits(default=ExitControl(thinking_token_budget=5))])
def test_a_beam_search_evades_nothing_where_nothing_is_asked(ask, limits):
    asking = ask(ExitControl(), limits=limits)
    asking.engine.check_beam_search()
    assert asking.generate(sampling(detokenize=False)) == "plain"


async def test_a_client_that_leaves_stops_the_engine(ask):
    for n in (1, 3):
        asking = ask(STEPS)
        outputs = asking.generate(sampling(n=n))
        while asking.story.running < n:
            await anext(outputs)
        await outputs.aclose()
        assert asking.story.running == 0


async def test_a_client_that_leaves_is_no_error_in_the_log(ask, caplog):
    asking = ask(STEPS)
    outputs = asking.generate(sampling(n=3))
    while asking.story.running < 3:
        await anext(outputs)
    await outputs.aclose()
    del outputs, asking
    gc.collect()
    assert caplog.messages == []


async def test_an_engine_that_fails_fails_the_request(ask):
    for n in (1, 2):
        asking = ask(ExitControl(max_reasoning_steps=5))
        asking.story.thought = "<think>\nTwo.\nWait, four."
        pieces = asking.story.sample

        def failing(piece, pieces=pieces):
            if piece.number == 2:
                raise ConnectionError("the engine died")
            return pieces(piece)

        asking.story.sample = failing
        with pytest.raises(ConnectionError, match="died"):
            await asyncio.wait_for(asking.outputs(sampling(n=n)), 5)


def test_everything_else_is_the_engines(ask):
    assert ask(STEPS).engine.errored is False
