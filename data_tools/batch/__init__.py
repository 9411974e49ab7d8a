"""Many videos at once: each tracked, and trained on if asked, by the ordinary commands."""

from data_tools.batch.config import BatchConfig, BatchError

__all__ = ["BatchConfig", "BatchError"]
