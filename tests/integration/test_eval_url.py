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
    found = from_url(load_recipe("quickstart"), f"{server.url}/v1", questions, GREEDY, 2)
    assert [len(row) for row in found] == [2, 2, 2, 2]
    for first, second in found:
        assert first == second
        assert first.tokens > 5
        assert first.finish_reason in ("stop", "length")
        assert first.text.startswith("<think>")


def test_an_address_that_does_not_answer_is_named():
    with pytest.raises(TrainingError, match=r"127\.0\.0\.1:9/v1.*base URL"):
        from_url(load_recipe("quickstart"), "http://127.0.0.1:9/v1", ["q"], GREEDY, 1)
