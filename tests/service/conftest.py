"""Folders with a tiny artifact each, and real servers on free ports."""

from server_fixtures import crowded_server, slow_models, start_server, tiny_models, tiny_server

__all__ = ["crowded_server", "slow_models", "start_server", "tiny_models", "tiny_server"]
