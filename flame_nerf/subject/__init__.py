"""The subject on disk: a folder that any Nerfstudio method reads as a static capture, plus the track that moves it."""

from flame_nerf.subject.reading import load_subject
from flame_nerf.subject.types import SPLITS, UNUSED, Frame, HeadTrack, Registration, Subject, SubjectError
from flame_nerf.subject.validation import validate_subject
from flame_nerf.subject.writing import write_subject

__all__ = [
    "SPLITS",
    "UNUSED",
    "Frame",
    "HeadTrack",
    "Registration",
    "Subject",
    "SubjectError",
    "load_subject",
    "validate_subject",
    "write_subject",
]
