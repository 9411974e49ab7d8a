"""Our subjects in the layouts that others read most: INSTA's, and VHAP's and GaussianAvatars'."""

from data_tools.exporters.config import ExportConfig, ExportError, ExportFormat, ExportSummary

__all__ = ["ExportConfig", "ExportError", "ExportFormat", "ExportSummary", "export_subject"]


def __getattr__(name: str):
    # The pipeline brings torch along: asking for --help should not.
    if name == "export_subject":
        from data_tools.exporters.pipeline import export_subject

        return export_subject
    raise AttributeError(f"module {__name__} has no attribute {name}")
