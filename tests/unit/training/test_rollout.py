"""The rollout driver over an engine that plays back scripted continuations."""

from collections import deque

import pytest

from reasoning import ExitPolicyConfig
from training.rollout import cut_at, plain_rollouts, truncated_rollouts
from training.sampler import Completion, Sampling
from training.tokenizer import END_OF_TURN, build_tokenizer

CONFIG = ExitPolicyConfig(markers=("Wait", "Alternatively"), total_tokens=400, thinking_tokens=360)
SURE, UNSURE = (0.0, -0.001, -0.001), (0.0, -2.0, -0.1)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


class ScriptedEngine:
    """Continues each path with what is left of its script, and answers trial answers with scripted confidence."""

    def __init__(self, tokenizer, script, trials):
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
        closed = "</think>\n\n"
        rest = "4." if path.endswith(closed) and closed not in self.script else self.script.removeprefix(path)
        ends = [(rest.find(stop), stop) for stop in request.stop if stop in rest]
        if not ends:
            return Completion(tuple(self.tokenizer.encode(rest + END_OF_TURN)), rest, "eos", None, ())
        at, stop = min(ends)
        return Completion(tuple(self.tokenizer.encode(rest[: at + len(stop)])), rest[:at], "stop", stop, ())


def roll(tokenizer, script, trials=(), config=CONFIG):
    engine = ScriptedEngine(tokenizer, script, trials)
    return truncated_rollouts(engine, tokenizer, [tokenizer.encode("ask")], config, Sampling())[0], engine


def test_a_sure_trial_answer_truncates_before_the_marker(tokenizer):
    rollout, _ = roll(tokenizer, "<think>\nSo 4.\nWait, more", [SURE])
    assert rollout.text == "<think>\nSo 4.\n\n</think>\n\n4."
    assert rollout.exit == "confidence"


def test_declined_trials_leave_no_trace_in_the_path(tokenizer):
    script = "<think>\nSo 4.\nWait, so 5. Alternatively 4.\n</think>\n\nThe answer is 4."
    rollout, engine = roll(tokenizer, script, [UNSURE, UNSURE])
    assert rollout.text == script
    assert rollout.exit == "model"
    assert rollout.completion_ids == tokenizer.encode(script + END_OF_TURN)
    assert all(text.count("Wait") <= 1 for text in (tokenizer.decode(r.tokens) for r in engine.requests))


def test_tokens_that_the_policy_sampled_are_told_from_forced_ones(tokenizer):
    script = "<think>\nSo 4.\nWait, so 5. Alternatively 4."
    rollout, _ = roll(tokenizer, script, [UNSURE, SURE])
    forced = [token for token, sampled in zip(rollout.completion_ids, rollout.sampled, strict=True) if not sampled]
    assert tokenizer.decode(forced).strip() == "</think>"
    assert len(rollout.sampled) == len(rollout.completion_ids)


def test_probes_cost_tokens_that_are_not_in_the_completion(tokenizer):
    rollout, _ = roll(tokenizer, "<think>\nSo 4.\nWait, more", [SURE])
    assert rollout.probe_tokens == len(tokenizer.encode("{4}</think>"))


def test_samples_do_not_wait_for_each_other(tokenizer):
    engine = ScriptedEngine(tokenizer, "<think>\nSo 4.\nWait, more", [SURE, SURE])
    truncated_rollouts(engine, tokenizer, [tokenizer.encode("ask")] * 2, CONFIG, Sampling())
    kinds = ["probe" if request.with_logprobs else "sample" for request in engine.requests]
    assert kinds[:3] == ["sample", "sample", "probe"]


def test_a_plain_rollout_is_sampled_in_one_request(tokenizer):
    script = "<think>\nSo 4.\nWait, 4.\n</think>\n\n4."
    engine = ScriptedEngine(tokenizer, script, [])
    rollout = plain_rollouts(engine, tokenizer, [tokenizer.encode("ask")], 100, Sampling())[0]
    assert (rollout.text, rollout.exit, len(engine.requests)) == (script, "none", 1)
    assert set(rollout.sampled) == {1}


def test_a_stop_string_may_begin_inside_a_token(tokenizer):
    tokens = tokenizer.encode("So Alternatively")
    inside = next(i for i, token in enumerate(tokens) if tokenizer.decode(token) == " A")
    assert cut_at(tokenizer, tokens, "So ") == (inside, " ")
    assert cut_at(tokenizer, tokens, "So") == (inside, "")
