"""The uploads of one request become canonical images: few small ones at once, any others in threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from service import metrics
from service.batching import Images
from service.errors import AllImagesRejected, ImageRejected
from service.images import CanonicalForm, CanonicalMode, is_large, read_image
from service.uploads import Upload

# This many small images are decoded between two turns of the event loop; more would hold up everybody else.
INLINE_IMAGES = 4


class ImageReader:
    """Decodes and canonicalises."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="decode")

    async def read(
        self, uploads: Sequence[Upload], form: CanonicalForm, mode: CanonicalMode
    ) -> list[Images | ImageRejected]:
        """Canonical pixels (28, 28) for each upload, in order, or why there are none."""
        started = time.perf_counter()
        if len(uploads) <= INLINE_IMAGES and not any(is_large(u) for u in uploads if isinstance(u, bytes)):
            images = self._read_all(uploads, form, mode)
        else:
            loop = asyncio.get_running_loop()
            images = await loop.run_in_executor(self._threads, self._read_all, uploads, form, mode)
        metrics.pictures_decoded(form, time.perf_counter() - started)
        return images

    def _read_all(
        self, uploads: Sequence[Upload], form: CanonicalForm, mode: CanonicalMode
    ) -> list[Images | ImageRejected]:
        return [self._read_one(upload, form, mode) for upload in uploads]

    def _read_one(self, upload: Upload, form: CanonicalForm, mode: CanonicalMode) -> Images | ImageRejected:
        try:
            if isinstance(upload, ImageRejected):
                raise upload
            return read_image(upload, form, mode, self._max_pixels)
        except ImageRejected as rejected:
            metrics.picture_rejected(rejected.code)
            return rejected


def readable(images: Sequence[Images | ImageRejected]) -> list[Images]:
    """The images that could be read, at least one.

    Raises:
        ImageRejected: there is one image, and this is why it cannot be read.
        AllImagesRejected: none of several can.
    """
    rejected = [image for image in images if isinstance(image, ImageRejected)]
    if len(rejected) == len(images):
        raise rejected[0] if len(rejected) == 1 else AllImagesRejected(rejected)
    return [image for image in images if not isinstance(image, ImageRejected)]
