"""How long credentials live, with botocore's own providers: known, unknown, too short, renewed."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from botocore.credentials import DeferredRefreshableCredentials
from publisher_support import ACCESS_KEY, SECRET_KEY, SECRETS, TOKEN, archive, credential_server, expiry

from lora_packer.errors import CredentialsError
from lora_packer.publisher import publish
from lora_packer.publisher.connection import open_store
from lora_packer.publisher.credentials import freeze, new_session, signer

NEED = timedelta(minutes=100)


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set environment variables, and write the config and credentials files."""

    def configure(*, config: str = "", credentials: str = "", **variables: str) -> None:
        (tmp_path / "config").write_text(config)
        (tmp_path / "credentials").write_text(credentials)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return configure


def process(tmp_path: Path, *minutes: float | None, token: bool = True) -> str:
    """A program that hands out credentials: of the first lifetime on its first call, and so on; None: no expiry."""
    answers = []
    for lifetime in minutes:
        answer = {"Version": 1, "AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY}
        answer |= {"SessionToken": TOKEN} if token else {}
        answers.append(answer | ({"Expiration": expiry(lifetime)} if lifetime is not None else {}))
    count = tmp_path / "calls"
    program = tmp_path / "credentials.py"
    program.write_text(
        "import json, pathlib\n"
        f"answers, count = {answers!r}, pathlib.Path({str(count)!r})\n"
        "calls = int(count.read_text()) if count.exists() else 0\n"
        "count.write_text(str(calls + 1))\n"
        "print(json.dumps(answers[min(calls, len(answers) - 1)]))\n"
    )
    return f"[default]\ncredential_process = {sys.executable} -I -S {program}\n"


KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
LONG_LIVED = {"AWS_ACCESS_KEY_ID": "AKIAFAKEFAKEFAKEFAKE", "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
FILE = f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
# The two last names are ones that other tools write; botocore ignores both.
FILE_WITH_TOKEN = f"{FILE}aws_session_token = {TOKEN}\naws_expiration = {expiry(30)}\nexpiration = {expiry(30)}\n"


# Providers that tell the end -------------------------------------------------------------------------------------


def use_env(aws: Callable[..., None], tmp_path: Path, server: str, minutes: float) -> None:
    aws(**KEYS, AWS_SESSION_TOKEN=TOKEN, AWS_CREDENTIAL_EXPIRATION=expiry(minutes))


def use_process(aws: Callable[..., None], tmp_path: Path, server: str, minutes: float) -> None:
    aws(config=process(tmp_path, minutes))


def use_role(aws: Callable[..., None], tmp_path: Path, server: str, minutes: float) -> None:
    aws(
        config="[profile deploy]\nrole_arn = arn:aws:iam::123456789012:role/deploy\nsource_profile = default\n",
        credentials=FILE,
        AWS_PROFILE="deploy",
        AWS_ENDPOINT_URL_STS=server,
    )


def use_web_identity(aws: Callable[..., None], tmp_path: Path, server: str, minutes: float) -> None:
    (tmp_path / "token").write_text("an-identity-token")
    aws(
        AWS_ROLE_ARN="arn:aws:iam::123456789012:role/ci",
        AWS_WEB_IDENTITY_TOKEN_FILE=str(tmp_path / "token"),
        AWS_ROLE_SESSION_NAME="ci",
        AWS_ENDPOINT_URL_STS=server,
    )


def use_sso(aws: Callable[..., None], tmp_path: Path, server: str, minutes: float) -> None:
    start = "https://example.awsapps.com/start"
    (tmp_path / "sso").mkdir()
    cached = tmp_path / "sso" / f"{hashlib.sha1(start.encode()).hexdigest()}.json"
    cached.write_text(json.dumps({"accessToken": "fake", "expiresAt": expiry(600)}))
    aws(
        config=f"[default]\nsso_start_url = {start}\nsso_region = eu-central-1\nsso_account_id = 123456789012\n"
        "sso_role_name = training\n",
        AWS_ENDPOINT_URL_SSO=server,
    )


def use_container(aws: Callable[..., None], tmp_path: Path, server: str, minutes: float) -> None:
    aws(AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{server}/container")


def use_instance(aws: Callable[..., None], tmp_path: Path, server: str, minutes: float) -> None:
    aws(AWS_EC2_METADATA_DISABLED="false", AWS_EC2_METADATA_SERVICE_ENDPOINT=server)


TELLING = {
    "env": use_env,
    "custom-process": use_process,
    "assume-role": use_role,
    "assume-role-with-web-identity": use_web_identity,
    "sso": use_sso,
    "container-role": use_container,
    "iam-role": use_instance,
}


@pytest.mark.parametrize("provider", TELLING)
@pytest.mark.parametrize("minutes", [30, 59, 104])
def test_credentials_that_end_too_early_are_refused(
    provider: str, minutes: int, aws: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.credentials.SSOProvider._SSO_TOKEN_CACHE_DIR", str(tmp_path / "sso"))
    with credential_server(minutes) as server:
        TELLING[provider](aws, tmp_path, server, minutes)
        with pytest.raises(CredentialsError) as caught:
            signer(new_session(), NEED, now=now, renew=new_session)
    text = str(caught.value)
    assert caught.value.exit_code == 4
    # Whole minutes are shown, and a moment has passed.
    assert any(f"live for {shown(minutes - gone)} more" in text for gone in (0, 1))
    assert "must live for 1 h 40 min" in text
    assert "IAM user" in (caught.value.hint or "")
    assert not any(secret in text for secret in SECRETS)


def shown(minutes: int) -> str:
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


@pytest.mark.parametrize("provider", TELLING)
def test_credentials_that_live_long_enough_are_accepted(
    provider: str, aws: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.credentials.SSOProvider._SSO_TOKEN_CACHE_DIR", str(tmp_path / "sso"))
    with credential_server(13 * 60) as server:
        TELLING[provider](aws, tmp_path, server, 13 * 60)
        found = signer(new_session(), NEED, now=now)
    assert (found.provider, found.temporary, found.lifetime_known) == (provider, True, True)
    assert found.expires_at is not None
    assert timedelta(hours=12, minutes=58) < found.expires_at - now() <= timedelta(hours=13)
    assert (found.access_key.reveal(), found.secret_key.reveal()) == (ACCESS_KEY, SECRET_KEY)
    assert found.token is not None
    assert found.token.reveal() == TOKEN


@pytest.mark.parametrize("minutes", [12, 5, -30])
def test_an_instance_that_hides_the_end_is_refused_all_the_same(minutes: int, aws: Callable[..., None]) -> None:
    with credential_server(minutes) as server:
        use_instance(aws, Path(), server, minutes)
        shown = freeze(new_session()).expires_at
        assert shown is not None
        assert timedelta(minutes=14) < shown - now() < timedelta(minutes=31)  # later than it truly is
        with pytest.raises(CredentialsError, match="EC2 instance's role"):
            signer(new_session(), NEED, now=now, renew=new_session)


# Providers that do not ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "settings", "known"),
    [
        ("env", LONG_LIVED, True),
        ("env", {**KEYS, "AWS_SESSION_TOKEN": TOKEN}, False),
        ("env", KEYS, False),  # temporary by its ASIA prefix alone: the token was forgotten
        ("shared-credentials-file", {"credentials": FILE.replace("ASIA", "AKIA")}, True),
        ("shared-credentials-file", {"credentials": FILE_WITH_TOKEN}, False),
        ("config-file", {"config": FILE_WITH_TOKEN}, False),
    ],
)
def test_an_untold_end_is_unknown_only_for_temporary_credentials(
    provider: str, settings: dict[str, str], known: bool, aws: Callable[..., None]
) -> None:
    aws(**settings)
    found = signer(new_session(), NEED, now=now, renew=new_session)
    assert (found.provider, found.expires_at, found.lifetime_known) == (provider, None, known)
    assert found.temporary is not known


@pytest.mark.parametrize(("token", "known"), [(True, False), (False, False)])
def test_a_process_without_an_expiry(token: bool, known: bool, aws: Callable[..., None], tmp_path: Path) -> None:
    aws(config=process(tmp_path, None, token=token))
    found = signer(new_session(), NEED, now=now)
    assert (found.provider, found.lifetime_known) == ("custom-process", known)


@pytest.mark.parametrize(("token", "known"), [(None, True), (TOKEN, False)])
def test_explicit_keys(token: str | None, known: bool) -> None:
    session = boto3.Session("AKIAFAKEFAKEFAKEFAKE", SECRET_KEY, token)
    found = signer(session, NEED, now=now)
    assert (found.provider, found.lifetime_known) == ("explicit", known)


# Renewing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["custom-process", "assume-role"])
def test_short_credentials_are_renewed_once_with_a_new_session(
    provider: str, aws: Callable[..., None], tmp_path: Path
) -> None:
    with credential_server(60, 600) as server:
        TELLING[provider](aws, tmp_path, server, 60)
        if provider == "custom-process":
            aws(config=process(tmp_path, 60, 600))
        found = signer(new_session(), NEED, now=now, renew=new_session)
    assert found.expires_at is not None
    assert found.expires_at - now() > timedelta(minutes=590)


def test_a_session_of_this_moment_has_no_fresher_credentials(aws: Callable[..., None], tmp_path: Path) -> None:
    """Whoever has to type a code for them is asked once."""
    adapter = archive(tmp_path, 100)
    aws(config=process(tmp_path, 30))
    with pytest.raises(CredentialsError, match="live for"):
        publish(adapter.content, adapter.name, "s3://bucket/", expires_in=NEED)
    assert (tmp_path / "calls").read_text() == "1"


def test_a_session_that_has_aged_is_renewed(aws: Callable[..., None], tmp_path: Path) -> None:
    """As after an upload: the credentials were long enough when it began."""
    aws(config=process(tmp_path, 106, 200))
    moment = now()
    store = open_store(None, None, False, None, None, lambda: moment)
    first = store.signer()
    moment += timedelta(minutes=2)
    assert first.expires_at is not None
    again = store.signer()
    assert again.expires_at is not None
    assert again.expires_at > first.expires_at
    assert (tmp_path / "calls").read_text() == "2"


def test_another_identity_is_no_renewal(aws: Callable[..., None], tmp_path: Path) -> None:
    aws(config=process(tmp_path, 60))
    session = new_session()
    with pytest.raises(CredentialsError, match="credential_process"):
        signer(session, NEED, now=now, renew=lambda: boto3.Session("AKIAFAKEFAKEFAKEFAKE", SECRET_KEY))


def test_the_end_of_deferred_credentials_is_asked_after_their_first_use() -> None:
    data = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "token": TOKEN, "expiry_time": expiry(30)}
    session = boto3.Session()
    session._session._credentials = DeferredRefreshableCredentials(lambda: data, "login")
    with pytest.raises(CredentialsError, match="aws login"):
        signer(session, NEED, now=now)


# Broken ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "No AWS credentials were found. Set AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": ACCESS_KEY}, "AWS_SECRET_ACCESS_KEY"),
        ({**KEYS, "AWS_CREDENTIAL_EXPIRATION": expiry(-60)}, "ended at"),
        ({**KEYS, "AWS_CREDENTIAL_EXPIRATION": "soon"}, "cannot be had"),
        ({**KEYS, "AWS_CREDENTIAL_EXPIRATION": "2199-01-01T00:00:00"}, "cannot be had"),  # no time zone
        ({"AWS_PROFILE": "missing"}, "missing"),
        ({"config": "[default\nbroken"}, "cannot be"),
        ({"config": "[default]\ncredential_process = /no/such/program\n"}, "/no/such/program"),
        ({"config": f"[default]\ncredential_process = {sys.executable} -c 1\n"}, "cannot be had"),
        ({"config": f"[default]\ncredential_process = {sys.executable} -c 'raise SystemExit(1)'\n"}, "cannot be had"),
    ],
)
def test_credentials_that_cannot_be_had(settings: dict[str, str], message: str, aws: Callable[..., None]) -> None:
    aws(**settings)
    with pytest.raises(CredentialsError, match=message) as caught:
        signer(new_session(), NEED, now=now, renew=new_session)
    assert caught.value.exit_code == 4
    assert caught.value.hint
    assert not any(secret in str(caught.value) for secret in SECRETS)


def test_an_expiry_in_another_time_zone_is_shown_in_utc(aws: Callable[..., None]) -> None:
    local = datetime(2026, 1, 1, 14, 0, tzinfo=UTC)
    aws(**KEYS, AWS_CREDENTIAL_EXPIRATION="2199-01-01T14:30:00+02:00")
    with pytest.raises(CredentialsError, match="until 2199-01-01 12:30 UTC"):
        signer(new_session(), timedelta(days=365 * 300), now=lambda: local)


def test_a_signer_does_not_show_its_secrets(aws: Callable[..., None]) -> None:
    aws(**KEYS, AWS_SESSION_TOKEN=TOKEN)
    found = freeze(new_session())
    assert not any(secret in text for secret in SECRETS for text in (repr(found), str(found), f"{found}"))
