"""JSON that callers send, within limits."""

from __future__ import annotations

import json
from typing import Any

from service.errors import BadRequest, RequestTooLarge


def parse_json(body: bytes, max_values: int) -> Any:
    """The document in `body`.

    A list of a byte or two becomes an object of 56 and more, so the size of a body alone is no bound; what
    separates values is counted before they are made.

    Raises:
        RequestTooLarge: it holds about `max_values` values or more.
        BadRequest: it is no JSON, or is nested too deeply.
    """
    if sum(body.count(sign) for sign in (b",", b"[", b"{")) > max_values:
        raise RequestTooLarge(f"The JSON holds more than {max_values:,} values; send fewer images.")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The JSON cannot be read: {error}.") from error
