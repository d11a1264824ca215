"""What a store leaves out of an answer, or writes in another form, is a sentence; and nobody looks past the readers."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from builders import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from lying_server import answer, lying
from publisher_support import archive, client_at, patience, upload

from lora_packer.errors import LoraPackerError
from lora_packer.publisher.connection import Connection
from lora_packer.publisher.errors import S3Error
from lora_packer.publisher.journal import Journal
from lora_packer.publisher.s3uri import Destination
from lora_packer.publisher.unfinished import clean

PLACE = Destination("bucket", "")
KEY = "my-adapter-" + "0" * 16 + ".zip"


def uploads(*items: str, more: str = "") -> bytes:
    listed = "".join(f"<Upload>{item}</Upload>" for item in items)
    return answer(f"<ListMultipartUploadsResult>{listed}{more}</ListMultipartUploadsResult>".encode())


def cleaned(pages: Callable[[bytes], Iterator[bytes]]) -> Any:
    with lying(pages) as url:
        return clean(Connection(client_at(url), patience=patience()), PLACE, Journal())


_KEY, _ID, _TIME = f"<Key>{KEY}</Key>", "<UploadId>u</UploadId>", "<Initiated>2026-01-02T03:04:05Z</Initiated>"


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (_ID + _TIME, "without Key"),
        (_KEY + _TIME, "without UploadId"),
        (_KEY + _ID, "without Initiated"),
        (f"{_KEY}<UploadId></UploadId>{_TIME}", "without UploadId"),
        (f"{_KEY}{_ID}<Initiated>soon</Initiated>", "failed"),
    ],
)
def test_unfinished_upload_without_a_field(item: str, says: str) -> None:
    with pytest.raises(S3Error, match=says) as told:
        cleaned(lambda _: iter([uploads(item)]))
    assert told.value.exit_code == 4


def test_times_with_and_without_a_zone_are_compared() -> None:
    def pages(head: bytes) -> Iterator[bytes]:
        late = f"{_KEY}<UploadId>late</UploadId><Initiated>2026-01-02T03:04:06</Initiated>"
        early = _KEY + _ID + _TIME
        return iter([uploads(late, early) if head.startswith(b"GET") else answer(b"", status="204 No Content")])

    found = cleaned(pages)
    assert all(one.begun_at.tzinfo for one in found)


def test_pages_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_packer.publisher.answers.MAX_PAGES", 5)
    count = iter(range(10**6))

    def pages(_head: bytes) -> Iterator[bytes]:
        more = f"<IsTruncated>true</IsTruncated><NextKeyMarker>k{next(count)}</NextKeyMarker>"
        return iter([uploads(more=f"{more}<NextUploadIdMarker>u</NextUploadIdMarker>")])

    with pytest.raises(S3Error, match="more than 5 pages"):
        cleaned(pages)


def test_answers_are_looked_into_by_the_readers_alone() -> None:
    """boto3's answers are dictionaries of whatever was there: an index into one is a traceback in waiting."""
    own = {"answers.py", "errors.py", "journal.py", "client.py"}  # the readers; what is our own or botocore's
    found = []
    for path in sorted((ROOT / "lora_packer/publisher").glob("*.py")):
        if path.name in own:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            ours = isinstance(getattr(node, "value", None), ast.Name) and node.value.id.isupper()  # type: ignore[attr-defined]
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and not ours:
                name = node.slice.value if isinstance(node.slice, ast.Constant) else None
                if isinstance(name, str) and name[:1].isupper() and "-" not in name:
                    found.append(f"{path.name}:{node.lineno} [{name!r}]")
    assert not found


# ---- any answer at all

_TEXT = st.one_of(
    st.text("ab<>&'\"\x00\u2028é", max_size=8), st.sampled_from(["1", "-1", "true", "2026-01-02", "9" * 30])
)
_NAMES = st.sampled_from(
    ["Upload", "Part", "Key", "UploadId", "Initiated", "ETag", "Size", "PartNumber", "Error", "Code", "Message",
     "IsTruncated", "NextKeyMarker", "NextUploadIdMarker", "NextPartNumberMarker", "ChecksumType", "Location"]
)  # fmt: skip


def _element(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    inside = st.lists(children, max_size=4).map("".join)
    return st.builds(lambda name, body: f"<{name}>{body}</{name}>", _NAMES, inside)


_XML = st.recursive(_TEXT.map(lambda text: text.replace("<", "").replace("&", "")), _element, max_leaves=12)
_JSON = st.recursive(st.none() | st.booleans() | st.integers() | _TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3), max_leaves=8)  # fmt: skip
_BODIES = st.one_of(
    _XML.map(str.encode),
    _XML.map(lambda xml: f"<Result>{xml}</Result>".encode()),
    _JSON.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=40),
)
_STATUSES = st.sampled_from(["200 OK", "200 OK", "200 OK", "204 No", "206 Part", "301 There", "307 There", "400 Bad", "403 No", "404 No", "409 No", "412 No", "501 No", "600 ?"])  # fmt: skip
_HEADERS = st.sampled_from(
    ["", "ETag: x\r\n", 'ETag: "\r\n', "x-amz-version-id: null\r\n", "Location: ///\r\n", "Content-Range: bytes 0-0/9\r\n",
     "x-amz-bucket-region: ../..\r\n", "x-amz-meta-sha256: \xff\r\n", "x-amz-checksum-type: FULL_OBJECT\r\n"]
)  # fmt: skip


@pytest.fixture(scope="module")
def lies() -> Iterator[tuple[str, list[bytes]]]:
    """A server, and what it answers next; the last one for ever."""
    told: list[bytes] = []

    def tell(head: bytes) -> Iterator[bytes]:
        given = told.pop(0) if len(told) > 1 else told[0]
        return iter([given.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if head.startswith(b"HEAD") else given])

    with lying(tell) as url:
        yield url, told


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return archive(tmp_path_factory.mktemp("lies"), 100_000)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(data=st.data(), parts=st.sampled_from([10_000, 200_000]))
def test_any_answers_are_a_sentence(data: Any, parts: int, lies: tuple[str, list[bytes]], large: Any) -> None:
    url, told = lies
    one = st.builds(lambda body, status, headers: answer(body, status=status, headers=headers), _BODIES, _STATUSES, _HEADERS)  # fmt: skip
    told[:] = data.draw(st.lists(one, min_size=1, max_size=8))
    client = client_at(url)
    over = Connection(client, patience=patience())
    for call in (
        lambda: upload(large, PLACE, over, part_size=parts),
        lambda: clean(over, PLACE, Journal()),
    ):
        with suppress(LoraPackerError):
            call()
