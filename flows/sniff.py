"""Tell what a file is before Arrow reads it: Parquet, whole, single, and not encrypted."""

from __future__ import annotations

import struct

import pyarrow as pa
import pyarrow.parquet as pq

from flows.decryption import KEY
from flows.errors import InputError

__all__ = ["OPEN_IT", "SEALED", "check_magic", "check_single", "is_encrypted", "read_footer"]

SEALED = b"PARE"
"""First and last bytes of a file whose footer is encrypted."""
OPEN_IT = f"set {KEY}, or decrypt the file before it lands"
"""What to do about an encrypted file."""

_TAIL_BYTES = 64 * 1024
_INDEX_BYTES = 4 * 1024 * 1024  # searched for a second file between data and footer
_SIGNATURE_BYTES = 28  # nonce and tag, which encryption puts behind a readable footer
_LOOKS = (
    (b"\x1f\x8b", "gzip data", "unpack it"),
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"version https://git-lfs", "a Git LFS pointer", "run `git lfs pull`"),
    (b"ARROW1", "an Arrow IPC file", "write it as Parquet"),
    (b"ORC", "an ORC file", "write it as Parquet"),
    (b"Obj\x01", "an Avro file", "write it as Parquet"),
    (b"SQLite format 3", "a SQLite database", "export its table as Parquet"),
)


def read_footer(source: pa.NativeFile) -> bytes:
    """Return the bytes of the Parquet footer, or the last 64 KiB where there is none."""
    size = source.size()
    length = _footer_length(source)
    wanted = length + 8 if 0 < length <= size - 12 else _TAIL_BYTES
    return _read(source, max(0, size - wanted), min(size, wanted))


def check_magic(path: str, source: pa.NativeFile, *, with_key: bool = False) -> None:
    """Raise unless the file begins and ends as a Parquet file; with a key, as an encrypted one may.

    Raises
    ------
    InputError
        One sentence that says what the file looks like instead, and what to do.
    """
    size = source.size()
    head, tail = _read(source, 0, min(size, 64)), _read(source, max(0, size - 4), min(size, 4))
    plain = head[:4] == tail == b"PAR1"
    sealed = head[:4] == tail == SEALED
    if size < 12 or not (plain or (sealed and with_key)):
        look, remedy = _look(size, head, tail)
        raise InputError(f"{path}: a Parquet file was required, however it is {look}; {remedy}")
    length = _footer_length(source)
    if length > size - 12:
        raise InputError(
            f"{path}: a Parquet file was required, however its footer of {length:,} bytes is cut off"
            f" ({size:,} bytes in all); write the file again"
        )


def is_encrypted(source: pa.NativeFile, metadata: pq.FileMetaData) -> bool:
    """Return whether columns of a file with a readable footer are encrypted.

    Told from the footer's length: asking pyarrow 25 for the metadata of such a column ends the process
    (``terminate called after throwing an instance of 'parquet::ParquetException'``).
    """
    return bool(_footer_length(source) - metadata.serialized_size == _SIGNATURE_BYTES)


def check_single(path: str, source: pa.NativeFile, end_of_data: int) -> None:
    """Raise when a whole Parquet file lies between the data and the footer.

    Two files put together by ``cat`` read as rows of the first under the footer of the second.

    Parameters
    ----------
    path
        What the error calls the file.
    source
        The open file.
    end_of_data
        Offset behind the last data page that the footer knows of.

    Raises
    ------
    InputError
        One sentence.
    """
    gap = source.size() - 8 - _footer_length(source) - end_of_data
    if gap > 0 and b"PAR1PAR1" in _read(source, end_of_data, min(gap, _INDEX_BYTES)):
        raise InputError(f"{path}: one Parquet file was required, however two are joined; land each alone")


def _look(size: int, head: bytes, tail: bytes) -> tuple[str, str]:
    """Say what a file that is no Parquet looks like, and what to do about it."""
    if size == 0:
        return "empty (0 bytes)", "write it again"
    if SEALED in (head[:4], tail):
        return "encrypted Parquet", OPEN_IT
    if head[:4] == b"PAR1":
        return "cut short or still being written", "let its writer finish (best aside, then rename)"
    for magic, look, remedy in _LOOKS:
        if head.startswith(magic):
            return look, remedy
    if _is_text(head):
        return f"text that begins with {head[:30].decode(errors='replace')!r}", "convert it to Parquet"
    return f"something that begins with {head[:4].hex(' ')}", "write it again as Parquet"


def _is_text(head: bytes) -> bool:
    return all(byte in b"\t\n\r" or 32 <= byte < 127 or byte >= 128 for byte in head)


def _footer_length(source: pa.NativeFile) -> int:
    size = source.size()
    return int(struct.unpack("<I", _read(source, size - 8, 4))[0]) if size >= 12 else 0


def _read(source: pa.NativeFile, offset: int, length: int) -> bytes:
    source.seek(offset)
    return bytes(source.read(length))
