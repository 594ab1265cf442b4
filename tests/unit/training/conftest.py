"""An engine that plays back scripted continuations, and the tokenizer that its scripts are written for."""

from collections import deque
from functools import partial

import pytest

from reasoning import ExitPolicyConfig
from training.sampler import Completion
from training.tokenizer import END_OF_TURN, build_tokenizer


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()


@pytest.fixture
def exit_config():
    return ExitPolicyConfig(markers=("Wait", "Alternatively"), total_tokens=400, thinking_tokens=360)


@pytest.fixture
def scripted_engine(tokenizer):
    return partial(ScriptedEngine, tokenizer)


class ScriptedEngine:
    """Continues each path with what is left of its script, and answers trial answers with scripted confidence."""

    def __init__(self, tokenizer, script, trials=()):
        self.tokenizer, self.script, self.trials = tokenizer, script, deque(trials)
        self.requests, self.queue = [], deque()

    @property
    def busy(self):
        return bool(self.queue)

    def submit(self, request):
        self.requests.append(request)
        self.queue.append((str(len(self.requests)), request))
        return str(len(self.requests))

    def step(self):
        request_id, request = self.queue.popleft()
        yield request_id, self.trial() if request.with_logprobs else self.continued(request)

    def trial(self):
        logprobs = self.trials.popleft()
        return Completion(tuple(self.tokenizer.encode("{4}</think>")), "{4}", "stop", "</think>", logprobs)

    def continued(self, request):
        path = self.tokenizer.decode(request.tokens).removeprefix("ask")
        rest = self.script.removeprefix(path) if self.script.startswith(path) else "4."
        ends = [(rest.find(stop), stop) for stop in request.stop if stop in rest]
        if not ends:
            return Completion(tuple(self.tokenizer.encode(rest + END_OF_TURN)), rest, "eos", None, ())
        at, stop = min(ends)
        return Completion(tuple(self.tokenizer.encode(rest[: at + len(stop)])), rest[:at], "stop", stop, ())
