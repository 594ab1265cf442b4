"""What two runs that are alike log alike."""

OF_THE_PROCESS = ("_seconds", "step_time", "sync_difference")
"""Ends of names; the guard checks what the process sampled last."""


def untimed(lines):
    """The lines of a log without what differs from process to process."""
    return [{key: value for key, value in line.items() if not key.endswith(OF_THE_PROCESS)} for line in lines]
