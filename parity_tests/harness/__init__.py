"""The checker: capture, compare, judge and report, each in its own file."""
