"""The errors a user can meet: one line that says what was wrong, where, and what to do."""


class LoopyError(ValueError):
    """Something the caller gave is wrong; the message is one line and names the cure."""


class MediaError(LoopyError):
    """A picture, sound or video is missing, unreadable, empty or out of range."""


class FaceNotFoundError(MediaError):
    """A picture shows no face that can be used: what was tried, and the ways out."""


class OutputError(LoopyError):
    """A result cannot be written where it was asked for."""


class ModelError(LoopyError):
    """A model is unknown, a file of it is missing, or its weights do not fit."""


class ManifestError(LoopyError):
    """A list of jobs lacks a column or holds a value that makes no sense."""


class ConfigurationError(LoopyError):
    """Options that exclude each other, or that would give a meaningless result."""


class SubjectError(LoopyError):
    """A prepared subject was made with other weights or another layout."""


class StoreError(LoopyError):
    """A shot store, or a shot of it, is missing, damaged or of another schema."""


class CorruptFileError(StoreError):
    """A file of a shot store is gone, cut off, or not as it was written."""


class MetricError(LoopyError):
    """A figure cannot be told from what was given: too few videos or frames, or no numbers."""


class DependencyError(LoopyError, ImportError):
    """A library is missing or its build does not fit; the message says what to install."""
