"""Addresses that may stand in a file: those that hold no password, key or token."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

__all__ = ["public", "without_secrets"]

_NAMES = "secret|password|passwd|pwd|token|access_key|account_key|credential|signature"
_SECRET = re.compile(f"{_NAMES}|^sig$|^key$", re.IGNORECASE)
_SECRET_USERS = re.compile("(s3|https?)://", re.IGNORECASE)  # there a user is a key or a token
_NO_PORT = r"(?!\d*[/?#])"  # behind a port there is a path, which may have an @
_USER = re.compile(
    rf"([^/?#:@\[]*:|[^/?#:\[]*:{_NO_PORT})([^?]*|.*)@"  # any signs up to the host, or to its query
    r"|[^/?#]*@",
    re.DOTALL,
)
_WEB_USER = re.compile(rf"[^/?#]*@|[^/?#:@\[]*:{_NO_PORT}.*@", re.DOTALL)


def without_secrets(address: str) -> str:
    """Return the address as it is.

    Raises
    ------
    ValueError
        It holds a password, a key or a token; the sentence shows none of them.
    """
    user = _user(address)
    if user and (":" in user or _SECRET_USERS.match(address)):
        raise ValueError(
            f"an address without credentials, however {public(address)} came;"
            " credentials belong into the environment"
        )
    query = parse_qsl(urlsplit(address).query, keep_blank_values=True)
    named = [name for name, _ in query if _SECRET.search(name)]
    if named:
        raise ValueError(
            f"an address without credentials, however one with {named[0]}=… came;"
            " credentials belong into the environment"
        )
    return address


def public(uri: str) -> str:
    """Hide the passwords, keys and tokens of an address."""
    scheme, mark, rest = uri.partition("://")
    user = _user(uri)
    name, has_password, _ = user.partition(":")
    if user and _SECRET_USERS.match(uri):
        rest = f"***@{rest.removeprefix(user)}"
    elif has_password:
        rest = f"{name}:***@{rest.removeprefix(user)}"
    hidden = f"{scheme}{mark}{rest}"
    return re.sub(rf"([?&][^=&]*(?:{_NAMES}|\bsig|\bkey)[^=&]*=)[^&]*", r"\1***", hidden, flags=re.IGNORECASE)


def _user(address: str) -> str:
    """``USER@`` or ``USER:PASSWORD@`` before the host, empty without; signs in it may lack their escapes."""
    scheme, _, rest = address.partition("://")
    found = (_WEB_USER if scheme.lower() in ("http", "https") else _USER).match(rest)
    return found[0] if found else ""
