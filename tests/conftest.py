"""What all tests share: one thread, no network, plain output, and property tests that CI repeats exactly."""

import os

from hypothesis import settings

pytest_plugins = ["real_server", "no_skips"]

os.environ.setdefault("OMP_NUM_THREADS", "1")  # on busy cores, a second OpenMP thread costs far more than it gives
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("_TYPER_FORCE_DISABLE_TERMINAL", "1")  # some CI services make typer colour its help
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
