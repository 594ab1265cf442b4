"""The exit policy against a scripted model, which samples one fixed text whatever is tried or forced in between."""

from dataclasses import dataclass, field
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from reasoning import Answer, ExitPolicy, ExitPolicyConfig, Finish, Probe, Probed, Sampled, Think, Trace, parse_trace

MARKERS = ("Wait", "Wait a minute", "Alternatively", "不对")
EOS = "<eos>"
THOUGHTS = ["so 4", " no", ".", ", ", "\n", " ", "7", "x", "Waiting", "await", "不", "ing", "Al", " a minute", "</"]
PIECES = st.sampled_from([*THOUGHTS, *MARKERS, " Wait", "Wait,", "</think>", "</think>\n", "</th", "ink>", EOS])
CLOSED = {"model", "confidence", "step_budget", "token_budget", "repetition"}


@dataclass
class Run:
    """A driver and what its path came to; a forced text costs a token per byte, or one in all."""

    policy: ExitPolicy
    script: list[str]
    dear: bool
    trials: list[Probed]
    path: str = ""
    tokens: int = 0
    emitted: str = ""
    dropped: str = ""
    thought: str | None = None
    thinking_tokens: int = 0
    actions: list[Think | Answer] = field(default_factory=list)

    def __post_init__(self):
        action = self.policy.start()
        while not isinstance(action, Finish):
            if isinstance(action, Probe):
                action = self.policy.advance(self.trials.pop() if self.trials else Probed((), closed=False))
            else:
                action = self.policy.advance(self.carry_out(action))
        self.exit = action.exit
        if self.thought is None:
            self.thought, self.thinking_tokens = self.path, self.tokens

    def carry_out(self, action):
        self.actions.append(action)
        if isinstance(action, Answer):
            self.thought, self.thinking_tokens = self.path, self.tokens
        forced = len(action.append.encode()) if self.dear else int(action.append != "")
        text, tokens, finish, stop, after = self.sample(action.max_tokens - forced, getattr(action, "stop", ()))
        self.path += action.append + text
        self.tokens += forced + tokens
        if self.thought is None:
            self.dropped = (stop or "") + after
            self.emitted += text + self.dropped
        return Sampled(text, forced + tokens, finish, stop, after)

    def sample(self, room, stops):
        assert room >= 1
        pieces = []
        while len(pieces) < room:
            if not self.script or self.script[0] == EOS:
                return "".join(pieces), len(pieces), "eos", None, ""
            pieces.append(self.script.pop(0))
            text = "".join(pieces)
            found = min(((text.index(stop), -len(stop), stop) for stop in stops if stop in text), default=None)
            if found:
                cut, _, stop = found
                kept = sum(start < cut for start in accumulate(map(len, pieces[:-1]), initial=0))
                return text[:cut], kept, "stop", stop, text[cut + len(stop) :]
        return "".join(pieces), len(pieces), "length", None, ""

    def trace(self) -> Trace:
        """The path as the segmenter sees it; the policy acts in blocks that were opened only."""
        ended_by = {"length": "length", "abort": "abort"}.get(self.exit, "stop")
        inside = self.policy.config.inside
        return parse_trace(self.path, MARKERS, inside=inside, implied=False, finish_reason=ended_by)


@st.composite
def runs(draw):
    total = draw(st.integers(1, 200))
    config = ExitPolicyConfig(
        markers=MARKERS,
        total_tokens=total,
        thinking_tokens=draw(st.none() | st.integers(1, total)),
        threshold=draw(st.none() | st.just(0.95)),
        max_probes=draw(st.none() | st.integers(0, 4)),
        max_steps=draw(st.none() | st.integers(1, 5)),
        exit_margin=draw(st.sampled_from([0, 0, 50])),
        inside=draw(st.booleans()),
    )
    opening = draw(st.sampled_from([["<think>"], ["<th", "ink>\n"], ["Sure. ", "<think>"], []]))
    script = ([] if config.inside else opening) + draw(st.lists(PIECES, max_size=60))
    trials = draw(st.lists(st.sampled_from([Probed((0.0, -0.9), True), Probed((0.0, -0.01), draw(st.booleans()))])))
    return Run(ExitPolicy(config), script, draw(st.booleans()), trials)


@given(runs())
def test_budgets_hold_whatever_forced_text_costs(run):
    config = run.policy.config
    assert run.tokens <= config.total_tokens
    assert run.exit == "none" or run.thinking_tokens <= config.thinking_limit <= config.total_tokens


@given(runs())
def test_a_block_that_was_closed_has_one_forced_closing_tag_and_any_other_none(run):
    closings = [action for action in run.actions if "</think>" in action.append]
    assert len(closings) == (run.exit in CLOSED)
    assert all(isinstance(action, Answer) for action in closings)


@given(runs())
def test_thinking_is_what_the_model_sampled_with_nothing_lost_or_doubled(run):
    assert run.emitted in (run.thought, run.thought + run.dropped)


@given(runs())
def test_probes_need_a_threshold_and_are_bounded(run):
    config = run.policy.config
    most = len(run.actions) if config.max_probes is None else config.max_probes
    assert len(run.policy.probes) <= (0 if config.threshold is None else most)


@given(runs())
def test_a_step_budget_is_never_exceeded(run):
    limit = run.policy.config.max_steps
    if limit is not None:
        assert len(run.trace().steps) <= limit
    if run.exit == "step_budget":
        assert len(run.trace().steps) == limit


@given(runs())
def test_the_policy_and_the_segmenter_agree(run):
    trace = run.trace()
    assert run.policy.exit_reason == run.exit
    assert trace.exit.reason == ("model" if run.exit in CLOSED else run.exit)
    free = any(action.stop == ("</think>",) for action in run.actions if isinstance(action, Think))
    if not free:
        assert run.policy.steps == len(trace.steps)
