"""The engine's parent: one self-contained program that can be copied to any machine with Python 3.9."""
