import pytest

from reasoning import Segmenter
from server.choice import Choice


def trace(texts, stop):
    """Of a completion whose tokens have these texts, ended by a stop string that is cut out of the client's text."""
    choice = Choice(Segmenter(["Wait"]), lambda tokens: [texts[token] for token in tokens], [stop])
    return choice.finish(range(len(texts)), "", "stop", stop)


@pytest.mark.parametrize("last", [">", ">\n\n", ">\n\nSo the answer is 4."])
def test_a_stop_string_is_not_read_wherever_in_the_last_token_it_ends(last):
    found = trace(["<think>", " Two", ".", "</", "think", last], "</think>")
    assert (found.text, found.exit.reason) == ("<think> Two.", "stop")
    assert found.completion_tokens == 6


def test_a_stop_string_of_one_character():
    assert trace(["<think>", " a", " b", "!!"], "!").text == "<think> a b!"
    assert trace(["<think>", " a", " b", "", "!"], "!").text == "<think> a b"
