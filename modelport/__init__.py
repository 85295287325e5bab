"""Modelport turns any model into a running, OpenAI-compatible service with one command."""

__version__ = "0.1.0"
