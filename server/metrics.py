"""Every Prometheus family of ours, and the one function that counts a finished choice.

Labels are bounded: ``model_name`` takes served names only, the others are enumerations, all present from the start.
"""

from importlib.metadata import version

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from reasoning import EXIT_REASONS, StepGrpoCard, Trace
from server.savings import Baseline

TOKENS = (0, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
STEPS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89)
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 4.0)
SOURCES = ("calibrated", "shadow", "none")
SHADOW_OUTCOMES = ("measured", "skipped", "failed")


class EfficiencyMetrics:
    """The ``stepgrpo_*`` families of one registry.

    Args:
        models: served names, the only values of ``model_name``.
        registry: where to register; vLLM's ``/metrics`` shows the default one.
    """

    def __init__(self, models: tuple[str, ...], registry: CollectorRegistry = REGISTRY) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, ("model_name", *labels), buckets=buckets, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, ("model_name", *labels), registry=registry)

        self.completion_tokens = histogram(
            "stepgrpo_completion_tokens", "Tokens per answer, thinking included.", TOKENS
        )
        self.reasoning_tokens = histogram("stepgrpo_reasoning_tokens", "Thinking tokens per answer.", TOKENS)
        self.answer_tokens = histogram("stepgrpo_answer_tokens", "Tokens per answer outside the thinking.", TOKENS)
        self.steps = histogram("stepgrpo_reasoning_steps", "Semantic steps per answer.", STEPS)
        self.step_tokens = histogram("stepgrpo_step_tokens", "Tokens per semantic step.", TOKENS)
        self.exits = counter("stepgrpo_exits_total", "Finished choices by how thinking ended.", "reason")
        self.exit_step = histogram("stepgrpo_exit_step", "Step at which thinking ended.", STEPS, "reason")
        self.exit_position = histogram(
            "stepgrpo_exit_position_ratio",
            "Reasoning tokens at the exit over the base model's mean completion tokens.",
            RATIOS,
        )
        self.baseline_tokens = counter(
            "stepgrpo_baseline_tokens_total", "Tokens that the base model would have used.", "source"
        )
        self.actual_tokens = counter(
            "stepgrpo_actual_tokens_total", "Tokens used, by the source of what they are compared with.", "source"
        )
        self.shadow_requests = counter(
            "stepgrpo_shadow_requests_total", "Requests chosen to be replayed on the base model.", "outcome"
        )
        self.checkpoint_info = Gauge(
            "stepgrpo_checkpoint_info",
            "What is served (always 1).",
            ("model_name", "algorithm", "base_model", "recipe"),
            registry=registry,
        )
        self.build_info = Gauge("stepgrpo_build_info", "Version (always 1).", ("version",), registry=registry)
        self.build_info.labels(version("stepgrpo")).set(1)
        for model in models:
            self._initialise(model)

    def _initialise(self, model: str) -> None:
        for family in (
            self.completion_tokens,
            self.reasoning_tokens,
            self.answer_tokens,
            self.steps,
            self.step_tokens,
            self.exit_position,
        ):
            family.labels(model)
        for reason in EXIT_REASONS:
            self.exits.labels(model, reason)
            self.exit_step.labels(model, reason)
        for source in SOURCES:
            self.baseline_tokens.labels(model, source)
            self.actual_tokens.labels(model, source)
        for outcome in SHADOW_OUTCOMES:
            self.shadow_requests.labels(model, outcome)

    def describe(self, model: str, card: StepGrpoCard | None) -> None:
        """Publish what ``model`` is."""
        algorithm, base, recipe = (card.algorithm, card.base_model, card.recipe.name) if card else ("unknown", "", "")
        self.checkpoint_info.labels(model, algorithm, base, recipe).set(1)

    def observe(self, model: str, trace: Trace, baseline: Baseline) -> None:
        """Count one finished choice."""
        reason = trace.exit.reason
        self.completion_tokens.labels(model).observe(trace.completion_tokens)
        self.reasoning_tokens.labels(model).observe(trace.exit.reasoning_tokens)
        self.answer_tokens.labels(model).observe(trace.answer_tokens)
        self.steps.labels(model).observe(len(trace.steps))
        for step in trace.steps:
            self.step_tokens.labels(model).observe(step.tokens)
        self.exits.labels(model, reason).inc()
        self.exit_step.labels(model, reason).observe(trace.exit.step)
        if baseline.mean_completion_tokens:
            position = trace.exit.reasoning_tokens / baseline.mean_completion_tokens
            self.exit_position.labels(model).observe(position)
        expected = baseline.completion_tokens(trace.completion_tokens)
        self.actual_tokens.labels(model, baseline.source).inc(trace.completion_tokens)
        if expected is not None:
            self.baseline_tokens.labels(model, baseline.source).inc(expected)
