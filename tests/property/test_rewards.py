import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.rewards import step_aware_relative_reward


@st.composite
def batches(draw):
    size = draw(st.integers(1, 24))
    lists = {
        "correct": draw(st.lists(st.booleans(), min_size=size, max_size=size)),
        "steps": draw(st.lists(st.integers(1, 60), min_size=size, max_size=size)),
        "groups": draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)),
    }
    formatted = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    lists["formatted"] = [form or right for form, right in zip(formatted, lists["correct"], strict=True)]
    return lists


@given(batches(), st.sampled_from(["correct", "all"]))
def test_a_correct_boxed_answer_always_beats_a_wrong_one(batch, baseline):
    rewards = step_aware_relative_reward(**batch, baseline=baseline)
    right = [reward for reward, correct in zip(rewards, batch["correct"], strict=True) if correct]
    wrong = [reward for reward, correct in zip(rewards, batch["correct"], strict=True) if not correct]
    assert all(0.55 < reward < 1.343 for reward in right) or baseline == "all"
    assert all(reward in (0, pytest.approx(0.1)) for reward in wrong)
    assert min(right, default=1) > max(wrong, default=0)


@given(batches())
def test_among_correct_answers_of_a_group_fewer_steps_are_never_worth_less(batch):
    rewards = step_aware_relative_reward(**batch)
    rows = list(zip(batch["groups"], batch["correct"], batch["steps"], rewards, strict=True))
    for group, correct, steps, reward in rows:
        for other_group, other_correct, other_steps, other in rows:
            if correct and other_correct and group == other_group and steps <= other_steps:
                assert reward >= other


@given(batches(), st.randoms())
def test_order_does_not_matter(batch, random):
    rewards = step_aware_relative_reward(**batch)
    order = list(range(len(rewards)))
    random.shuffle(order)
    shuffled = {key: [values[i] for i in order] for key, values in batch.items()}
    assert step_aware_relative_reward(**shuffled) == [rewards[i] for i in order]


@given(batches())
def test_other_groups_do_not_matter(batch):
    rewards = step_aware_relative_reward(**batch)
    for group in set(batch["groups"]):
        mine = [i for i, other in enumerate(batch["groups"]) if other == group]
        alone = step_aware_relative_reward(**{key: [values[i] for i in mine] for key, values in batch.items()})
        assert alone == [rewards[i] for i in mine]
