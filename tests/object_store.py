"""A bucket on loopback, as far as GDAL and a signed GET need one; and the account by which GDAL finds it."""

from __future__ import annotations

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


class _BucketHandler(Handler):
    def respond(self, path: str) -> None:
        query, key = parse_qs(urlsplit(self.path).query), unquote(path).removeprefix(f"/{BUCKET}").removeprefix("/")
        if KEY_ID not in query.get("X-Amz-Credential", [""])[0] + self.headers.get("Authorization", ""):
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
