"""A bucket on loopback, as far as GDAL and a signed GET need one; and the account by which GDAL finds it."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest
from loopback import Handler, Loopback

BUCKET, KEY_ID, KEY = "radar", "AKIDEXAMPLE", "wJalrXUtnFEMI-K7MDENG"


class Bucket(Loopback):
    """`files` by their keys, which only a signed request may list and read."""

    def account(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Set the environment in which GDAL finds the bucket and an account for it."""
        for name, value in {
            "AWS_S3_ENDPOINT": self.url.removeprefix("http://"),
            "AWS_HTTPS": "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": KEY,
        }.items():
            monkeypatch.setenv(name, value)

    def is_known(self, query: dict[str, list[str]], authorization: str) -> bool:
        """Whether a request is signed by the account."""
        return KEY_ID in query.get("X-Amz-Credential", [""])[0] + authorization


class _BucketHandler(Handler):
    state: Bucket
    root = f"/{BUCKET}"

    def respond(self, path: str) -> None:
        query, key = parse_qs(urlsplit(self.path).query), unquote(path).removeprefix(self.root).removeprefix("/")
        if not self.state.is_known(query, self.headers.get("Authorization", "")):
            self.answer(403, f"<Error><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId></Error>".encode(), {})
        elif key in self.state.files:
            if not self.fault(key, self.state.files[key]):
                self.send_body(self.state.files[key])
        elif key:
            self.answer(404, b"", {})
        else:
            self.answer(200, self.listing(query.get("prefix", [""])[0]), {"Content-Type": "application/xml"})

    def listing(self, prefix: str) -> bytes:
        time = datetime(2018, 1, 16, tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        there = "".join(
            f'<Contents><Key>{escape(key)}</Key><LastModified>{time}</LastModified><ETag>"x"</ETag>'
            f"<Size>{len(body)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key, body in sorted(self.state.files.items())
            if key.startswith(prefix)
        )
        return f"<ListBucketResult><Prefix>{escape(prefix)}</Prefix>{there}</ListBucketResult>".encode()


Bucket.handler = _BucketHandler


class GoogleBucket(Bucket):
    """The same as Google's stores answer; `public` to everybody."""

    public: bool = False

    def account(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Set the environment in which GDAL finds the bucket, and an account unless the bucket is public."""
        monkeypatch.setenv("CPL_GS_ENDPOINT", f"{self.url}/")
        keys = {"GS_ACCESS_KEY_ID": KEY_ID, "GS_SECRET_ACCESS_KEY": KEY}
        for name, value in ({"GS_NO_SIGN_REQUEST": "YES"} if self.public else keys).items():
            monkeypatch.setenv(name, value)

    def is_known(self, query: dict[str, list[str]], authorization: str) -> bool:
        """Whether a request needs no account and has none, or is signed by the account."""
        if self.public:
            return "Signature" not in query and not authorization
        return query.get("GoogleAccessId") == [KEY_ID] or authorization.startswith(f"GOOG1 {KEY_ID}:")


class PublicGoogleBucket(GoogleBucket):
    """A bucket that needs no account."""

    public = True


class AzureContainer(Bucket):
    """The same as Azure's stores answer, for an account of theirs."""

    def account(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Set the environment in which GDAL finds the container and its account."""
        key = base64.b64encode(KEY.encode()).decode()
        words = f"DefaultEndpointsProtocol=http;AccountName={KEY_ID};AccountKey={key};BlobEndpoint={self.url}/{KEY_ID}"
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", words)

    def is_known(self, query: dict[str, list[str]], authorization: str) -> bool:
        """Whether a request is signed: an address for reading one file, a listing in its header."""
        signed = query.get("sr") == ["b"] and query.get("sp") == ["r"] and "sig" in query
        return signed or authorization.startswith(f"SharedKey {KEY_ID}:")


class _ContainerHandler(_BucketHandler):
    root = f"/{KEY_ID}/{BUCKET}"

    def listing(self, prefix: str) -> bytes:
        there = "".join(
            f"<Blob><Name>{escape(key)}</Name><Properties><Last-Modified>Tue, 16 Jan 2018 00:00:00 GMT</Last-Modified>"
            f"<Content-Length>{len(body)}</Content-Length></Properties></Blob>"
            for key, body in sorted(self.state.files.items())
            if key.startswith(prefix)
        )
        return (
            f'<?xml version="1.0"?><EnumerationResults ContainerName="{BUCKET}"><Prefix>{escape(prefix)}</Prefix>'
            f"<Blobs>{there}</Blobs><NextMarker/></EnumerationResults>"
        ).encode()


AzureContainer.handler = _ContainerHandler
