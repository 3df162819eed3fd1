"""Addresses that may stand in a file: those that hold no password, key or token."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

__all__ = ["public", "without_secrets"]

_NAMES = "secret|password|passwd|pwd|token|access_key|account_key|credential|signature"
_SECRET = re.compile(f"{_NAMES}|^sig$|^key$", re.IGNORECASE)


def without_secrets(address: str) -> str:
    """Return the address as it is.

    Raises
    ------
    ValueError
        It holds a password, a key or a token; the sentence shows none of them.
    """
    parts = urlsplit(address)
    user, at, _ = parts.netloc.rpartition("@")
    named = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if _SECRET.search(name)]
    if at and (":" in user or parts.scheme in ("s3", "http", "https")):
        raise ValueError(
            f"an address without credentials, however {parts.scheme}://…@{parts.hostname} came;"
            " credentials belong into the environment"
        )
    if named:
        raise ValueError(
            f"an address without credentials, however one with {named[0]}=… came;"
            " credentials belong into the environment"
        )
    return address


def public(uri: str) -> str:
    """Hide the passwords, keys and tokens of an address."""
    hidden = re.sub(r"(://[^/@:]*):[^/]*@", r"\1:***@", uri)
    return re.sub(rf"([?&][^=&]*(?:{_NAMES}|\bsig|\bkey)[^=&]*=)[^&]*", r"\1***", hidden, flags=re.IGNORECASE)
