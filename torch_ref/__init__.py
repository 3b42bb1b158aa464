"""PyTorch reference networks, losses and training steps. Imports torch, never MindSpore."""
