"""The whole story of a recipe: a base model, its Step-GRPO checkpoint, and both measured on the same questions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reasoning import Calibration, Measurement, SavingsRatio, StepGrpoCard, TokenSummary, load_card

import numpy as np
