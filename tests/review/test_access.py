"""Who is let in: where nobody logs in, behind a proxy, by OpenID Connect."""

from __future__ import annotations

import getpass
import tomllib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flows.config import load_pipeline
from flows.errors import ConfigError
from review.access import Settings, User, check_startup, is_loopback, login_secrets, who
from review.errors import AccessError
from review.masking import mask, mask_row

PROXY = Settings(
    reviewers=("ann", "*@lead.example"), viewers=("*",), header="X-User", addresses=("10.0.0.2", "fd00::/8")
)
OIDC = Settings(reviewers=("Ann@Example.org",), viewers=("*@example.org",), oidc=True)
ENVIRONMENT = {
    "VAEWATCH_OIDC_CLIENT_ID": "vaewatch",
    "VAEWATCH_OIDC_CLIENT_SECRET": 'hu"sh\\\n\x7f',
    "VAEWATCH_OIDC_METADATA_URL": "https://login.example/.well-known/openid-configuration",
    "VAEWATCH_OIDC_REDIRECT_URI": "https://review.example/oauth2callback",
    "VAEWATCH_OIDC_COOKIE_SECRET": "cookie",
}


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]", "::ffff:127.0.0.1"]
)
def test_on_this_machine_alone_nobody_has_to_log_in(address: str) -> None:
    assert is_loopback(address)
    check_startup(address, Settings())


ALL = "0.0.0.0"  # noqa: S104 (what must be refused)


@pytest.mark.parametrize("address", ["", ALL, "::", "10.0.0.1", "review.example", "127.0.0.1.evil.example"])
def test_beyond_it_the_page_does_not_start_without_a_login(address: str) -> None:
    assert not is_loopback(address)
    with pytest.raises(AccessError, match="a login was required to listen at"):
        check_startup(address, Settings(reviewers=("ann",)))
    check_startup(address, PROXY)
    check_startup(address, OIDC, ENVIRONMENT)


def test_a_login_that_lets_nobody_in_does_not_start() -> None:
    with pytest.raises(AccessError, match="nobody could come in"):
        check_startup("127.0.0.1", Settings(oidc=True), ENVIRONMENT)


def test_a_login_without_its_secrets_does_not_start_and_names_them() -> None:
    with pytest.raises(
        AccessError, match="VAEWATCH_OIDC_CLIENT_SECRET, VAEWATCH_OIDC_COOKIE_SECRET are not set"
    ):
        check_startup("127.0.0.1", OIDC, ENVIRONMENT | dict.fromkeys([*ENVIRONMENT][1::3], " "))


def test_secrets_of_the_login_are_those_of_the_environment() -> None:
    auth = tomllib.loads(login_secrets(ENVIRONMENT))["auth"]

    assert auth["client_secret"] == ENVIRONMENT["VAEWATCH_OIDC_CLIENT_SECRET"]
    assert sorted(auth) == [
        "client_id",
        "client_secret",
        "cookie_secret",
        "redirect_uri",
        "server_metadata_url",
    ]


# -- Visitors -------------------------------------------------------------------------------------------


def behind_proxy(*values: str, peer: str | None = "10.0.0.2", header: str = "x-user") -> User:
    return who({header: list(values)}, peer, None, PROXY)


def test_where_nobody_logs_in_the_visitor_is_the_user_of_this_machine() -> None:
    assert who({"X-User": ["mallory"]}, "127.0.0.1", None, Settings()) == User(getpass.getuser(), "reviewer")
    with pytest.raises(AccessError, match=r"one from 10\.0\.0\.9 came"):
        who({}, "10.0.0.9", None, Settings())


@pytest.mark.parametrize(
    ("name", "role"),
    [("ann", "reviewer"), ("ANN", "reviewer"), ("bo@lead.example", "reviewer"), ("ann2", "viewer")],
)
def test_the_pipeline_file_says_who_is_a_reviewer(name: str, role: str) -> None:
    assert behind_proxy(name) == User(name, role)  # type: ignore[arg-type]
    assert behind_proxy(name).may_decide == (role == "reviewer")


@pytest.mark.parametrize("peer", ["10.0.0.2", "::ffff:10.0.0.2", "fd00::7"])
def test_the_proxy_may_have_several_addresses(peer: str) -> None:
    assert behind_proxy("ann", peer=peer).role == "reviewer"


@pytest.mark.parametrize("peer", [None, "", "10.0.0.3", "127.0.0.1", "10.0.0.2, 10.0.0.3", "nonsense"])
def test_a_header_that_does_not_come_from_the_proxy_is_worth_nothing(peer: str | None) -> None:
    with pytest.raises(AccessError, match="a visit through the proxy was required"):
        behind_proxy("ann", peer=peer)


