"""``/metrics`` of the real server: every family of the table, with exactly the counts of the requests made."""

import time

import openai
import pytest

from reasoning import EXIT_REASONS

pytestmark = pytest.mark.integration

QUESTION = [{"role": "user", "content": "How much is 12 plus 7?"}]
THINKING = "<|im_start|>user\nHow much is 12 plus 7?<|im_end|>\n<|im_start|>assistant\n<think>\n"


def exits(gained):
    return {reason: n for reason in EXIT_REASONS if (n := gained[f"stepgrpo_exits_total|reason={reason}"])}


def test_every_family_is_there(server):
    metrics = server.metrics()
    for name in ("completion_tokens", "reasoning_tokens", "answer_tokens", "reasoning_steps", "step_tokens"):
        assert f"stepgrpo_{name}_count" in metrics
    assert "stepgrpo_exit_position_ratio_count" in metrics
    for reason in EXIT_REASONS:
        assert f"stepgrpo_exits_total|reason={reason}" in metrics
        assert f"stepgrpo_exit_step_count|reason={reason}" in metrics
    for source in ("calibrated", "shadow"):
        assert f"stepgrpo_baseline_tokens_total|source={source}" in metrics
        assert f"stepgrpo_actual_tokens_total|source={source}" in metrics
    assert metrics["stepgrpo_shadow_requests_total|outcome=compared"] == 0
    assert any(key.startswith("stepgrpo_checkpoint_info") for key in metrics)
    assert any(key.startswith("stepgrpo_build_info") for key in metrics)
    assert "vllm:request_generation_tokens_sum" in metrics


def test_the_counts_of_known_requests(server, counted):
    answers = [
        server.openai.chat.completions.create(model=server.model, messages=QUESTION, max_tokens=100, n=n, seed=n)
        for n in (1, 2)
    ]
    cut = server.openai.completions.create(model=server.model, prompt=THINKING, max_tokens=3, **server.endless())
    reports = [choice.model_extra["reasoning_efficiency"] for answer in [*answers, cut] for choice in answer.choices]
    gained = counted()
    tokens = [report["tokens"] for report in reports]
    completion = sum(part["completion"] for part in tokens)
    assert completion == sum(answer.usage.completion_tokens for answer in [*answers, cut])
    for name, expected in (
        ("completion_tokens", completion),
        ("reasoning_tokens", sum(part["reasoning"] for part in tokens)),
        ("answer_tokens", sum(part["answer"] for part in tokens)),
        ("reasoning_steps", sum(report["steps"] for report in reports)),
    ):
        assert gained[f"stepgrpo_{name}_count"] == 4
        assert gained[f"stepgrpo_{name}_sum"] == expected
    assert gained["stepgrpo_step_tokens_count"] == sum(report["steps"] for report in reports)
    assert gained["stepgrpo_step_tokens_sum"] == sum(part["reasoning"] for part in tokens)
    assert gained["stepgrpo_exit_position_ratio_count"] == 4
    ends = [report["exit"] for report in reports]
    assert exits(gained) == {end["reason"]: sum(e["reason"] == end["reason"] for e in ends) for end in ends}
    assert exits(gained)["length"] >= 1
    for reason in {end["reason"] for end in ends}:
        same = [end["step"] for end in ends if end["reason"] == reason]
        assert gained[f"stepgrpo_exit_step_count|reason={reason}"] == len(same)
        assert gained[f"stepgrpo_exit_step_sum|reason={reason}"] == sum(same)
    ratio = server.card.calibration.savings_ratio.mean
    assert gained["stepgrpo_actual_tokens_total|source=calibrated"] == completion
    assert gained["stepgrpo_baseline_tokens_total|source=calibrated"] == pytest.approx(completion / (1 - ratio))
    assert gained["vllm:request_generation_tokens_sum"] == completion


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_disconnects(server, counted, stream, n):
    options = {"model": server.model, "messages": QUESTION, "max_tokens": 1500, "n": n}
    options["extra_body"] = {"ignore_eos": True}
    if stream:
        answer = server.openai.chat.completions.create(stream=True, **options)
        next(iter(answer))
        answer.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            server.openai.with_options(timeout=0.3).chat.completions.create(**options)
    deadline = time.monotonic() + 20
    while not exits(counted()) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    gained = counted()
    assert exits(gained) == {"abort": n}
    assert gained["stepgrpo_completion_tokens_count"] == 0
    assert gained["vllm:request_generation_tokens_sum"] == gained["stepgrpo_completion_tokens_sum"] == 0
    assert server.metrics()["vllm:num_requests_running"] == 0
