"""A body becomes its uploads, whatever its declared type; what is no request is refused with a reason."""

from __future__ import annotations

import base64
import json
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import uploads
from service.errors import BadBase64, BadRequest, EmptyUpload, ImageRejected, RequestRejected, TooManyImages
from service.uploads import Upload, UploadLimits, parse_uploads

PNG = b"\x89PNG\r\n\x1a\n and the rest"
FORM = "multipart/form-data; boundary=x"


def part(content: bytes, disposition: str = 'form-data; name="f"; filename="a.png"', kind: str = "") -> bytes:
    head = f"--x\r\nContent-Disposition: {disposition}\r\n" + (f"Content-Type: {kind}\r\n" if kind else "")
    return head.encode() + b"\r\n" + content + b"\r\n"


def form(*parts: bytes) -> list[Upload]:
    return parse_uploads(b"".join(parts) + b"--x--\r\n", FORM, UploadLimits(images=3))


def document(images: object) -> list[Upload]:
    return parse_uploads(json.dumps({"images": images}).encode(), "application/json", UploadLimits(images=3))


def test_every_file_of_a_form_is_an_upload_in_order_whatever_its_field_is_called() -> None:
    assert form(part(b"one", 'form-data; name="b"; filename="x"'), part(PNG)) == [b"one", PNG]


def test_an_image_part_without_a_file_name_is_an_upload() -> None:
    assert form(part(PNG, 'form-data; name="image"', "image/png")) == [PNG]


def test_text_fields_are_no_uploads() -> None:
    assert form(part(b"hello", 'form-data; name="comment"'), part(PNG)) == [PNG]


def test_an_empty_file_keeps_its_place() -> None:
    first, second = form(part(b""), part(PNG))
    assert isinstance(first, EmptyUpload)
    assert second == PNG


@pytest.mark.parametrize(
    ("body", "content_type", "says"),
    [
        (b"", "image/png", "body is empty"),
        (b"", FORM, "body is empty"),
        (b"--x--\r\n", FORM, "no file"),
        (part(b"hello", 'form-data; name="comment"') + b"--x--\r\n", FORM, "no file"),
        (part(b"", 'form-data; name="image"; filename=""') + b"--x--\r\n", FORM, "no file"),
        (part(PNG) + b"--x--\r\n", "multipart/form-data", "boundary"),
        (part(PNG) + b"--x--\r\n", "multipart/form-data; boundary=", "boundary"),
        (part(PNG), FORM, "cannot be read"),
        (part(PNG)[:40], FORM, "cannot be read"),
        (b"nothing of a form", FORM, "cannot be read"),
        (b"{", "application/json", "JSON cannot be read"),
        (b"[" * 100_000, "application/json", "JSON cannot be read"),
        (b"\xff\xfe{}", "application/json", "JSON"),
        (b"[]", "application/json", "JSON must be"),
        (b"{}", "application/json", "JSON must be"),
        (b'{"images": []}', "application/json", "JSON must be"),
        (b'{"images": "aGk="}', "application/json", "JSON must be"),
    ],
)
def test_what_is_no_request_is_refused_with_the_reason(body: bytes, content_type: str, says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        parse_uploads(body, content_type, UploadLimits(images=3))


def test_a_raw_image_is_taken_whatever_its_declared_type() -> None:
    for content_type in (
        "image/jpg",
        "text/plain",
        "application/x-www-form-urlencoded",
        "",
        "application/json",
    ):
        assert parse_uploads(PNG, content_type, UploadLimits(images=3)) == [PNG]


def test_json_is_read_even_where_its_type_is_not_declared() -> None:
    body = json.dumps({"images": [base64.b64encode(PNG).decode()]}).encode()
    assert parse_uploads(body, "application/x-www-form-urlencoded", UploadLimits(images=3)) == [PNG]


def test_base64_may_be_a_data_url_and_may_have_line_breaks() -> None:
    text = base64.encodebytes(PNG).decode()
    assert document([text, f"data:image/png;base64,{text}", f"data:;base64,{text}"]) == [PNG] * 3


def test_bad_base64_keeps_its_place() -> None:
    good, bad, number = document([base64.b64encode(PNG).decode(), "no base64!", 7])
    assert good == PNG
    assert isinstance(bad, BadBase64)
    assert isinstance(number, BadBase64)
    [empty] = document([""])
    assert isinstance(empty, EmptyUpload)


def test_more_images_than_allowed_are_refused() -> None:
    with pytest.raises(TooManyImages):
        form(*[part(PNG)] * 4)
    with pytest.raises(TooManyImages):
        document(["aGk="] * 4)
    with pytest.raises(RequestRejected):
        form(*[part(b"", 'form-data; name="x"')] * 10_000)


def outcome(body: bytes, limits: UploadLimits) -> object:
    try:
        return [
            upload if isinstance(upload, bytes) else type(upload)
            for upload in parse_uploads(body, FORM, limits)
        ]
    except RequestRejected as rejected:
        return type(rejected), rejected.message


DISPOSITIONS = [
    'form-data; name="a"; filename="a.png"',
    'form-data; name="a"; filename=""',
    'form-data; name="a"',
    'form-data; name=""',
    "form-data; name=a; filename=a",
    'form-data; name="a"; filename="a\\"b"',
    'form-data; name="a"; filename="C:\\pictures\\é.png"',
    'Form-Data; name="a"; filename="a;b"',
    'attachment; filename="a"',
    "",
]
KINDS = ["", "image/png", "IMAGE/PNG", "text/plain", "image/png; q=1", "image/svg+xml", "image/"]
CONTENTS = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([PNG, b"", b"\r\n--", b"\r\n--xy", b"\r\n--x--", b"--x\r\n", b"\r\n"]),
)
PARTS = st.builds(part, CONTENTS, st.sampled_from(DISPOSITIONS), st.sampled_from(KINDS))


@given(st.lists(PARTS, max_size=4), st.sampled_from([b"--x--\r\n", b"--x--", b"--x\r\n", b""]), st.data())
def test_the_short_way_through_a_plain_form_finds_what_the_parser_finds(
    parts: list[bytes], end: bytes, data: st.DataObject
) -> None:
    body = b"".join(parts) + end
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(body)))
        body = body[:place] + data.draw(st.binary(max_size=2)) + body[place + data.draw(st.integers(0, 2)) :]
    limits = UploadLimits(images=2, parts=3)
    found = outcome(body, limits)
    with mock.patch.object(uploads, "_plain_form_files", return_value=None):
        assert found == outcome(body, limits)


def test_a_plain_form_is_read_without_the_parser() -> None:
    with mock.patch.object(uploads, "PushMultipartParser", side_effect=AssertionError):
        assert form(part(PNG, kind="image/png"), part(b"text", 'form-data; name="a"')) == [PNG]


@given(
    st.binary(), st.sampled_from([FORM, "application/json", "image/png", "multipart/form-data", "\x00;;="])
)
def test_any_bytes_give_uploads_or_our_own_error(body: bytes, content_type: str) -> None:
    try:
        uploads = parse_uploads(body, content_type, UploadLimits(images=3))
    except RequestRejected:
        return
    assert uploads
    assert all(isinstance(upload, bytes | ImageRejected) for upload in uploads)


@given(st.lists(st.binary(), min_size=1, max_size=3))
def test_a_form_gives_back_the_bytes_that_went_in(contents: list[bytes]) -> None:
    uploads = form(*[part(content) for content in contents if b"--x" not in content] or [part(PNG)])
    assert [b"" if isinstance(upload, EmptyUpload) else upload for upload in uploads] == (
        [content for content in contents if b"--x" not in content] or [PNG]
    )
