"""The error of all weights files."""


class WeightsError(ValueError):
    """A weights file that can't be used; the message names the file and says why."""
