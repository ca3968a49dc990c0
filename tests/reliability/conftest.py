"""Real servers and tiny artifacts, as the tests of the service have them."""

from server_fixtures import slow_models, start_server, tiny_models

__all__ = ["slow_models", "start_server", "tiny_models"]
