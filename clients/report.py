"""The efficiency report that the server puts on each choice, typed."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

FIELD = "reasoning_efficiency"
"""Name of the report on a choice; sent as false in a request, it leaves the report out."""

ExitReason = Literal[
    "model", "confidence", "step_budget", "token_budget", "repetition", "length", "eos", "stop", "abort", "none"
]
"""How thinking ended: by the model itself, by a policy or budget of the request, or not at all (``none``)."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Exit(_Part):
    """Why thinking ended, after which step (1-based; 0 without any) and after how many tokens of thinking."""

    reason: ExitReason
    step: int
    reasoning_tokens: int


class Tokens(_Part):
    """Tokens of an answer: ``completion`` is ``reasoning`` plus ``answer``."""

    reasoning: int
    answer: int
    completion: int


class Baseline(_Part):
    """What the base model would have used, and how that is known: ``calibrated``, ``shadow`` or ``none``."""

    source: str
    completion_tokens: float | None = None


class EfficiencyReport(_Part):
    """Steps, exit, tokens and savings of one answer; savings are None where no baseline is known."""

    steps: int
    exit: Exit
    tokens: Tokens
    baseline: Baseline
    tokens_saved: float | None = None
    savings_ratio: float | None = None


def efficiency_report(choice: BaseModel) -> EfficiencyReport | None:
    """The report of a choice, whole or of a stream's last chunk, that the OpenAI SDK returned; None without one."""
    found = (choice.model_extra or {}).get(FIELD)
    return None if found is None else EfficiencyReport.model_validate(found)
