"""Other tools' tracked data become subjects: one file a format, one report for all."""

from data_tools.importers.config import FormatName, ImportConfig, ImportingError, ImportSummary

__all__ = ["FormatName", "ImportConfig", "ImportSummary", "ImportingError", "import_data"]


def __getattr__(name: str):
    # The pipeline brings torch along: asking for --help should not.
    if name == "import_data":
        from data_tools.importers.pipeline import import_data

        return import_data
    raise AttributeError(f"module {__name__} has no attribute {name}")
