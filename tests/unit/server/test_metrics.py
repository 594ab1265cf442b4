import pytest

from reasoning import EXIT_REASONS

TEXT = "<think> a b c.\nWait, d.</think> e f"

TABLE = {
    "stepgrpo_completion_tokens_count": {},
    "stepgrpo_reasoning_tokens_count": {},
    "stepgrpo_answer_tokens_count": {},
    "stepgrpo_reasoning_steps_count": {},
    "stepgrpo_step_tokens_count": {},
    "stepgrpo_exits_total": {"reason": EXIT_REASONS},
    "stepgrpo_exit_step_count": {"reason": EXIT_REASONS},
    "stepgrpo_exit_position_ratio_count": {},
    "stepgrpo_baseline_tokens_total": {"source": ("calibrated", "shadow")},
    "stepgrpo_actual_tokens_total": {"source": ("calibrated", "shadow", "none")},
    "stepgrpo_shadow_requests_total": {"outcome": ("compared", "skipped", "failed")},
}


@pytest.mark.parametrize("name", TABLE)
def test_every_series_exists_from_the_start(bench, name):
    for label, values in TABLE[name].items():
        for value in values:
            assert bench.value(name, **{label: value}) == 0
    if not TABLE[name]:
        assert bench.value(name) == 0


def test_what_is_served_is_published(bench):
    info = {"algorithm": "step-grpo", "base_model": "base", "recipe": "quickstart"}
    assert bench.value("stepgrpo_checkpoint_info", **info) == 1
    build = [m for m in bench.registry.collect() if m.name == "stepgrpo_build_info"]
    assert build[0].samples[0].value == 1


def test_the_calibration_is_published_with_its_interval(bench):
    bounds = {
        bound: bench.value("stepgrpo_calibration_savings_ratio", bound=bound) for bound in ("lower", "mean", "upper")
    }
    assert bounds["lower"] <= bounds["mean"] == 0.32 <= bounds["upper"]


async def test_a_calibrated_answer(bench):
    await bench.run(bench.output((0, TEXT, "length")))
    words = bench.words
    tokens, thinking = len(words.encode(TEXT)), len(words.encode("<think> a b c.\nWait, d.</think>"))
    first = len(words.encode("<think> a b c.\n"))
    assert bench.value("stepgrpo_completion_tokens_sum") == tokens
    assert bench.value("stepgrpo_reasoning_tokens_sum") == thinking
    assert bench.value("stepgrpo_answer_tokens_sum") == tokens - thinking
    assert bench.value("stepgrpo_reasoning_steps_sum") == 2
    assert bench.value("stepgrpo_step_tokens_count") == 2
    assert bench.value("stepgrpo_step_tokens_sum") == thinking
    assert bench.value("stepgrpo_step_tokens_bucket", le="16.0") == 2
    assert first + len(words.encode("Wait, d.</think>")) == thinking
    assert bench.value("stepgrpo_exit_step_sum", reason="model") == 2
    assert bench.value("stepgrpo_exit_position_ratio_sum") == pytest.approx(thinking / 200)
    assert bench.value("stepgrpo_actual_tokens_total", source="calibrated") == tokens
    assert bench.value("stepgrpo_baseline_tokens_total", source="calibrated") == pytest.approx(tokens / 0.68)


async def test_an_answer_without_a_baseline(plain_bench):
    await plain_bench.run(plain_bench.output((0, TEXT, "length")))
    tokens = len(plain_bench.words.encode(TEXT))
    assert plain_bench.value("stepgrpo_actual_tokens_total", source="none") == tokens
    assert plain_bench.value("stepgrpo_actual_tokens_total", source="calibrated") == 0
    assert plain_bench.value("stepgrpo_baseline_tokens_total", source="calibrated") == 0
    assert plain_bench.value("stepgrpo_exit_position_ratio_count") == 0


async def test_the_summary_says_the_same_as_the_metrics(bench):
    await bench.run(bench.output((0, TEXT, "length")))
    await bench.run(bench.output((0, "<think> a", "length"), (1, "<think> a", None)), sampling=bench.sampling(n=2))
    (summary,) = bench.meter.summary.models()
    assert (summary.model, summary.requests, summary.answers) == ("tuned", 2, 2)
    assert summary.tokens_per_answer.completion == bench.value("stepgrpo_completion_tokens_sum") / 2
    assert summary.tokens_per_answer.reasoning == bench.value("stepgrpo_reasoning_tokens_sum") / 2
    assert summary.tokens_per_answer.answer == bench.value("stepgrpo_answer_tokens_sum") / 2
    assert summary.steps_per_answer == 1.5
    assert bench.exits() == {"model": 1, "length": 1, "abort": 1}
    savings = summary.savings["calibrated"]
    assert savings.answers == 2
    assert savings.actual_tokens == bench.value("stepgrpo_actual_tokens_total", source="calibrated")
    assert savings.savings_ratio == 0.32
    assert savings.tokens_saved == pytest.approx(savings.baseline_tokens - savings.actual_tokens)


def test_a_summary_before_the_first_answer(bench, plain_bench):
    (summary,) = bench.meter.summary.models()
    assert (summary.requests, summary.answers, summary.steps_per_answer) == (0, 0, None)
    assert summary.savings["calibrated"].savings_ratio is None
    (plain,) = plain_bench.meter.summary.models()
    assert plain.savings["none"].baseline_tokens is None
