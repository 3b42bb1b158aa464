"""The smallest case in which a port still differs, as a folder that runs without the checker."""
