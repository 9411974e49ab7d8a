"""Tracking a talking head: from a video to a subject that can be trained on."""

from data_tools.tracking.config import TrackConfig, TrackingError, TrackSummary

__all__ = ["TrackConfig", "TrackSummary", "TrackingError", "live_face", "played", "track"]


def __getattr__(name: str):
    # The pipeline brings torch and the head models along: asking for --help should not.
    if name == "track":
        from data_tools.tracking.pipeline import track

        return track
    if name == "live_face":
        from data_tools.tracking.live import LiveFace

        return LiveFace
    if name == "played":
        from data_tools.tracking.live import played

        return played
    raise AttributeError(f"module {__name__} has no attribute {name}")
