"""Addresses in files hold no secrets, and messages show none."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.addresses import public, without_secrets
from flows.config import load_pipeline, load_tracking
from flows.errors import ConfigError

SECRETS = [
    "s3://AKIA:hunter2@bucket/in",
    "s3://hunter2@bucket/in",
    "s3://bucket/in?access_key=a&secret_key=hunter2",
    "postgresql://ann:hunter2@host/runs",
    "https://hunter2@mlflow.example",
    "abfs://box@account.dfs.core.windows.net/in?sig=hunter2",
    "https://host/in?X-Amz-Signature=hunter2",
    "postgresql://mlflow:p/hunter2@host/runs",
    "mysql://ann:a:b/hunter2@host/runs",
    "postgresql://ann:12/hunter2@host",
    "postgresql://ann:p#hunter2@host/runs",
    "postgresql://ann:p?hunter2@host/runs",
    "postgresql://ann:p@q/hunter2@host/runs",
    "postgresql://ann@corp:p/hunter2@host/runs",
    "s3://AKIA:p/hunter2@bucket/in",
    "redis://:hunter2@host/0",
    "https://ann:p/hunter2@mlflow.example",
    "HTTPS://hunter2@mlflow.example/team@x",
]


@pytest.mark.parametrize("address", SECRETS)
def test_an_address_with_a_secret_is_refused_without_showing_it(address: str) -> None:
    with pytest.raises(ValueError, match="credentials belong into the environment") as caught:
        without_secrets(address)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "data/landing",
        "s3://bucket/in?region=eu&endpoint_override=127.0.0.1:9000",
        "abfs://box@account.dfs.core.windows.net/in",
        "postgresql://ann@host/runs",
        "sqlite:///runs.db",
        "https://mlflow.example:5000",
        "https://mlflow.example/a@b",
        "https://mlflow.example:5000/a@b?by=ann@shop",
        "postgresql://ann@host:5432/runs?application_name=a@b",
    ],
)
def test_other_addresses_stay_and_are_shown(address: str) -> None:
    assert without_secrets(address) == address
    assert public(address) == address


@pytest.mark.parametrize("address", SECRETS)
def test_a_message_shows_no_secret_of_an_address(address: str) -> None:
    assert "hunter2" not in public(address)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://mlflow:p/Ss@db", "postgresql://mlflow:***@db"),
        ("mysql://u:a:b/c@db/x", "mysql://u:***@db/x"),
        (
            "postgresql://ann:p@host/runs?application_name=a@b",
            "postgresql://ann:***@host/runs?application_name=a@b",
        ),
        ("https://dapi0123@host", "https://***@host"),
        ("https://ann:pass@host:5000/a@b", "https://***@host:5000/a@b"),
    ],
)
def test_a_message_still_says_where_an_address_leads(address: str, shown: str) -> None:
    """The host and what follows it stay; the user too, where the password alone is the secret."""
    assert public(address) == shown


@pytest.mark.parametrize("password", ["hunter2", "hunter2@x", "a:hunter2"])
def test_a_message_hides_the_password_of_an_address(password: str) -> None:
    assert public(f"postgresql://ann:{password}@host/runs") == "postgresql://ann:***@host/runs"
    assert public(f"s3://b/in?region=x&secret_key={password}&a=b") == "s3://b/in?region=x&secret_key=***&a=b"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("source.path", "source: {{path: '{}'}}\noutput: out\n"),
        ("output", "source: {{path: landing}}\noutput: '{}'\n"),
    ],
)
def test_pipeline_files_with_secrets_are_refused(tmp_path: Path, key: str, text: str) -> None:
    file = tmp_path / "orders.yml"
    file.write_text("version: 1\nname: orders\n" + text.format(SECRETS[0]))

    with pytest.raises(ConfigError, match=rf"{key} must be an address without credentials") as caught:
        load_pipeline(file)
    assert "hunter2" not in str(caught.value)


def test_the_address_of_a_database_with_its_password_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlflow.yml").write_text(f"tracking_uri: {SECRETS[3]}\n")
    with pytest.raises(ConfigError, match="tracking_uri must be an address without credentials"):
        load_tracking(tmp_path)

    (tmp_path / "mlflow.yml").write_text("experiment: shop\n")
    monkeypatch.setenv("VAEWATCH_TRACKING_URI", SECRETS[3])

    assert load_tracking(tmp_path).tracking_uri == load_tracking(tmp_path).registry_uri == SECRETS[3]
