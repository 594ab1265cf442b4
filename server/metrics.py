"""Every Prometheus family of ours, and how a choice counts in them.

Labels are bounded: ``model_name`` takes served names only, the others are enumerations, all present from the start. The
series of an adapter go when it is unloaded.
The histograms hold finished answers. A choice that was aborted counts in ``stepgrpo_exits_total`` alone, as it does
in vLLM's own histograms.
"""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Final, Literal, TypeVar, get_args

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from reasoning import EXIT_REASONS, ExitReason, StepGrpoCard, Trace
from server.savings import SOURCES, Baseline, Source

TOKENS = (0, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
STEPS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 21, 34, 55, 89)
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 4.0)
ShadowOutcome = Literal["compared", "skipped", "failed"]
Family = TypeVar("Family", Histogram, Counter, Gauge)
SHADOW_OUTCOMES: Final[tuple[ShadowOutcome, ...]] = get_args(ShadowOutcome)


@dataclass(frozen=True, slots=True)
class _Series:
    """What counts the answers of one served model. Found once: to find a series takes as long as to count in it."""

    completion_tokens: Histogram
    reasoning_tokens: Histogram
    answer_tokens: Histogram
    steps: Histogram
    step_tokens: Histogram
    exits: dict[ExitReason, Counter]
    exit_step: dict[ExitReason, Histogram]
    exit_position: Histogram
    baseline_tokens: dict[Source, Counter]
    actual_tokens: dict[Source, Counter]
    shadow_requests: dict[ShadowOutcome, Counter]


class EfficiencyMetrics:
    """The ``stepgrpo_*`` families of one registry; vLLM's ``/metrics`` shows the default one."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._families: list[Histogram | Counter | Gauge] = []

        def kept(family: Family) -> Family:
            self._families.append(family)
            return family

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return kept(Histogram(name, text, ("model_name", *labels), buckets=buckets, registry=registry))

        def counter(name: str, text: str, *labels: str) -> Counter:
            return kept(Counter(name, text, ("model_name", *labels), registry=registry))

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return kept(Gauge(name, text, ("model_name", *labels), registry=registry))

        self._completion_tokens = histogram(
            "stepgrpo_completion_tokens", "Tokens per answer, thinking included.", TOKENS
        )
        self._reasoning_tokens = histogram("stepgrpo_reasoning_tokens", "Thinking tokens per answer.", TOKENS)
        self._answer_tokens = histogram("stepgrpo_answer_tokens", "Tokens per answer outside the thinking.", TOKENS)
        self._steps = histogram("stepgrpo_reasoning_steps", "Semantic steps per answer.", STEPS)
        self._step_tokens = histogram("stepgrpo_step_tokens", "Tokens per semantic step.", TOKENS)
        self._exits = counter("stepgrpo_exits_total", "Choices by how their thinking ended.", "reason")
        self._exit_step = histogram("stepgrpo_exit_step", "Step at which thinking ended.", STEPS, "reason")
        self._exit_position = histogram(
            "stepgrpo_exit_position_ratio",
            "Reasoning tokens at the exit over the base model's mean completion tokens (calibrated checkpoints).",
            RATIOS,
        )
        self._baseline_tokens = counter(
            "stepgrpo_baseline_tokens_total",
            "Tokens that the base model would have used for the answers given.",
            "source",
        )
        self._actual_tokens = counter(
            "stepgrpo_actual_tokens_total",
            "Tokens of the answers given, by the source of the baseline that they are compared with.",
            "source",
        )
        self._calibrated_savings = gauge(
            "stepgrpo_calibration_savings_ratio",
            "Share of the base model's tokens saved in the checkpoint's calibration: its mean and 95 % interval.",
            "bound",
        )
        self._shadow_requests = counter(
            "stepgrpo_shadow_requests_total", "Requests replayed on the base model.", "outcome"
        )
        self._checkpoint_info = gauge(
            "stepgrpo_checkpoint_info", "What is served (always 1).", "algorithm", "base_model", "recipe"
        )
        self._models: dict[str, _Series] = {}
        build = Gauge("stepgrpo_build_info", "Version of the server (always 1).", ("version",), registry=registry)
        build.labels(version("stepgrpo")).set(1)

    def add_model(self, model: str, card: StepGrpoCard | None) -> None:
        """Make all series of a served model present, and publish what it is; no longer what had its name before."""
        self._models[model] = _Series(
            completion_tokens=self._completion_tokens.labels(model),
            reasoning_tokens=self._reasoning_tokens.labels(model),
            answer_tokens=self._answer_tokens.labels(model),
            steps=self._steps.labels(model),
            step_tokens=self._step_tokens.labels(model),
            exits={reason: self._exits.labels(model, reason) for reason in EXIT_REASONS},
            exit_step={reason: self._exit_step.labels(model, reason) for reason in EXIT_REASONS},
            exit_position=self._exit_position.labels(model),
            baseline_tokens={
                source: self._baseline_tokens.labels(model, source) for source in SOURCES if source != "none"
            },
            actual_tokens={source: self._actual_tokens.labels(model, source) for source in SOURCES},
            shadow_requests={outcome: self._shadow_requests.labels(model, outcome) for outcome in SHADOW_OUTCOMES},
        )
        for gauge in (self._checkpoint_info, self._calibrated_savings):
            gauge.remove_by_labels({"model_name": model})
        algorithm, base, recipe = (card.algorithm, card.base_model, card.recipe.name) if card else ("", "", "")
        self._checkpoint_info.labels(model, algorithm, base, recipe).set(1)
        if card is not None and card.calibration is not None:
            ratio = card.calibration.savings_ratio
            bounds = {"lower": ratio.ci95[0], "mean": ratio.mean, "upper": ratio.ci95[1]}
            for bound, value in bounds.items():
                self._calibrated_savings.labels(model, bound).set(value)

    def remove_model(self, model: str) -> None:
        """Take a model's series away; what still comes of it is counted nowhere."""
        del self._models[model]
        for family in self._families:
            family.remove_by_labels({"model_name": model})

    def finished(self, model: str, trace: Trace, baseline: Baseline) -> None:
        """Count an answer that came to its end."""
        series = self._models.get(model)
        if series is None:
            return
        reason = trace.exit.reason
        series.completion_tokens.observe(trace.completion_tokens)
        series.reasoning_tokens.observe(trace.exit.reasoning_tokens)
        series.answer_tokens.observe(trace.answer_tokens)
        series.steps.observe(len(trace.steps))
        for step in trace.steps:
            series.step_tokens.observe(step.tokens)
        series.exits[reason].inc()
        series.exit_step[reason].observe(trace.exit.step)
        if baseline.mean_completion_tokens:
            series.exit_position.observe(trace.exit.reasoning_tokens / baseline.mean_completion_tokens)
        series.actual_tokens[baseline.source].inc(trace.completion_tokens)
        expected = baseline.completion_tokens(trace.completion_tokens)
        if expected is not None:
            series.baseline_tokens[baseline.source].inc(expected)

    def compared(self, model: str, actual: int, baseline: int) -> None:
        """Count an answer that the base model has answered, too, by the completion tokens of both."""
        if series := self._models.get(model):
            series.actual_tokens["shadow"].inc(actual)
            series.baseline_tokens["shadow"].inc(baseline)

    def shadowed(self, model: str, outcome: ShadowOutcome) -> None:
        """Count an answer that was drawn for a comparison with the base model's."""
        if series := self._models.get(model):
            series.shadow_requests[outcome].inc()

    def aborted(self, model: str) -> None:
        """Count a choice that did not come to its end."""
        if series := self._models.get(model):
            series.exits["abort"].inc()
