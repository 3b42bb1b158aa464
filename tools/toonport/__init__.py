"""Toonport's programs: the command line, export, and what stands on the converter and the checker."""

import ms_models as _prepared_environment  # noqa: F401  # sets variables that must precede every framework

__version__ = "0.1.0"
