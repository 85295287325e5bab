"""Digest: the MD5 that a store says an object has, where it says one.

obstore gives no headers of an answer, so they are asked for once more, at an address it signs. Azure and Google say an
object's MD5 outright; S3's ETag is one, save of objects that were uploaded in parts or encrypted with keys of one's own
(docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html).
"""

import base64
import binascii
import re
from collections.abc import Callable
from datetime import timedelta
from email.message import Message
from typing import Any

from modelport.storage.clouds import ANSWER_S, Place

_MD5 = re.compile(r"[0-9a-f]{32}")
_OTHER_KEYS = ("aws:kms", "aws:kms:dsse")


def same(place: Place, store: Any, path: str, tag: str, md5: Callable[[], bytes]) -> bool:
    """Whether bytes with this MD5 are those of one version of an object; also where the store does not say its MD5."""
    if place.cloud.scheme == "s3" and (not _MD5.fullmatch(tag) or md5().hex() == tag):
        return True  # uploaded in parts: S3 says no MD5; else its tag is one, and nothing needs to be asked
    said = _md5_of(place, store, path, tag)
    return said is None or said == md5()


def _md5_of(place: Place, store: Any, path: str, tag: str) -> bytes | None:
    import urllib.request  # with TLS, for those who need it

    import obstore

    try:
        url = obstore.sign(store, place.cloud.head, path, timedelta(seconds=4 * ANSWER_S))  # type: ignore[arg-type]
        # Not httpx, which logs addresses, and this one is signed.
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310  (obstore made it, of an endpoint that is set)
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310
            headers = answer.headers
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        return None  # nobody who may sign, or no answer: the size alone is checked then
    if headers.get("etag", "").strip('"') != tag:
        return None
    return _said(headers) or (_of_tag(headers, tag) if place.cloud.scheme == "s3" else None)


def _said(headers: Message) -> bytes | None:
    google = re.search(r"md5=([A-Za-z0-9+/=]+)", ",".join(headers.get_all("x-goog-hash", [])))
    text = headers.get("content-md5") or (google[1] if google else "")
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return found if len(found) == 16 else None


def _of_tag(headers: Message, tag: str) -> bytes | None:
    encrypted = headers.get("x-amz-server-side-encryption") in _OTHER_KEYS
    if encrypted or "x-amz-server-side-encryption-customer-algorithm" in headers or not _MD5.fullmatch(tag):
        return None
    return bytes.fromhex(tag)
