"""Exit control: fields of a request that end the thinking early."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class EarlyExit(BaseModel):
    """Leave the thinking when a trial answer is more probable than ``threshold``, for models not trained to exit.

    ``mean`` is that of the probabilities of its tokens; None leaves it to the server, which takes the geometric one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Literal["confidence"] = "confidence"
    threshold: float = Field(0.95, ge=0, le=1)
    mean: Literal["geometric", "arithmetic"] | None = None


class ExitControl(BaseModel):
    """What a request may ask of its exit; None leaves the thinking to the model.

    Attributes:
        max_reasoning_steps: the block is closed where one more step would begin.
        thinking_token_budget: the block is closed after this many tokens.
        early_exit: a policy closes it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_reasoning_steps: int | None = Field(None, ge=1)
    thinking_token_budget: int | None = Field(None, ge=0)
    early_exit: EarlyExit | None = None

    @property
    def extra_body(self) -> dict[str, Any]:
        """The fields as the ``extra_body`` of an OpenAI SDK's call."""
        return self.model_dump(exclude_none=True)
