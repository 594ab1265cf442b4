"""The compared methods, one module each, behind one interface."""

from training.methods.interface import AtInference, Distillation, Method, PolicyGradient, Scored
from training.methods.registry import METHODS, MethodError, load_method

__all__ = [
    "METHODS",
    "AtInference",
    "Distillation",
    "Method",
    "MethodError",
    "PolicyGradient",
    "Scored",
    "load_method",
]
