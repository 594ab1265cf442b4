"""What the server's metrics say of the same time, to hold it against what the clients saw."""

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Totals:
    """Answers, and their tokens and steps."""

    answers: int
    tokens: int
    steps: int

    def __sub__(self, before: "Totals") -> "Totals":
        return Totals(self.answers - before.answers, self.tokens - before.tokens, self.steps - before.steps)


NAMES = {
    "stepgrpo_completion_tokens_count": "answers",
    "stepgrpo_completion_tokens_sum": "tokens",
    "stepgrpo_reasoning_steps_sum": "steps",
}


def totals_of(metrics: str, models: Iterable[str]) -> Totals | None:
    """The totals of the named models in a ``/metrics`` page; None from a server without ``stepgrpo_*`` metrics."""
    wanted = set(models)
    sums = dict.fromkeys(NAMES.values(), 0)
    found = False
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name in NAMES and sample.labels.get("model_name") in wanted:
                found = True
                sums[NAMES[sample.name]] += int(sample.value)
    return Totals(**sums) if found else None
