import bz2
import gzip
import io
import lzma

import pytest
import zstandard

from specmeasure.corpus.compression import Decompressed, find_compression
from specmeasure.corpus.formats import rows_of
from specmeasure.corpus.sources import Source
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import CorpusOptions

PACKERS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
TEXT = b"".join(b'{"prompt": "number %d"}\n' % number for number in range(5000))


def unpack(packed: bytes, kind: str) -> bytes:
    return io.BufferedReader(Decompressed(io.BytesIO(packed), kind, "a.jsonl")).read()


@pytest.fixture(params=PACKERS)
def kind(request):
    return request.param


def test_compression_is_known_by_its_magic(kind):
    """The first bytes tell the compression."""
    assert kind == find_compression(PACKERS[kind](TEXT))
    assert find_compression(TEXT) is None


def test_members_follow_each_other(kind):
    """Files that were appended to are read to their end, padding between them left out."""
    member = PACKERS[kind](TEXT)

    assert TEXT * 2 == unpack(member + member, kind)
    assert TEXT * 2 == unpack(member + bytes(4096) + member + bytes(8), kind)


@pytest.mark.parametrize("num_cut", [1, 4, 40, 400])
def test_cut_off(kind, num_cut):
    """Data that end early are an error, not a shorter file."""
    with pytest.raises(UnreadableCorpus) as caught:
        unpack(PACKERS[kind](TEXT)[:-num_cut], kind)

    expected = f"a.jsonl: the {kind} data is damaged or cut off. Copy or download the file again."

    assert expected == str(caught.value)


@pytest.mark.parametrize(
    "tail", [b"garbage", PACKERS["gzip"](b"x")[:5] + b"\xff" * 20], ids=["text", "false member"]
)
def test_bytes_after_the_end(kind, tail):
    """What follows the data and is no data is not passed over."""
    with pytest.raises(UnreadableCorpus, match="damaged or cut off"):
        unpack(PACKERS[kind](TEXT) + tail, kind)


def test_flipped_byte(kind):
    """A wrong byte inside is an error: each of these formats has a checksum or fails to parse."""
    packed = bytearray(PACKERS[kind](TEXT))
    packed[len(packed) // 2] ^= 0xFF

    try:
        unpacked = unpack(bytes(packed), kind)
    except UnreadableCorpus:
        return

    assert kind == "zstd"  # its checksum is optional
    assert unpacked != TEXT


def test_rows_of_a_compressed_file(kind, tmp_path):
    """Rows come through any of the compressions, whatever the file is called."""
    path = tmp_path / "a"
    path.write_bytes(PACKERS[kind](TEXT))

    with rows_of(Source(path=path), CorpusOptions()) as stream:
        assert 5000 == sum(1 for _ in stream.rows)


def test_rows_of_compressed_stdin(kind):
    """Standard input may be compressed too."""
    stdin = io.BytesIO(PACKERS[kind](TEXT))

    with rows_of(Source(), CorpusOptions(), stdin) as stream:
        assert {"prompt": "number 0"} == next(stream.rows).value
    assert not stdin.closed


def test_compressed_twice(kind, tmp_path):
    """One layer is taken off; a second is refused with its name."""
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(PACKERS[kind](TEXT)))

    with (
        pytest.raises(UnreadableCorpus, match=f"this is {kind} inside a compressed file"),
        rows_of(Source(path=path), CorpusOptions()),
    ):
        pass
