"""Evaluation against a running server, through its OpenAI API."""

import pytest

from training.answering import from_url
from training.errors import TrainingError
from training.problems import take
from training.recipe import load_recipe
from training.sampler import GREEDY

pytestmark = pytest.mark.integration


def test_a_server_answers_with_its_thinking_and_token_counts(server):
    questions = [problem.question for problem in take("test", 0, 4)]
    asked, found = dict(enumerate(questions * 2)), {}
    from_url(load_recipe("quickstart"), f"{server.url}/v1", GREEDY, asked, found.__setitem__)
    assert sorted(found) == list(range(8))
    for first, second in ((found[place], found[place + 4]) for place in range(4)):
        assert first == second
        assert first.tokens > 5
        assert first.finish_reason in ("stop", "length")
        assert first.text.startswith("<think>")


def test_an_address_that_does_not_answer_is_named():
    with pytest.raises(TrainingError, match=r"127\.0\.0\.1:9/v1.*base URL"):
        from_url(load_recipe("quickstart"), "http://127.0.0.1:9/v1", GREEDY, {0: "q"}, lambda *_: None)
