from hypothesis import given
from hypothesis import strategies as st

from reasoning import Answer, ExitPolicy, ExitPolicyConfig, Finish, Probe, Probed, Sampled, Think


@st.composite
def configs(draw):
    total = draw(st.integers(20, 400))
    return ExitPolicyConfig(
        markers=("Wait", "Alternatively"),
        total_tokens=total,
        thinking_tokens=draw(st.none() | st.integers(1, total)),
        threshold=draw(st.none() | st.floats(0, 1)),
        max_probes=draw(st.integers(0, 4)),
        max_steps=draw(st.none() | st.integers(1, 5)),
        exit_margin=draw(st.integers(0, 60)),
    )


@given(configs(), st.data())
def test_every_run_ends_within_its_budgets_with_one_closing_tag(config, data):
    policy = ExitPolicy(config)
    action, path, used, restored, paused = policy.start(), "", 0, 0, 0
    for _ in range(2000):
        match action:
            case Finish():
                break
            case Probe():
                assert config.threshold is not None
                logprobs = tuple(data.draw(st.lists(st.floats(-5, 0), max_size=4)))
                action = policy.advance(Probed(logprobs, data.draw(st.booleans())))
            case Think(append, stop, limit):
                restored += append != ""
                path += append
                assert "</think>" in stop
                assert used + limit <= config.thinking_limit
                tokens = data.draw(st.integers(1, limit))
                finish = "length" if tokens == limit else data.draw(st.sampled_from(["stop", "stop", "eos"]))
                ended_by = data.draw(st.sampled_from(stop)) if finish == "stop" else None
                paused += ended_by not in (None, "</think>")
                text = f" thought {data.draw(st.integers(0, 3))} "
                used, path = used + tokens, path + text
                action = policy.advance(Sampled(text, tokens, finish, ended_by))
            case Answer(append, limit):
                path += append
                assert used + limit <= config.total_tokens
                used += limit
                action = policy.advance(Sampled("4", limit, "length", None))
    assert isinstance(action, Finish)
    assert action.exit == policy.exit_reason != "none"
    assert path.count("</think>") <= 1
    assert path.count("Wait") + path.count("Alternatively") == restored <= paused
    assert len(policy.probes) <= config.max_probes or config.max_steps is not None
