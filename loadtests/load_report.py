"""The report of a load test, and whether it passed."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loadtests.server_totals import Totals


@dataclass(frozen=True, slots=True)
class Distribution:
    """One quantity over all answers; percentiles are locust's, rounded to two digits."""

    count: int
    total: float
    p50: float
    p95: float
    p99: float
    largest: float

    @property
    def mean(self) -> float:
        """Mean, 0 without any."""
        return self.total / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What makes a run fail; None checks nothing. Times are in milliseconds."""

    max_failures: int | None = 0
    max_first_token_p95: float | None = None
    max_between_tokens_p95: float | None = None
    max_latency_p95: float | None = None
    min_answers_per_second: float | None = None
    exact_totals: bool = False


@dataclass(frozen=True, slots=True)
class LoadReport:
    """A load test.

    Attributes:
        scenario: its name.
        users: most users at once.
        seconds: from the first request to the last answer.
        failures: failed requests, by what went wrong.
        hang_ups: requests that the client broke off, as the scenario wants.
        quantities: by name: ``time to first token``, ``time between tokens`` and ``latency`` (milliseconds),
            ``tokens per answer`` and ``steps per answer``.
        server: what its metrics gained; None where it has none.
        lost_workers: workers whose last figures are missing.
    """

    scenario: str
    users: int
    seconds: float
    failures: Mapping[str, int]
    hang_ups: int
    quantities: Mapping[str, Distribution]
    server: Totals | None
    lost_workers: int = 0
    thresholds: Thresholds = field(default_factory=Thresholds)

    @property
    def seen(self) -> Totals:
        """What the clients counted."""
        tokens, steps = self.quantities["tokens per answer"], self.quantities["steps per answer"]
        return Totals(tokens.count, int(tokens.total), int(steps.total))

    @property
    def answers_per_second(self) -> float:
        """Finished answers a second."""
        return self.seen.answers / self.seconds if self.seconds else 0.0

    def verdicts(self) -> list[str]:
        """Every threshold that was not met, in words; none if the run passed."""
        found = []
        limits, failed = self.thresholds, sum(self.failures.values())
        if not self.seen.answers:
            found.append("no answer came: see the failures")
        if self.lost_workers:
            found.append(f"{self.lost_workers} workers sent no last report: what they counted last is missing")
        if limits.max_failures is not None and failed > limits.max_failures:
            found.append(f"{failed} requests failed, at most {limits.max_failures} may")
        for name, limit in (
            ("time to first token", limits.max_first_token_p95),
            ("time between tokens", limits.max_between_tokens_p95),
            ("latency", limits.max_latency_p95),
        ):
            if limit is not None and self.quantities[name].p95 > limit:
                found.append(f"{name}: p95 is {self.quantities[name].p95:g} ms, at most {limit:g} ms may be")
        if limits.min_answers_per_second is not None and self.answers_per_second < limits.min_answers_per_second:
            found.append(
                f"{self.answers_per_second:.1f} answers/s, at least {limits.min_answers_per_second:g} should be"
            )
        if limits.exact_totals and self.server != self.seen:
            found.append(f"the server's metrics gained {self.server}, the clients counted {self.seen}")
        return found

    def as_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            **asdict(self),
            "answers_per_second": self.answers_per_second,
            "seen": asdict(self.seen),
            "verdicts": self.verdicts(),
        }

    def markdown(self) -> str:
        """The report for people."""
        verdicts = self.verdicts()
        lines = [
            f"# Load test: {self.scenario}",
            "",
            f"**{'failed' if verdicts else 'passed'}**: {self.seen.answers} answers from {self.users} users in"
            f" {self.seconds:.1f} s, {self.answers_per_second:.1f} answers/s,"
            f" {self.seen.tokens / self.seconds if self.seconds else 0:.0f} tokens/s,"
            f" {sum(self.failures.values())} failures, {self.hang_ups} hang-ups.",
            "",
            *(f"- {verdict}" for verdict in verdicts),
            *([""] if verdicts else []),
            "| | mean | p50 | p95 | p99 | max |",
            "|---|--:|--:|--:|--:|--:|",
            *(
                f"| {name} | {each.mean:.1f} | {each.p50:g} | {each.p95:g} | {each.p99:g} | {each.largest:g} |"
                for name, each in self.quantities.items()
            ),
            "",
            "| | answers | tokens | steps |",
            "|---|--:|--:|--:|",
            _row("seen by the clients", self.seen),
            _row("gained by the server's metrics", self.server),
        ]
        if self.failures:
            lines += ["", *(f"- {count} x {error}" for error, count in self.failures.items())]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> None:
        """Write ``load.json`` and ``load.md`` into a folder, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "load.json").write_text(json.dumps(self.as_json(), indent=2) + "\n")
        (folder / "load.md").write_text(self.markdown())


def _row(label: str, totals: Totals | None) -> str:
    return f"| {label} | " + (f"{totals.answers} | {totals.tokens} | {totals.steps} |" if totals else "- | - | - |")
