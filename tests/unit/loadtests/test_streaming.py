import json
from itertools import count

import pytest

from loadtests.streaming import BrokenStreamError, read_stream


def event(**chunk):
    return b"data: " + json.dumps({"choices": []} | chunk).encode() + b"\n"


def choice(finish_reason=None, steps=None, **delta):
    found = {"delta": delta, "finish_reason": finish_reason}
    return [found | ({"reasoning_efficiency": {"steps": steps}} if steps is not None else {})]


ANSWER = [
    event(choices=choice(role="assistant", content="")),
    event(choices=choice(reasoning="12 + 7.")),
    b"\n",
    event(choices=choice(content="19")),
    event(choices=choice(content=".")),
    event(choices=choice("stop", steps=2)),
    event(usage={"completion_tokens": 5}),
    b"data: [DONE]\n",
]


def read(lines):
    """Each look at the clock is a second after the last one."""
    return read_stream(iter(lines), 0, count(1).__next__)


def test_tokens_and_steps_are_the_servers_and_times_are_of_text():
    streamed = read(ANSWER)
    assert (streamed.tokens, streamed.steps) == (5, 2)
    assert streamed.first_token == 1000
    assert streamed.between_tokens == (3000 - 1000) / 4
    assert streamed.whole == 4000


def test_a_single_token_has_no_time_between():
    assert read([*ANSWER[:2], ANSWER[5], event(usage={"completion_tokens": 1})]).between_tokens is None


def test_other_servers_report_no_steps():
    assert read([*ANSWER[:5], event(choices=choice("stop")), ANSWER[6]]).steps is None


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (ANSWER[:5], "ended before"),
        (ANSWER[:6], "ended before"),
        ([b'data: {"error": {"message": "the engine died"}}\n'], "gave up: the engine died"),
        ([b'data: {"error": "the engine died"}\n'], "gave up: the engine died"),
        ([b"data: {broken\n"], "no chunk"),
        ([b"data: {}\n"], "no chunk"),
        ([event(choices=[{"delta": None}])], "no chunk"),
        ([event(usage={}), event(usage={"tokens": 3})], "no chunk"),
        ([b"data: 3\n"], "no chunk"),
    ],
)
def test_what_is_no_whole_answer_is_a_failure(lines, message):
    with pytest.raises(BrokenStreamError, match=message):
        read(lines)