@pytest.mark.parametrize("values", [[], ["ann", "bob"], ["bob,ann"], [""], ["  "], ["a\nb"], ["x" * 321]])
def test_an_anonymous_visitor_or_one_of_two_names_gets_in_nowhere(values: list[str]) -> None:
    with pytest.raises(AccessError):
        behind_proxy(*values)


def test_another_header_names_nobody() -> None:
    with pytest.raises(AccessError, match="one name in the header X-User was required"):
        behind_proxy("ann", header="X-User-Name")


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"is_logged_in": True, "email": "ann@example.org"}, "reviewer"),
        ({"is_logged_in": True, "email": "ben@example.org", "email_verified": True}, "viewer"),
        ({"is_logged_in": True, "email": "ann@example.org", "email_verified": False}, None),
        ({"is_logged_in": True, "email": "ann@example.org.evil.example"}, None),
        ({"is_logged_in": True, "email": "annXexample.org"}, None),
        ({"is_logged_in": True, "name": "ann@example.org"}, None),
        ({"is_logged_in": True, "email": ["ann@example.org"]}, None),
        ({"is_logged_in": False, "email": "ann@example.org"}, None),
        ({"email": "ann@example.org"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_login_is_an_e_mail_address_that_is_confirmed(
    claims: dict[str, Any] | None, role: str | None
) -> None:
    """The header of a proxy that is not there counts for nothing."""
    headers = {"X-User": ["ann@example.org"]}
    if role is None:
        with pytest.raises(AccessError):
            who(headers, "127.0.0.1", claims, OIDC)
    else:
        assert who(headers, "127.0.0.1", claims, OIDC).role == role


def test_a_refusal_does_not_repeat_what_came() -> None:
    with pytest.raises(AccessError) as caught:
        who({}, None, {"is_logged_in": True, "email": "<script>@evil.example"}, OIDC)
    assert "script" not in str(caught.value)


# -- Settings -------------------------------------------------------------------------------------------


def review_of(folder: Path, text: str) -> Settings:
    file = folder / "orders.yml"
    file.write_text(
        f"{{version: 1, name: orders, source: {{path: landing}}, output: results, review: {text}}}"
    )
    return Settings.of(load_pipeline(file).review)


def test_the_pipeline_file_names_roles_and_the_proxy(tmp_path: Path) -> None:
    assert review_of(tmp_path, "{}") == Settings()
    assert review_of(tmp_path, "{reviewers: [ann], viewers: ['*'], oidc: true}") == Settings(
        ("ann",), ("*",), oidc=True
    )
    assert review_of(
        tmp_path, "{reviewers: [ann], proxy: {header: X-User, addresses: [10.0.0.2, 10.1.0.0/16]}}"
    ) == Settings(("ann",), (), "X-User", ("10.0.0.2", "10.1.0.0/16"))
    assert review_of(tmp_path, "{proxy: {addresses: [127.0.0.1]}}").header == "X-Forwarded-User"


@pytest.mark.parametrize(
    "text",
    [
        "{proxy: {header: X-User}}",
        "{proxy: {addresses: []}}",
        "{proxy: {addresses: [proxy.example]}}",
        "{proxy: {header: 'X User', addresses: [127.0.0.1]}}",
        "{oidc: true, proxy: {addresses: [127.0.0.1]}}",
        "{reviewers: ['']}",
        "{admins: [ann]}",
    ],
)
def test_a_login_that_is_not_said_right_is_a_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"orders\.yml.*review"):
        review_of(tmp_path, text)


# -- Masking --------------------------------------------------------------------------------------------


def test_viewers_see_that_a_sensitive_column_is_there_and_none_of_its_values() -> None:
    table = pa.table({"id": [1, 2], "ssn": [123, None], "shop": ["a", "b"]})

    hidden = mask(table, ["ssn", "gone"], "viewer")
    assert hidden.column_names == table.column_names
    assert hidden["ssn"].to_pylist() == ["(sensitive)", "(sensitive)"], "not even which are missing"
    assert hidden["shop"] == table["shop"]
    assert mask(table, ["ssn"], "reviewer") == table
    assert mask_row({"id": 1, "ssn": 123}, ["ssn"], "viewer") == {"id": 1, "ssn": "(sensitive)"}
    assert mask_row({"id": 1, "ssn": 123}, ["ssn"], "reviewer")["ssn"] == 123


def test_columns_of_the_same_name_are_all_masked() -> None:
    table = pa.table([pa.array([1]), pa.array([2])], names=["ssn", "ssn"])

    assert mask(table, ["ssn"], "viewer").columns[1].to_pylist() == ["(sensitive)"]
