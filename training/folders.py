"""Where a run keeps what it makes."""

from dataclasses import dataclass
from pathlib import Path

from training.problems import Split
from training.recipe import Recipe

BASE, TUNED, REPORT = "base", "step-grpo", "report"


@dataclass(frozen=True, slots=True)
class Folders:
    """The two checkpoints of a run and its report."""

    root: Path

    @property
    def base(self) -> Path:
        """The model before post-training."""
        return self.root / BASE

    @property
    def tuned(self) -> Path:
        """The model after post-training, whatever the method."""
        return self.root / TUNED

    def report(self, split: Split) -> Path:
        """Tables and plots of one split."""
        return self.root / REPORT / split

    def start(self, recipe: Recipe) -> str | Path:
        """What post-training starts from: the recipe's model, or the base that it trains."""
        return recipe.model.path or self.base
