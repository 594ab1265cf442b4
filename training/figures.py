"""Plots on disk, drawn without a display."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure and close it; its file does not name the version that drew it."""
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
