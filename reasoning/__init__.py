"""What a reasoning step is: the vocabulary that training and serving share. Pure Python, no engine."""

from reasoning.answers import answers_equal, boxed_answer, extract_answer
from reasoning.checkpoint import (
    CARD_NAME,
    Calibration,
    CheckpointError,
    Measurement,
    RecipeRef,
    SamplingRef,
    SavingsRatio,
    StepGrpoCard,
    StepSummary,
    ThinkTags,
    TokenSummary,
    load_card,
)
from reasoning.confidence import answer_confidence
from reasoning.joining import joined
from reasoning.markers import DEFAULT_MARKERS, PAPER_MARKERS, count_steps, marker_pattern
from reasoning.policy import (
    ANSWER_PROMPT,
    Action,
    Answer,
    ExitPolicy,
    ExitPolicyConfig,
    Finish,
    Probe,
    Probed,
    Sampled,
    Think,
)
from reasoning.segmenter import Segmenter, parse_trace
from reasoning.trace import EXIT_REASONS, Exit, ExitReason, Step, Trace

__all__ = [
    "ANSWER_PROMPT",
    "CARD_NAME",
    "DEFAULT_MARKERS",
    "EXIT_REASONS",
    "PAPER_MARKERS",
    "Action",
    "Answer",
    "Calibration",
    "CheckpointError",
    "Exit",
    "ExitPolicy",
    "ExitPolicyConfig",
    "ExitReason",
    "Finish",
    "Measurement",
    "Probe",
    "Probed",
    "RecipeRef",
    "Sampled",
    "SamplingRef",
    "SavingsRatio",
    "Segmenter",
    "Step",
    "StepGrpoCard",
    "StepSummary",
    "Think",
    "ThinkTags",
    "TokenSummary",
    "Trace",
    "answer_confidence",
    "answers_equal",
    "boxed_answer",
    "count_steps",
    "extract_answer",
    "joined",
    "load_card",
    "marker_pattern",
    "parse_trace",
]
