from training.lockstep import LockStep
from training.rollout import RolloutContext, truncated_rollouts

SURE, UNSURE = (0.0, -0.001, -0.001), (0.0, -2.0, -0.1)
SCRIPT = "<think>\nSo 4.\nWait, so 5. Alternatively 4.\n</think>\n\nThe answer is 4."


def test_rounds_bring_the_same_rollouts(tokenizer, scripted_engine, exit_config):
    def roll(wrap):
        engine = wrap(scripted_engine(SCRIPT, [UNSURE, UNSURE] * 3))
        rollouts = truncated_rollouts(RolloutContext(engine, tokenizer, exit_config), [tokenizer.encode("ask")] * 3)
        return [(rollout.text, rollout.exit) for rollout in rollouts]

    assert roll(LockStep) == roll(lambda engine: engine) == [(SCRIPT, "model")] * 3


def test_a_round_waits_for_all_of_its_phase(tokenizer, scripted_engine, exit_config):
    engine = scripted_engine(SCRIPT, [SURE] * 3)
    truncated_rollouts(RolloutContext(LockStep(engine), tokenizer, exit_config), [tokenizer.encode("ask")] * 3)
    kinds = ["trial" if r.with_logprobs else "think" if r.stop else "answer" for r in engine.requests]
    assert kinds == ["think"] * 3 + ["trial"] * 3 + ["answer"] * 3
