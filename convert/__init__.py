"""Names and arrays: the family registry, the naming rules, the strict plan, checkpoint readers and writers.

Imports neither network package; network classes are named by string and resolved when needed.
"""
