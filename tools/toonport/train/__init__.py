"""Training of any registered family, in MindSpore or PyTorch, that can be left alone."""
