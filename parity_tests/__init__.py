"""The checker (`parity_tests.harness`) and the test suite."""

import ms_models as _prepared_environment  # noqa: F401  # sets variables that must precede every framework
