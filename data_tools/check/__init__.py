"""What is wrong or weak about a subject, in words, before hours of training show it."""

from typing import Any

__all__ = ["Finding", "check_subject", "overlay_iou"]


def __getattr__(name: str) -> Any:
    # The command line imports this package; the checks themselves bring OpenCV and torch along.
    if name in ("Finding", "check_subject", "overlay_iou"):
        from data_tools.check import subject_checks

        return getattr(subject_checks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
