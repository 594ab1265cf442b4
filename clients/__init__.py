"""A typed client on the official OpenAI SDK, with the efficiency report and exit control. It talks HTTP only."""

from clients.answer import Answer, AnswerText, Event, IncompleteAnswerError, ThinkingText
from clients.client import AsyncClient, Client
from clients.control import EarlyExit, ExitControl
from clients.report import EfficiencyReport, ExitReason, efficiency_report

__all__ = [
    "Answer",
    "AnswerText",
    "AsyncClient",
    "Client",
    "EarlyExit",
    "EfficiencyReport",
    "Event",
    "ExitControl",
    "ExitReason",
    "IncompleteAnswerError",
    "ThinkingText",
    "efficiency_report",
]
