"""MindSpore twins of `torch_ref`: same file, class and attribute names. Imports MindSpore, never torch.

Papers, systems, shape letters, arguments, state and errors that both sides share are described once, in the twin.

Importing this package prepares the process environment for MindSpore, without importing it; every
program of the project imports it before any framework.
"""

from ms_models.environment import prepare_environment

prepare_environment()
