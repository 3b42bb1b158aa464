"""From a PyTorch network to a proven MindSpore network: trace, write, prove."""
