"""``step_grpo.json``: what a Step-GRPO checkpoint says of itself."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from reasoning.segmenter import DEFAULT_TAGS

CARD_NAME: Final = "step_grpo.json"

Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]
Marker = Annotated[str, Field(pattern=r"\S")]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message is one line that says why."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ThinkTags(_Part):
    """The tags around the thinking block."""

    start: Text = DEFAULT_TAGS[0]
    end: Text = DEFAULT_TAGS[1]

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.start == self.end:
            raise ValueError("start and end must differ")
        return self


class RecipeRef(_Part):
    """The recipe that made the checkpoint: its name and the hash of its values."""

    name: Text
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class SamplingRef(_Part):
    """How the calibration's answers were sampled."""

    temperature: NonNegative
    top_p: Annotated[float, Field(gt=0, le=1)]


class TokenSummary(_Part):
    """Completion tokens per answer."""

    mean: NonNegative
    p50: NonNegative
    p90: NonNegative


class StepSummary(_Part):
    """Semantic steps per answer."""

    mean: NonNegative


class Measurement(_Part):
    """One model on the calibration questions."""

    accuracy: Share
    completion_tokens: TokenSummary
    reasoning_steps: StepSummary


class SavingsRatio(_Part):
    """``1 - tuned / base`` mean completion tokens, with its paired 95 % interval."""

    mean: Annotated[float, Field(lt=1)]
    ci95: tuple[float, float]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.ci95[0] <= self.mean <= self.ci95[1]:
            raise ValueError("ci95 must contain the mean")
        return self


class Calibration(_Part):
    """Base and tuned model, measured on the same ``n`` questions."""

    dataset: Text
    n: Annotated[int, Field(gt=0)]
    sampling: SamplingRef
    base: Measurement
    tuned: Measurement
    savings_ratio: SavingsRatio


class StepGrpoCard(_Part):
    """The content of ``step_grpo.json``."""

    format: Literal[1] = 1
    algorithm: Text
    base_model: Text
    think: ThinkTags = ThinkTags()
    markers: Annotated[tuple[Marker, ...], Field(min_length=1)]
    answer_prompt: Text
    recipe: RecipeRef
    calibration: Calibration | None = None

    def save(self, folder: str | Path) -> None:
        """Write the card into an existing checkpoint folder; a kill leaves the old one or the new one."""
        path = Path(folder) / CARD_NAME
        partial = path.with_suffix(".partial")
        partial.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        partial.replace(path)


def load_card(folder: str | Path) -> StepGrpoCard | None:
    """Read the card of a checkpoint folder; None if it has none.

    Raises:
        CheckpointError: the file is there but broken.
    """
    path = Path(folder) / CARD_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    try:
        return StepGrpoCard.model_validate_json(text)
    except ValidationError as error:
        raise CheckpointError(f"{path} is broken: {_in_one_line(error)}") from error


def _in_one_line(error: ValidationError) -> str:
    first, *others = error.errors(include_url=False)
    where = ".".join(map(str, first["loc"]))
    more = f" (and {len(others)} more)" if others else ""
    return f"{where + ': ' if where else ''}{first['msg']}{more}"
