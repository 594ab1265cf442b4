"""What a request may ask of its exit from thinking, and what the server lets it have."""

from collections.abc import Mapping
from contextvars import ContextVar
from functools import cached_property
from typing import Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from reasoning.confidence import Mean
from server.context import Within
from server.settings import ServerSettings

Number = TypeVar("Number", int, float)


class EarlyExit(BaseModel):
    """Leave the thinking when a trial answer is sure enough.

    Attributes:
        policy: how sureness is judged; ``confidence`` is the ``mean`` probability of the trial answer's tokens.
        threshold: confidence above which the thinking ends.
        mean: ``geometric`` as in Step-GRPO, or ``arithmetic``, which DEER takes for models outside the Qwen3 family.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    policy: Literal["confidence"]
    threshold: float = Field(0.95, ge=0, le=1)
    mean: Mean = "geometric"


class ExitControl(BaseModel):
    """Fields of a request's body that end its thinking early; None leaves it alone.

    Attributes:
        max_reasoning_steps: close the block where one more step would begin.
        thinking_token_budget: vLLM's own; tokens between the tags. -1 is none.
        early_exit: the inference-time policy that Step-GRPO makes unnecessary.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    max_reasoning_steps: int | None = Field(None, ge=1)
    thinking_token_budget: int | None = Field(None, ge=0)
    early_exit: EarlyExit | None = None

    @field_validator("thinking_token_budget", mode="before")
    @classmethod
    def _unlimited(cls, budget: Any) -> Any:
        return None if type(budget) is int and budget == -1 else budget

    @property
    def paused(self) -> bool:
        """Whether thinking has to pause at its steps; a token budget alone does without."""
        return self.max_reasoning_steps is not None or self.early_exit is not None


class InvalidExitControlError(Exception):
    """A field does not fit.

    Attributes:
        param: its name; of a nested one, with dots.
    """

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


FIELDS: Final = tuple(ExitControl.model_fields)
NO_CONTROL: Final = ExitControl()


def exit_control_of(body: Mapping[str, Any]) -> ExitControl:
    """Read the exit control of a request's body.

    Raises:
        InvalidExitControlError: naming the first field that does not fit.
    """
    asked = {name: body[name] for name in FIELDS if name in body}
    if not asked:
        return NO_CONTROL
    try:
        return ExitControl.model_validate(asked)
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(map(str, first["loc"]))
        raise InvalidExitControlError(f"{param}: {first['msg']}", param) from error


class ExitLimits(BaseModel):
    """The server's own word: what requests get that ask for nothing, and the most that any may have.

    Attributes:
        default: for fields that a request leaves out. It gives way where the request cannot be paused.
        cap: upper bound of every field, also of those left out.
    """

    model_config = ConfigDict(frozen=True)

    default: ExitControl = NO_CONTROL
    cap: ExitControl = NO_CONTROL

    @classmethod
    def of(cls, settings: ServerSettings) -> Self:
        """The limits that the settings give."""
        return cls(
            default=ExitControl(
                max_reasoning_steps=settings.max_reasoning_steps,
                thinking_token_budget=settings.thinking_token_budget,
                early_exit=_confidence(settings.early_exit_threshold),
            ),
            cap=ExitControl(
                max_reasoning_steps=settings.max_reasoning_steps_cap,
                thinking_token_budget=settings.thinking_token_budget_cap,
                early_exit=_confidence(settings.early_exit_threshold_cap),
            ),
        )

    @property
    def budgets_tokens(self) -> bool:
        """Whether requests may get a token budget that they did not ask for."""
        return self.default.thinking_token_budget is not None or self.cap.thinking_token_budget is not None

    @cached_property
    def _idle(self) -> bool:
        return self.default == self.cap == NO_CONTROL

    def effective(self, asked: ExitControl) -> ExitControl:
        """What a request gets: its own word or else the default, within the cap."""
        if self._idle:
            return asked
        steps, budget, early = (
            [getattr(source, name) for source in (asked, self.default, self.cap)] for name in FIELDS
        )
        thresholds = [None if exit_ is None else exit_.threshold for exit_ in early]
        return ExitControl(
            max_reasoning_steps=_within(*steps),
            thinking_token_budget=_within(*budget),
            early_exit=_confidence(_within(*thresholds), asked.early_exit.mean if asked.early_exit else "geometric"),
        )

    def binding(self, asked: ExitControl) -> ExitControl:
        """What a request gets that cannot pause at its steps: without the defaults that it would have to pause for."""
        default = ExitControl(thinking_token_budget=self.default.thinking_token_budget)
        return self.model_copy(update={"default": default}).effective(asked)


def _confidence(threshold: float | None, mean: Mean = "geometric") -> EarlyExit | None:
    return None if threshold is None else EarlyExit(policy="confidence", threshold=threshold, mean=mean)


def _within(asked: Number | None, default: Number | None, cap: Number | None) -> Number | None:
    wanted = default if asked is None else asked
    return min((value for value in (wanted, cap) if value is not None), default=None)


asked_exit_control: ContextVar[ExitControl] = ContextVar("stepgrpo_exit_control", default=NO_CONTROL)
"""What the request that is being answered asked for."""


def asking(control: ExitControl) -> Within[ExitControl]:
    """Let what is answered in this context have asked for this."""
    return Within(asked_exit_control, control)
