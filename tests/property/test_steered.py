"""Exit control over a fake model, for any story: what comes out is exact, however it is tokenized, sampled and cut."""

from asyncio import run
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from story import END, Story

from reasoning import parse_trace
from server.exit_control import EarlyExit, ExitControl, ExitLimits, asking
from server.models import ServedModel
from server.savings import Baseline
from server.steered import SteeredEngine

MARKERS = ("Wait", "Alternatively", "不对")
TAGS = ("<think>", "</think>")
LONG = [END, *TAGS, " Wait", "Wait", ".\nWait", "Waiting", "Alternatively", ", Al", "不对", "x不", "\n\n", "4."]
THOUGHTS = st.lists(st.sampled_from([*MARKERS, *LONG[3:], "a", " ", ".", "await", "Al", "\n", "W", "</"]), max_size=14)
SURE = EarlyExit(policy="confidence", threshold=0.5)
CONTROLS = st.builds(ExitControl, max_reasoning_steps=st.integers(1, 4)) | st.just(ExitControl(early_exit=SURE))


class Pieces:
    """A tokenizer whose tokens are the pieces of ``LONG``, the longest that fits, and single characters."""

    landmarks = frozenset[int]()

    def token(self, text):
        return LONG.index(text) if text in TAGS else None

    def encode(self, text):
        tokens = []
        while text:
            fitting = [piece for piece in LONG if text.startswith(piece)]
            piece = max(fitting, key=len, default=text[0])
            tokens.append(LONG.index(piece) if fitting else len(LONG) + ord(piece))
            text = text[len(piece) :]
        return tokens

    def decode(self, tokens):
        return "".join(LONG[token] if token < len(LONG) else chr(token - len(LONG)) for token in tokens)

    def decoder(self, after):
        return lambda token: self.decode([token])


class RefusedError(Exception):
    """Of a message and a parameter."""


def outputs(thought, control, kind, chunk, max_tokens, stop=(), sure=False):
    words = Pieces()
    trials = {"": ("{4}</think>", 0.9)} if sure else {}
    story = Story(words, thought, chunk=chunk, trials=trials)
    model = ServedModel("tuned", MARKERS, TAGS, Baseline(), None)
    engine = SteeredEngine(None, story, lambda adapter: model, ExitLimits(), RefusedError)
    idle = {"min_tokens": 0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "thinking_token_budget": None}
    sampling = SimpleNamespace(
        n=1,
        stop=list(stop),
        max_tokens=max_tokens,
        logprobs=0,
        detokenize=True,
        output_kind=SimpleNamespace(name=kind),
        **idle,
    )

    async def collect():
        with asking(control):
            stream = engine.generate({"prompt_token_ids": [0], "prompt": END}, sampling, "id")
            return [output.outputs[0] async for output in stream]

    return run(collect())


@given(
    pieces=THOUGHTS,
    closed=st.booleans(),
    control=CONTROLS,
    chunk=st.integers(1, 5),
    max_tokens=st.integers(2, 80),
    sure=st.booleans(),
)
def test_any_story_under_any_control(pieces, closed, control, chunk, max_tokens, sure):
    thought = "<think>" + "".join(pieces) + ("</think>\n\n" if closed else "")
    stream = outputs(thought, control, "DELTA", chunk, max_tokens, sure=sure)
    (whole,) = outputs(thought, control, "FINAL_ONLY", chunk, max_tokens, sure=sure)

    text = "".join(part.text for part in stream)
    tokens = [token for part in stream for token in part.token_ids]
    assert (text, tokens) == (whole.text, whole.token_ids)
    assert (stream[-1].finish_reason, stream[-1].forced_exit) == (whole.finish_reason, whole.forced_exit)
    assert [entry for part in stream for entry in part.logprobs] == whole.logprobs
    assert [list(entry) for entry in whole.logprobs] == [[token] for token in tokens]
    assert len(tokens) <= max_tokens

    decoded = Pieces().decode(tokens)
    assert decoded == text + (END if whole.finish_reason == "stop" else "")
    if whole.forced_exit is None:
        assert (thought + " So 4.").replace("\n", "").startswith(text.replace("\n", ""))
    else:
        kept = text.partition("\n</think>\n\n")[0]
        assert thought.startswith(kept)
        if control.max_reasoning_steps is not None:
            assert len(parse_trace(text, MARKERS).steps) <= control.max_reasoning_steps


@given(pieces=THOUGHTS, stop=st.text("Wait, 4.\nS", min_size=1, max_size=6), chunk=st.integers(1, 5))
def test_stop_strings_hold_wherever_the_parts_meet(pieces, stop, chunk):
    thought = "<think>" + "".join(pieces) + "</think>\n\n"
    parts = outputs(thought, ExitControl(max_reasoning_steps=50), "DELTA", chunk, 500, stop=[stop])
    text = "".join(part.text for part in parts)
    assert text == (thought + " So 4.").partition(stop)[0]
    assert parts[-1].finish_reason == "stop"
    assert parts[-1].stop_reason == (stop if stop in thought + " So 4." else None)
