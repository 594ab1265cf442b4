import numpy as np
import pytest

from reasoning import RecipeRef, StepGrpoCard, load_card
from training.calibration import calibration, folder_to_calibrate, stamp
from training.errors import TrainingError
from training.recipe import load_recipe
from training.sampler import Sampling
from training.scores import Pool

RECIPE = load_recipe("quickstart")
CARD = StepGrpoCard(
    algorithm="step-grpo",
    base_model="base",
    markers=RECIPE.markers,
    answer_prompt="\\boxed",
    recipe=RecipeRef(name="quickstart", digest="sha256:" + "0" * 64),
)


@pytest.fixture
def checkpoint(tmp_path):
    (tmp_path / "tuned").mkdir()
    CARD.save(tmp_path / "tuned")
    return tmp_path / "tuned"


def answers(tokens):
    """Two samples to each of four questions."""
    tokens = np.array(tokens, dtype=float).reshape(4, 2)
    return Pool((tokens < 100).astype(float), tokens, tokens // 10)


def test_a_calibration_is_what_both_models_did_with_the_same_questions():
    base, tuned = answers([40, 60, 80, 120, 40, 60, 80, 120]), answers([20, 30, 40, 60, 20, 30, 40, 60])
    found = calibration("math-500", Sampling(0.6, 0.9), base, tuned)
    assert (found.dataset, found.n, found.sampling.temperature, found.sampling.top_p) == ("math-500", 4, 0.6, 0.9)
    assert (found.base.accuracy, found.tuned.accuracy) == (0.75, 1.0)
    assert (found.base.completion_tokens.mean, found.base.completion_tokens.p50) == (75, 70)
    assert found.tuned.completion_tokens.p90 == pytest.approx(60)
    assert found.base.reasoning_steps.mean == 7.5
    assert found.savings_ratio.mean == found.savings_ratio.ci95[0] == found.savings_ratio.ci95[1] == 0.5


def test_the_interval_is_one_over_questions():
    found = calibration("b", Sampling(), answers([50] * 8), answers([10, 10, 50, 50, 10, 10, 50, 50])).savings_ratio
    assert found.mean == pytest.approx(0.4)
    assert found.ci95[0] < 0.3 < 0.5 < found.ci95[1]


def test_a_stamp_changes_nothing_else_on_the_card(checkpoint):
    found = calibration("b", Sampling(), answers([50] * 8), answers([10] * 8))
    stamp(checkpoint, found)
    assert load_card(checkpoint) == CARD.model_copy(update={"calibration": found})


def test_the_second_of_two_models_is_calibrated(checkpoint):
    assert folder_to_calibrate(RECIPE, ["Qwen/Qwen3-8B", str(checkpoint)]) == checkpoint


@pytest.mark.parametrize(
    ("models", "says"),
    [
        (["{tuned}"], "two models"),
        (["{tuned}", "{tuned}"], "two models"),
        (["a", "b", "{tuned}"], "two models"),
        (["http://127.0.0.1:8000/v1", "{tuned}"], "http://127.0.0.1:8000/v1 is a server"),
        (["base", "https://host/v1#tuned"], "https://host/v1#tuned is a server"),
        (["base", "{tuned}/.."], r"has no step_grpo\.json"),
        (["{tuned}", "Qwen/Qwen3-8B"], r"Qwen/Qwen3-8B has no step_grpo\.json"),
    ],
)
def test_what_cannot_be_calibrated_is_said_in_a_line(checkpoint, models, says):
    with pytest.raises(TrainingError, match=says):
        folder_to_calibrate(RECIPE, [model.format(tuned=checkpoint) for model in models])


def test_steps_are_counted_by_the_cards_own_markers_and_tags(checkpoint):
    for change in ({"markers": ("Moment",)}, {"model.think": ("<a>", "</a>")}):
        with pytest.raises(TrainingError, match="other markers or tags than the recipe quickstart"):
            folder_to_calibrate(RECIPE.overridden(change), ["base", str(checkpoint)])


def test_a_broken_card_is_refused(checkpoint):
    (checkpoint / "step_grpo.json").write_text("{}")
    with pytest.raises(TrainingError, match="is broken"):
        folder_to_calibrate(RECIPE, ["base", str(checkpoint)])
