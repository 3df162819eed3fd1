"""The key of encrypted Parquet files: from the environment alone, and shown to nobody.

``VAEWATCH_PARQUET_KEY`` holds one AES key of 16, 24 or 32 bytes in base64; it opens files whose footer and
columns are all encrypted with it, as pyarrow, DuckDB and others write them.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

from flows.errors import ConfigError

__all__ = ["KEY", "decryption", "key_mark"]

KEY = "VAEWATCH_PARQUET_KEY"
LENGTHS = (16, 24, 32)  # bytes of an AES key


def decryption() -> Any:
    """Return what pyarrow decrypts one file with; None where no key is set.

    Raises
    ------
    ConfigError
        What is set is no key, or this pyarrow takes none.
    """
    key = _key()
    if not key:
        return None
    try:
        from pyarrow.parquet.encryption import create_decryption_properties
    except ImportError:
        raise ConfigError(
            f"pyarrow 25 or newer is required to use {KEY}, however an older one is installed"
        ) from None
    return create_decryption_properties(key, allow_plaintext_files=True)


def key_mark() -> bytes:
    """Return four bytes that tell one key from another, and nothing of it; none where no key is set.

    Raises
    ------
    ConfigError
        As `decryption`.
    """
    key = _key()
    return hashlib.blake2b(b"mark", key=key, digest_size=4).digest() if key else b""


def _key() -> bytes:
    text = os.environ.get(KEY)
    if not text:
        return b""
    key = _decoded(text)
    if len(key) not in LENGTHS:
        raise ConfigError(
            f"{KEY} must hold 16, 24 or 32 bytes in base64, however it does not; write it as the output of"
            " `openssl rand -base64 32`"
        )
    return key


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except ValueError:
        return b""
