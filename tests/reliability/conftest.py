"""Real servers and tiny artifacts, as the tests of the service have them."""

from server_fixtures import crowded_server, slow_models, start_server, tiny_models, tiny_server

__all__ = ["crowded_server", "slow_models", "start_server", "tiny_models", "tiny_server"]
