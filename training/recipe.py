"""Recipes: one YAML file that says everything a training run depends on."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training.rewards import Baseline

FOLDER = Path(__file__).parent / "recipes"
Positive = Annotated[int, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


class RecipeError(ValueError):
    """A recipe that cannot be used; the message is one line that says what to change."""


class Settings(BaseModel):
    """Base of all parts of a recipe: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSettings(Settings):
    """Size of the quickstart model (head dimension 32, two query heads a key-value head)."""

    hidden_size: Annotated[int, Field(gt=0, multiple_of=64)] = 128
    layers: Positive = 5


class SftSettings(Settings):
    """Supervised training of the base. ``drill`` is the leading share of the steps that shows plain solutions only."""

    steps: Positive
    batch_tokens: Positive = 6144
    drill: Probability = 0.5
    cut_share: Probability = 0.3
    muon_lr: float = 0.02
    adamw_lr: float = 3e-3


class RolloutSettings(Settings):
    """Dynamic Truncated Rollout (``truncate``; plain sampling otherwise). Values of the method unless a recipe says."""

    truncate: bool = True
    max_completion_tokens: Positive
    think_ratio: Probability = 0.9
    threshold: Probability = 0.95
    probe_tokens: Positive = 20
    max_probes: Positive = 10
    exit_margin: Annotated[int, Field(ge=0)] = 50
    temperature: float = 1.0
    top_p: float = 1.0
    mask_forced: bool = False


class RewardSettings(Settings):
    """Coefficients of the Step-Aware Relative Reward."""

    alpha: Probability = 0.9
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.5
    baseline: Baseline = "correct"


class GrpoSettings(Settings):
    """The optimisation: a step samples ``prompts`` x ``group_size`` completions and makes ``updates`` updates."""

    steps: Positive
    prompts: Positive
    group_size: Annotated[int, Field(gt=1)] = 5
    updates: Positive = 4
    micro_batch: Positive
    learning_rate: float = 1e-6
    kl: float = 0.01
    clip_low: float = 0.2
    clip_high: float = 0.3


class EvaluationSettings(Settings):
    """How the checkpoint's calibration is measured; the sampling is what its card says."""

    questions: Positive = 1000
    temperature: float = 1.0
    top_p: float = 1.0


class Recipe(Settings):
    """Everything that a run depends on, beside the code."""

    name: str
    task: Literal["word-problems"] = "word-problems"
    seed: int = 0
    markers: tuple[str, ...] = ("Wait", "Alternatively")
    model: ModelSettings
    sft: SftSettings
    rollout: RolloutSettings
    reward: RewardSettings = RewardSettings()
    grpo: GrpoSettings
    evaluation: EvaluationSettings = EvaluationSettings()

    @property
    def digest(self) -> str:
        """``sha256:`` and the hash of the recipe's values, defaults included."""
        values = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return "sha256:" + hashlib.sha256(values.encode()).hexdigest()


def load_recipe(name: str, overrides: Iterable[str] = ()) -> Recipe:
    """Load a bundled recipe by name, or any YAML file by path, with ``dotted.key=value`` overrides.

    Raises:
        RecipeError: no such recipe, malformed YAML or override, an unknown key or a value out of range.
    """
    path = Path(name)
    try:
        text = (path if path.suffix in (".yaml", ".yml") else FOLDER / f"{name}.yaml").read_text()
    except FileNotFoundError as error:
        raise RecipeError(
            f"no recipe {name!r}; bundled: {', '.join(bundled_recipes())}, or give a .yaml file"
        ) from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{name} is not valid YAML: {str(error).splitlines()[0]}") from error
    for override in overrides:
        _override(values, override)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(f"recipe {name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def bundled_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def _override(values: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator:
        raise RecipeError(f"--set {override}: write key=value, for example --set grpo.steps=10")
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise RecipeError(f"--set {override}: {parent} has no keys of its own")
    values[last] = yaml.safe_load(value)
