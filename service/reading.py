"""The uploads of one request become canonical images: few small ones at once, any others in threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import partial
from typing import TypeVar

from service import metrics
from service.batching import Images
from service.canonical import CanonicalForm
from service.errors import AllImagesRejected, DeadlineExceeded, ImageRejected, TooManyImages
from service.images import CanonicalMode, is_large, read_digits, read_image
from service.segments import Segment
from service.uploads import Upload

Pictures = Sequence[Images | list[Segment] | ImageRejected]  # what became of the uploads of a request
Read = TypeVar("Read")  # what becomes of an upload

# This many small images are decoded between two turns of the event loop; more would hold up everybody else.
INLINE_IMAGES = 4


class ImageReader:
    """Decodes and canonicalises."""

    def __init__(self, max_pixels: int, *, timeout_s: float) -> None:
        self._max_pixels = max_pixels
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="decode")

    async def read(
        self, uploads: Sequence[Upload], form: CanonicalForm, mode: CanonicalMode
    ) -> list[Images | ImageRejected]:
        """Canonical pixels (28, 28) for each upload, in order, or why there are none."""
        read = partial(read_image, form=form, mode=mode, max_pixels=self._max_pixels)
        return await self._read_each(uploads, form, read, inline=len(uploads) <= INLINE_IMAGES)

    async def read_in_steps(
        self, uploads: Sequence[Upload], form: CanonicalForm, mode: CanonicalMode, step: int
    ) -> AsyncIterator[list[Images | ImageRejected]]:
        """`read`, so many uploads at a time; all of them share the time that one request has."""
        read = partial(read_image, form=form, mode=mode, max_pixels=self._max_pixels)
        loop, started = asyncio.get_running_loop(), time.perf_counter()
        for first in range(0, len(uploads), step):
            some = uploads[first : first + step]
            yield await loop.run_in_executor(self._threads, self._read_all, some, read, started)
        metrics.pictures_decoded(form, time.perf_counter() - started)

    async def read_digits(self, uploads: Sequence[Upload]) -> list[list[Segment] | ImageRejected]:
        """The digits on each upload, in order, or why there are none."""
        read = partial(read_digits, max_pixels=self._max_pixels)
        return await self._read_each(uploads, "digit", read, inline=False)  # many take long, however small

    async def _read_each(
        self, uploads: Sequence[Upload], form: CanonicalForm, read: Callable[[bytes], Read], *, inline: bool
    ) -> list[Read | ImageRejected]:
        started = time.perf_counter()
        if inline and not any(is_large(upload, form) for upload in uploads if isinstance(upload, bytes)):
            images = self._read_all(uploads, read, started)
        else:
            loop = asyncio.get_running_loop()
            images = await loop.run_in_executor(self._threads, self._read_all, uploads, read, started)
        metrics.pictures_decoded(form, time.perf_counter() - started)
        return images

    def _read_all(
        self, uploads: Sequence[Upload], read: Callable[[bytes], Read], started: float
    ) -> list[Read | ImageRejected]:
        """Read one after another, as long as there is time; small files can hold very large pictures."""
        images = []
        for upload in uploads:
            if time.perf_counter() - started > self._timeout_s:
                raise DeadlineExceeded("Reading the images takes too long; send fewer or smaller ones.")
            images.append(_read_one(upload, read))
        return images


def _read_one(upload: Upload, read: Callable[[bytes], Read]) -> Read | ImageRejected:
    try:
        if isinstance(upload, ImageRejected):
            raise upload
        return read(upload)
    except ImageRejected as rejected:
        metrics.picture_rejected(rejected.code)
        return copy(rejected)  # without its traceback, whose frames hold the upload and lead back to here


def readable(images: Sequence[Read | ImageRejected]) -> list[Read]:
    """The images that could be read, at least one.

    Raises:
        ImageRejected: there is one image, and this is why it cannot be read.
        AllImagesRejected: none of several can.
    """
    rejected = [image for image in images if isinstance(image, ImageRejected)]
    if len(rejected) == len(images):
        raise rejected[0] if len(rejected) == 1 else AllImagesRejected(rejected)
    return [image for image in images if not isinstance(image, ImageRejected)]


def images_of(pictures: Sequence[Images | list[Segment]]) -> list[Images]:
    """The canonical images (28, 28) of all pictures, where each may hold several digits."""
    return [
        image
        for picture in pictures
        for image in ([segment.pixels for segment in picture] if isinstance(picture, list) else [picture])
    ]


def refuse_too_many(images: int, most: int) -> None:
    if images > most:
        raise TooManyImages(f"There are {images} images to answer; a request like this holds at most {most}.")
