"""Checkpoint files as a script of one's own uses them: opened lazily and told by content, written all or nothing."""

from convert.formats import file_format, open_checkpoint, write_checkpoint

__all__ = ["file_format", "open_checkpoint", "write_checkpoint"]
