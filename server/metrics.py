"""Every Prometheus family of ours, and how a choice counts in them.

Labels are bounded: ``model_name`` takes served names only, the others are enumerations, all present from the start. The
series of an adapter go when it is unloaded.
The histograms hold finished answers. A choice that was aborted counts in ``stepgrpo_exits_total`` alone, as it does
in vLLM's own histograms.
"""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Final, Literal, get_args

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from reasoning import EXIT_REASONS, StepGrpoCard, Trace
from server.savings import SOURCES, Baseline

TOKENS = (0, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
STEPS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 21, 34, 55, 89)
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 4.0)
ShadowOutcome = Literal["compared", "skipped", "failed"]
Series = tuple[Histogram | Counter | Gauge, tuple[str, ...]]
"""A family, and the values of its labels."""
SHADOW_OUTCOMES: Final[tuple[ShadowOutcome, ...]] = get_args(ShadowOutcome)


class EfficiencyMetrics:
    """The ``stepgrpo_*`` families of one registry; vLLM's ``/metrics`` shows the default one."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, ("model_name", *labels), buckets=buckets, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, ("model_name", *labels), registry=registry)

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
        self._calibrated_savings = Gauge(
            "stepgrpo_calibration_savings_ratio",
            "Share of the base model's tokens saved in the checkpoint's calibration: its mean and 95 % interval.",
            ("model_name", "bound"),
            registry=registry,
        )
        self._shadow_requests = counter(
            "stepgrpo_shadow_requests_total", "Requests replayed on the base model.", "outcome"
        )
        self._checkpoint_info = Gauge(
            "stepgrpo_checkpoint_info",
            "What is served (always 1).",
            ("model_name", "algorithm", "base_model", "recipe"),
            registry=registry,
        )
        self._series: dict[str, list[Series]] = {}
        build = Gauge("stepgrpo_build_info", "Version of the server (always 1).", ("version",), registry=registry)
        build.labels(version("stepgrpo")).set(1)

    def add_model(self, model: str, card: StepGrpoCard | None) -> None:
        """Make all series of a served model present, and publish what it is; no longer what had its name before."""
        for family, labels in self._series.get(model, ()):
            if isinstance(family, Gauge):
                family.remove(*labels)
        published = self._published(model, card)
        self._series[model] = [*self._counted(model), *((gauge, labels) for gauge, labels, _ in published)]
        for family, labels in self._series[model]:
            family.labels(*labels)
        for gauge, labels, value in published:
            gauge.labels(*labels).set(value)

    def remove_model(self, model: str) -> None:
        """Take a model's series away; what still comes of it is counted nowhere."""
        for family, labels in self._series.pop(model):
            family.remove(*labels)

    def _counted(self, model: str) -> Iterator[Series]:
        for family in (
            self._completion_tokens,
            self._reasoning_tokens,
            self._answer_tokens,
            self._steps,
            self._step_tokens,
            self._exit_position,
        ):
            yield family, (model,)
        for reason in EXIT_REASONS:
            yield self._exits, (model, reason)
            yield self._exit_step, (model, reason)
        for source in SOURCES:
            yield self._actual_tokens, (model, source)
            if source != "none":
                yield self._baseline_tokens, (model, source)
        for outcome in SHADOW_OUTCOMES:
            yield self._shadow_requests, (model, outcome)

    def _published(self, model: str, card: StepGrpoCard | None) -> list[tuple[Gauge, tuple[str, ...], float]]:
        algorithm, base, recipe = (card.algorithm, card.base_model, card.recipe.name) if card else ("", "", "")
        info = (self._checkpoint_info, (model, algorithm, base, recipe), 1.0)
        if card is None or card.calibration is None:
            return [info]
        ratio = card.calibration.savings_ratio
        bounds = {"lower": ratio.ci95[0], "mean": ratio.mean, "upper": ratio.ci95[1]}
        return [info, *((self._calibrated_savings, (model, bound), value) for bound, value in bounds.items())]

    def finished(self, model: str, trace: Trace, baseline: Baseline) -> None:
        """Count an answer that came to its end."""
        if model not in self._series:
            return
        reason = trace.exit.reason
        self._completion_tokens.labels(model).observe(trace.completion_tokens)
        self._reasoning_tokens.labels(model).observe(trace.exit.reasoning_tokens)
        self._answer_tokens.labels(model).observe(trace.answer_tokens)
        self._steps.labels(model).observe(len(trace.steps))
        step_tokens = self._step_tokens.labels(model)
        for step in trace.steps:
            step_tokens.observe(step.tokens)
        self._exits.labels(model, reason).inc()
        self._exit_step.labels(model, reason).observe(trace.exit.step)
        if baseline.mean_completion_tokens:
            self._exit_position.labels(model).observe(trace.exit.reasoning_tokens / baseline.mean_completion_tokens)
        self._actual_tokens.labels(model, baseline.source).inc(trace.completion_tokens)
        expected = baseline.completion_tokens(trace.completion_tokens)
        if expected is not None:
            self._baseline_tokens.labels(model, baseline.source).inc(expected)

    def compared(self, model: str, actual: int, baseline: int) -> None:
        """Count an answer that the base model has answered, too, by the completion tokens of both."""
        if model in self._series:
            self._actual_tokens.labels(model, "shadow").inc(actual)
            self._baseline_tokens.labels(model, "shadow").inc(baseline)

    def shadowed(self, model: str, outcome: ShadowOutcome) -> None:
        """Count an answer that was drawn for a comparison with the base model's."""
        if model in self._series:
            self._shadow_requests.labels(model, outcome).inc()

    def aborted(self, model: str) -> None:
        """Count a choice that did not come to its end."""
        if model in self._series:
            self._exits.labels(model, "abort").inc()
