"""Who is let in, and as what.

On this machine alone nobody logs in: whoever can reach the page can read the files below it. Beyond it, names
come from OpenID Connect, or from a header of a reverse proxy at a named address; the pipeline file says what
each name may do, and names that it does not say are let in nowhere.
"""

from __future__ import annotations

import getpass
import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from review.errors import AccessError

__all__ = ["Role", "Settings", "User", "check_startup", "is_loopback", "login_secrets", "who"]

Role = Literal["viewer", "reviewer"]
HINT = "see docs/how-to/review-store.md"
OIDC = {
    "VAEWATCH_OIDC_CLIENT_ID": "client_id",
    "VAEWATCH_OIDC_CLIENT_SECRET": "client_secret",
    "VAEWATCH_OIDC_METADATA_URL": "server_metadata_url",
    "VAEWATCH_OIDC_REDIRECT_URI": "redirect_uri",
    "VAEWATCH_OIDC_COOKIE_SECRET": "cookie_secret",
}
"""Environment variables of a login by OpenID Connect, and Streamlit's names for them."""


@dataclass(frozen=True)
class User:
    """Who looks, and whether they may decide."""

    name: str
    role: Role

    @property
    def may_decide(self) -> bool:
        """Whether verdicts and rules of this user are taken."""
        return self.role == "reviewer"


@dataclass(frozen=True)
class Settings:
    """Who may what: ``review:`` of the pipeline file.

    Attributes
    ----------
    reviewers, viewers
        Names; ``*`` stands for any signs, as in ``*@example.org``. Whoever is both is a reviewer.
    header
        Header in which a proxy tells the name; None without a proxy.
    addresses
        Addresses or networks that the proxy connects from.
    oidc
        Whether names come from OpenID Connect.
    """

    reviewers: tuple[str, ...] = ()
    viewers: tuple[str, ...] = ()
    header: str | None = None
    addresses: tuple[str, ...] = ()
    oidc: bool = False

    @classmethod
    def of(cls, review: Any) -> Settings:
        """Take the section ``review`` of a pipeline."""
        proxy = review.proxy
        return cls(
            reviewers=review.reviewers,
            viewers=review.viewers,
            header=proxy.header if proxy else None,
            addresses=proxy.addresses if proxy else (),
            oidc=review.oidc,
        )

    @property
    def login(self) -> bool:
        """Whether anybody has to log in."""
        return self.oidc or self.header is not None


def check_startup(address: str, settings: Settings, environment: Mapping[str, str] = os.environ) -> None:
    """Let the page listen at an address, or refuse.

    Raises
    ------
    AccessError
        It lies beyond this machine and nobody would have to log in; the login is not set up; nobody could
        come in.
    """
    if not settings.login:
        if is_loopback(address):
            return
        raise AccessError(
            f"a login was required to listen at {address or 'all addresses'}, however the pipeline file asks "
            f"for none; add `review.oidc` or `review.proxy`, or listen at 127.0.0.1 ({HINT})"
        )
    if not (settings.reviewers or settings.viewers):
        raise AccessError(
            "names of reviewers or viewers were required where people log in, however the pipeline file has "
            "none, so that nobody could come in; add `review.reviewers`"
        )
    if settings.oidc:
        _check_oidc(environment)


def who(
    headers: Mapping[str, Sequence[str]],
    peer: str | None,
    oidc: Mapping[str, Any] | None,
    settings: Settings,
) -> User:
    """The visitor, or a refusal.

    Parameters
    ----------
    headers
        All values of each header of the request, names in any case.
    peer
        Address that the connection came from; None where it is not known.
    oidc
        Claims of a login by OpenID Connect; None where there was none.

    Raises
    ------
    AccessError
        Nobody has logged in, the connection does not come from the proxy, or the name has no role.
    """
    if settings.oidc:
        return _with_role(_oidc_name(oidc), settings)
    if settings.header is not None:
        return _with_role(_proxy_name(headers, peer, settings), settings)
    if peer is not None and not is_loopback(peer):
        raise AccessError(
            f"a visitor of this machine was required, however one from {peer} came; set up a login ({HINT})"
        )
    return User(_local_name(), "reviewer")


def is_loopback(address: str) -> bool:
    """Whether an address to listen at, or of a visitor, is of this machine alone."""
    if address == "localhost":
        return True
    parsed = _address(address)
    return parsed is not None and parsed.is_loopback


def login_secrets(environment: Mapping[str, str] = os.environ) -> str:
    """Streamlit's ``secrets.toml`` for a login by OpenID Connect, from the environment.

    Write it where only this user reads, and hand it over as ``--secrets.files``.
    """
    _check_oidc(environment)
    lines = [f"{name} = {_toml(environment[variable])}" for variable, name in OIDC.items()]
    return "[auth]\n" + "\n".join(lines) + "\n"


def _check_oidc(environment: Mapping[str, str]) -> None:
    missing = [name for name in OIDC if not environment.get(name, "").strip()]
    if missing:
        raise AccessError(
            f"the environment variables of OpenID Connect were required, however {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set; set them ({HINT})"
        )
    if find_spec("authlib") is None:
        raise AccessError(
            "Authlib was required for OpenID Connect, however it is not installed; install vaewatch[oidc]"
        )


def _toml(text: str) -> str:
    """A TOML string; JSON's escapes are TOML's."""
    import json

    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _oidc_name(claims: Mapping[str, Any] | None) -> str:
    if not claims or not claims.get("is_logged_in"):
        raise AccessError("a login was required, however nobody has logged in; log in")
    name = claims.get("email")
    if not isinstance(name, str) or claims.get("email_verified") is False:
        raise AccessError(
            "a confirmed e-mail address was required of the login, however none came; ask for the scope email"
        )
    return name


def _proxy_name(headers: Mapping[str, Sequence[str]], peer: str | None, settings: Settings) -> str:
    if not _is_among(peer, settings.addresses):
        raise AccessError(
            "a visit through the proxy was required, however one came from elsewhere; use the proxy's address"
        )
    header = str(settings.header)
    values = [one for name, some in headers.items() if name.lower() == header.lower() for one in some]
    if len(values) != 1 or "," in values[0]:
        came = "none" if not values else "several"
        raise AccessError(
            f"one name in the header {header} was required of the proxy, however {came} came; log in, or let "
            "the proxy replace the header"
        )
    return values[0]


def _with_role(name: str, settings: Settings) -> User:
    tidy = name.strip()
    if tidy and len(tidy) <= 320 and tidy.isprintable():
        if _is_named(tidy, settings.reviewers):
            return User(tidy, "reviewer")
        if _is_named(tidy, settings.viewers):
            return User(tidy, "viewer")
    raise AccessError(
        "a name among the reviewers or viewers of the pipeline file was required, however another came; ask "
        "whoever keeps that file"
    )


def _is_named(name: str, patterns: Sequence[str]) -> bool:
    return any(
        re.fullmatch(".*".join(map(re.escape, one.lower().split("*"))), name.lower()) for one in patterns
    )


def _is_among(peer: str | None, networks: Sequence[str]) -> bool:
    address = _address(peer or "")
    if address is None:
        return False
    return any(address in ipaddress.ip_network(one, strict=False) for one in networks)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address; one of IPv4 within IPv6 is taken out."""
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _local_name() -> str:
    """The user of this machine."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "local"
