"""MindSpore twins of `torch_ref`: same file, class and attribute names. Imports MindSpore, never torch."""
