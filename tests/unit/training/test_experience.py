from types import SimpleNamespace

import pytest

from reasoning import EXIT_REASONS
from training.experience import Experience, summarise
from training.recipe import load_recipe
from training.rollout import Rollout


def test_every_reason_to_exit_has_a_share_so_that_processes_report_the_same():
    found = summarise([Rollout([1, 2], [1, 1], "", "confidence"), Rollout([1, 2], [1, 1], "", "own_reason")])
    shares = {name.removeprefix("exit_"): share for name, share in found.items() if name.startswith("exit_")}
    assert shares == dict.fromkeys(EXIT_REASONS, 0) | {"confidence": 0.5, "own_reason": 0.5}


@pytest.mark.parametrize(("opened", "steps"), [("true", 2), ("false", 1)])
def test_what_is_never_closed_is_thinking_where_the_prompt_opens_the_block(opened, steps):
    """Its steps count; elsewhere such a completion is an answer without thinking."""
    seen = []
    method = SimpleNamespace(rewards=lambda batch, _: seen.extend(batch))
    experience = Experience(load_recipe("quickstart", [f"model.thinking_in_prompt={opened}"]), method, None, None)
    experience.rollouts = [Rollout([1, 2], [1, 1], "", "eos")]
    experience.rewards(["It is 4. Wait, no."], ["4"], [0], lambda *_: None)
    assert [scored.steps for scored in seen] == [steps]
