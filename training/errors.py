"""What can stop a run that began well."""


class TrainingError(RuntimeError):
    """A run cannot go on; the message says why and what to do."""
