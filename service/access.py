"""Who may ask: API keys, of which the service knows the SHA-256 alone.

A key is 256 random bits, so nobody can find it from its hash by trying, and a slow password hash would only
slow down every request. The file of hashes is read again whenever it changes: a line that is added or removed
lets somebody in or keeps somebody out at the next request.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

from service.errors import KeysRejected, Unauthorized
from service.responses import Handler

LINE = re.compile(r"sha256:([0-9a-f]{64})(?:\s.*)?")
KEY_PREFIX = "ds_"  # so that scanners for leaked secrets, and people, know what they have found

# What tells that a file is another one: inode, size and time of change; None where there is no file.
Signature = tuple[int, int, int] | None

log = logging.getLogger(__name__)


def new_key(name: str) -> tuple[str, str]:
    """A fresh key, and the line that lets it in."""
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    return key, f"sha256:{_digest(key)} {' '.join(name.split())}"


class Keys:
    """The keys that may ask, by the file of their hashes; without a file everybody may."""

    def __init__(self, file: Path | None) -> None:
        """Construction reads nothing; until `load` nobody is let in."""
        self._file = file
        self._digests: frozenset[str] = frozenset()
        self._signature: Signature = None

    def load(self) -> None:
        """Read the file, where there is one.

        Raises:
            KeysRejected: it cannot be read, a line is not of its form, or there is none.
        """
        if self._file is None:
            return
        self._signature = _signature(self._file)
        self._digests = _read(self._file)
        if not self._digests:
            raise KeysRejected(f"{self._file} holds no key: `python -m service key NAME` makes one.")

    def guarded(self, handler: Handler) -> Handler:
        """`handler` for those alone who bring a key."""
        if self._file is None:
            return handler

        async def for_callers_with_a_key(request: Request) -> Response:
            self.check(request.headers)
            return await handler(request)

        return for_callers_with_a_key

    def check(self, headers: Headers) -> None:
        """Raises `Unauthorized` unless the headers of a request bring a key that is known."""
        offered = _offered(headers)
        if not offered:
            raise Unauthorized("This needs an API key: send it as `Authorization: Bearer KEY`.")
        self._follow()
        digest = _digest(offered)
        # Every hash is compared, each in constant time, so that the time tells nothing about any of them.
        if not sum(hmac.compare_digest(digest, known) for known in self._digests):
            raise Unauthorized("This API key is not known here.")

    def _follow(self) -> None:
        """Read the file again where it has changed; one that is broken leaves the keys as they were."""
        assert self._file is not None, "without a file nothing is guarded"
        signature = _signature(self._file)
        if signature == self._signature:
            return
        self._signature = signature
        try:
            self._digests = _read(self._file)
        except KeysRejected as rejected:
            log.error("the API keys stay as they were: %s", rejected)  # noqa: TRY400 - its sentence says all
        else:
            log.info("%d API keys may ask from now on", len(self._digests))


def _offered(headers: Headers) -> str:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _read(file: Path) -> frozenset[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise KeysRejected(f"The API keys in {file} cannot be read: {reason}.") from error
    digests = set()
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = LINE.fullmatch(line)
        if found is None:  # the line itself is not shown: it may be a key that somebody put there by mistake
            raise KeysRejected(f"Line {number} of {file} is not `sha256:<64 hex digits> <name>`.")
        digests.add(found[1])
    return frozenset(digests)


def _signature(file: Path) -> Signature:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
