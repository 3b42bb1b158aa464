"""Mutants that no one chose: source, ONNX files and weights changed by rule, one place at a time."""

import ms_models as _prepared_environment  # noqa: F401  # sets variables that must precede every framework
