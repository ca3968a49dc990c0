"""A small client of the service, blocking and asynchronous: `from service.client import AsyncClient, Client`.

It needs httpx alone, which serving has already, as BentoML is built on it.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

import httpx

from service.client_answers import (
    Answer,
    Box,
    ClientError,
    ImageError,
    Model,
    ModelList,
    Prediction,
    Scored,
    Segments,
    ServiceRefused,
    ServiceUnreachable,
    read_answer,
    read_models,
)

__all__ = [
    "Answer",
    "AsyncClient",
    "Box",
    "Client",
    "ClientError",
    "ImageError",
    "Model",
    "ModelList",
    "Picture",
    "Prediction",
    "Retries",
    "Scored",
    "Segments",
    "ServiceRefused",
    "ServiceUnreachable",
]

# A picture is the path of a file, its bytes, or a file that is open for reading bytes.
Picture = str | os.PathLike[str] | bytes | BinaryIO


@dataclass(frozen=True)
class Retries:
    """When a call is made again: after a 503 that tells when to come back, so many times, if that is soon."""

    times: int = 3
    longest_wait_s: float = 10.0

    def wait_s(self, response: httpx.Response, tries: int) -> float | None:
        """How long to wait before the next try, or None where `response` is the last word."""
        if response.status_code != 503 or tries > self.times:
            return None
        told_s = _retry_after_s(response)
        if told_s is None or told_s > self.longest_wait_s:
            return None
        return told_s * random.uniform(1, 1.2)  # callers refused together do not come back together


class Client:
    """A client that waits for each answer; use it as a context manager, or close it."""

    def __init__(
        self,
        url: str = "http://localhost:3000",
        *,
        api_key: str | None = None,
        timeout_s: float = 15.0,
        retries: Retries | None = None,
    ) -> None:
        """`timeout_s` bounds the wait for a connection and for each piece of an answer, not for retries."""
        self._retries = retries or Retries()
        self._http = httpx.Client(base_url=_with_scheme(url), headers=_bearing(api_key), timeout=timeout_s)

    def predict(
        self,
        *images: Picture,
        model: str | None = None,
        top_k: int = 1,
        canonical: Literal["auto", "never"] = "auto",
        segments: bool = False,
        explain: bool = False,
    ) -> Answer:
        """Classify pictures in one request.

        `segments` asks for every digit on each picture, `explain` for heat maps of where the model looked.

        Raises:
            ServiceRefused: the request is wrong, no picture of it can be read, or the service has no room.
            ServiceUnreachable: there is no answer.
            OSError: a file cannot be read.
        """
        files, query = _read_all(images), _query(model, top_k, canonical, segments=segments, explain=explain)
        return read_answer(
            self._call(self._http.build_request("POST", "/predict", params=query, files=files))
        )

    def models(self) -> ModelList:
        """What is served; raises as `predict` does."""
        return read_models(self._call(self._http.build_request("GET", "/models")))

    def ready(self) -> bool:
        """Whether the service would answer a prediction now."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def _call(self, request: httpx.Request) -> httpx.Response:
        tries = 1
        while True:
            try:
                response = self._http.send(request)
            except httpx.RequestError as error:
                raise _unreachable(request, error) from error
            wait_s = self._retries.wait_s(response, tries)
            if wait_s is None:
                return response
            time.sleep(wait_s)
            tries += 1

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """The same for asyncio, with many calls at once; use it as a context manager, or close it."""

    def __init__(
        self,
        url: str = "http://localhost:3000",
        *,
        api_key: str | None = None,
        timeout_s: float = 15.0,
        retries: Retries | None = None,
    ) -> None:
        self._retries = retries or Retries()
        self._http = httpx.AsyncClient(
            base_url=_with_scheme(url), headers=_bearing(api_key), timeout=timeout_s
        )

    async def predict(
        self,
        *images: Picture,
        model: str | None = None,
        top_k: int = 1,
        canonical: Literal["auto", "never"] = "auto",
        segments: bool = False,
        explain: bool = False,
    ) -> Answer:
        """As `Client.predict`."""
        query = _query(model, top_k, canonical, segments=segments, explain=explain)
        files = await asyncio.to_thread(_read_all, images)
        request = self._http.build_request("POST", "/predict", params=query, files=files)
        return read_answer(await self._call(request))

    async def models(self) -> ModelList:
        """As `Client.models`."""
        return read_models(await self._call(self._http.build_request("GET", "/models")))

    async def ready(self) -> bool:
        """As `Client.ready`."""
        try:
            return (await self._http.get("/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    async def _call(self, request: httpx.Request) -> httpx.Response:
        tries = 1
        while True:
            try:
                response = await self._http.send(request)
            except httpx.RequestError as error:
                raise _unreachable(request, error) from error
            wait_s = self._retries.wait_s(response, tries)
            if wait_s is None:
                return response
            await asyncio.sleep(wait_s)
            tries += 1

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _with_scheme(url: str) -> httpx.URL:
    try:
        return httpx.URL(url if "://" in url else f"http://{url}")
    except httpx.InvalidURL as invalid:
        raise ClientError(f"{url!r} is no address: {invalid}.") from None


def _bearing(api_key: str | None) -> dict[str, str]:
    if api_key is not None and not api_key.isascii():
        raise ClientError("The API key has letters that no key has.")
    return {} if api_key is None else {"authorization": f"Bearer {api_key}"}


def _query(
    model: str | None, top_k: int, canonical: str, *, segments: bool, explain: bool
) -> dict[str, str | int]:
    query: dict[str, str | int] = {
        "top_k": top_k,
        "canonical": canonical,
        "segments": segments,
        "explain": explain,
    }
    return query if model is None else {**query, "model": model}


def _read_all(images: Sequence[Picture]) -> list[tuple[str, tuple[str, bytes]]]:
    """The parts of a form, held in memory so that they can be sent again."""
    return [("image", _read(image)) for image in images]


def _read(image: Picture) -> tuple[str, bytes]:
    if isinstance(image, bytes):
        return "image", image
    if isinstance(image, str | os.PathLike):
        return Path(image).name, Path(image).read_bytes()
    return "image", image.read()


def _retry_after_s(response: httpx.Response) -> float | None:
    """Seconds from now that Retry-After tells, as a number or as a date."""
    told = response.headers.get("retry-after", "")
    if told.isdecimal():
        return float(told)
    try:
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _unreachable(request: httpx.Request, error: httpx.RequestError) -> ServiceUnreachable:
    return ServiceUnreachable(f"No answer from {request.url}: {error or type(error).__name__}.")
