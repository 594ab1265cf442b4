from types import SimpleNamespace

import pytest

from training.errors import TrainingError
from training.recipe import load_recipe
from training.rollout_bench import Timing
from training.step_bench import StepBench, StepTimer, bench_step, timed, whole_steps


def test_a_step_has_whole_groups_and_no_more_completions_than_asked_for():
    settings = timed(load_recipe("quickstart"), samples=100, rounds=3).grpo
    assert settings.prompts * settings.group_size == 96
    assert 96 % settings.micro_batch == 0


def test_a_step_has_at_least_one_group():
    assert timed(load_recipe("quickstart"), samples=1, rounds=3).grpo.prompts == 1


@pytest.mark.parametrize(("samples", "updates"), [(160, 4), (130, 2), (125, 1)])
def test_a_step_makes_as_many_of_the_recipes_updates_as_divide_it(samples, updates):
    settings = timed(load_recipe("qwen3-8b"), samples=samples, rounds=1).grpo
    assert settings.updates == updates


def test_micro_batches_divide_an_update():
    settings = timed(load_recipe("quickstart", ["grpo.updates=4"]), samples=96, rounds=1).grpo
    assert (settings.updates, settings.micro_batch) == (4, 8)


def test_every_round_is_a_step_after_the_warm_up_and_the_policy_stays_the_same():
    settings = timed(load_recipe("quickstart", ["grpo.token_budget=1"]), samples=8, rounds=3).grpo
    assert (settings.steps, settings.learning_rate, settings.token_budget) == (4, 0, None)


def test_the_updates_of_a_step_count_as_one_and_the_first_step_is_left_out():
    assert whole_steps([9, 9, 1, 2, 3, 4], updates=2) == [3, 7]
    assert whole_steps([9, 1, 2], updates=1) == [1, 2]


def test_the_timer_times_every_update_and_tells_of_it():
    told = []
    timer = StepTimer(lambda step, steps, metrics: told.append((step, steps)))
    for step in (1, 2):
        timer.on_step_begin(None, None, None)
        timer.on_step_end(None, SimpleNamespace(global_step=step, max_steps=2), None)
    assert len(timer.seconds) == len(timer.elapsed) == 2
    assert told == [(1, 2), (2, 2)]


def test_a_method_without_steps_is_refused_before_an_engine_is_opened(tmp_path):
    with pytest.raises(TrainingError, match=r"deer has no training step.*--set method="):
        bench_step(
            load_recipe("quickstart", ["method=deer"]), tmp_path, tmp_path, lambda name: print, samples=8, rounds=1
        )


@pytest.mark.parametrize(
    ("updates", "title"), [(1, "# One training step of 96 completions ("), (4, "of 96 completions in 4 updates (")]
)
def test_the_title_says_how_many_completions_and_updates_were_timed(updates, title):
    found = StepBench({"total": 1.0}, {}, (), samples=96, updates=updates)
    assert title in found.as_markdown()


def test_every_column_of_the_rollouts_has_its_name():
    timing = Timing(seconds=2.0, engine_steps=30, samples=8, tokens=4000, typical=450, longest=500, probe_share=0.1)
    lines = StepBench({"total": 1.0}, {"plain": (timing,)}, (), samples=8, updates=1).as_markdown().splitlines()
    assert lines[-3:] == [
        "| rollouts (medians) | seconds | engine steps | tokens | median | longest | tokens/s | probes |",
        "|---|---|---|---|---|---|---|---|",
        "| plain | 2.00 | 30 | 4,000 | 450 | 500 | 2,000 | 10.0% |",
    ]
