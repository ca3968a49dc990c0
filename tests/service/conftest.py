"""Folders with a tiny artifact each, and real servers on free ports."""

from server_fixtures import slow_models, start_server, tiny_models

__all__ = ["slow_models", "start_server", "tiny_models"]
