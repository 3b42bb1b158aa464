"""Tests of the checker itself: bugs that porters make are planted, and must be caught and blamed on the right place."""

import ms_models as _prepared_environment  # noqa: F401  # sets variables that must precede every framework
