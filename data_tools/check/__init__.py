"""What is wrong or weak about a subject, in words, before hours of training show it."""

from data_tools.check.findings import Finding, Level

__all__ = ["Finding", "Level", "check_subject", "overlay_iou"]


def __getattr__(name: str):
    # The command line imports this for its types; the checks themselves bring OpenCV and torch along.
    if name in ("check_subject", "overlay_iou"):
        from data_tools.check import subject_checks

        return getattr(subject_checks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
