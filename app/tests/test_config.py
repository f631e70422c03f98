import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from api.config import ConfigError, load
from api.config.__main__ import main
from api.config.layers import SETTABLE, leaves, variable
from api.config.model import Settings
from api.config.schema import FILE, schema
from api.database import url

PROFILES = Path(FILE).parent / "profiles"
CANARY = "canary-4f1c"
SOON = (
    "environment API_HTTP__DEADLINE_S: http.deadline_s: found 'soon', expected number, "
    "unable to parse string as a number"
)


def mistakes(environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(environ)
    return caught.value.mistakes


def config_file(tmp_path: Path, text: str) -> dict[str, str]:
    file = tmp_path / "config.yml"
    file.write_text(text)
    return {"APP_CONFIG_FILE": str(file), "APP_PROFILE": "staging"}


def secrets_dir(tmp_path: Path, **values: str) -> dict[str, str]:
    directory = tmp_path / "secrets"
    directory.mkdir()
    for name, value in values.items():
        (directory / name).write_text(value)
    return {"APP_SECRETS_DIR": str(directory)}


@pytest.mark.parametrize("profile", ["dev", "staging", "prod"])
def test_each_shipped_profile_is_valid(profile: str) -> None:
    assert load({"APP_PROFILE": profile, "APP_DATA_DIR": "/srv/data"}).settings.profile == profile


def test_without_a_platform_the_profile_is_dev() -> None:
    assert load({}).settings.profile == "dev"
    assert load({}).identity.data_dir == Path.cwd() / "data"


def test_later_layer_wins_and_each_value_knows_its_layer(tmp_path: Path) -> None:
    environ = config_file(tmp_path, "http: {deadline_s: 5}\nitems: {page_size: 10}\n")
    environ |= secrets_dir(tmp_path, API_DATABASE__PASSWORD=CANARY + "\n", OTHER_SECRET="x")
    environ |= {"API_ITEMS__PAGE_SIZE": "20", "API_DATABASE__PASSWORD": CANARY, "OTHER_SECRET": "x"}
    loaded = load(environ)
    assert loaded.settings.items.page_size == 20
    assert loaded.settings.http.deadline_s == 5
    assert loaded.settings.database.password is not None
    assert loaded.settings.database.password.get_secret_value() == CANARY
    layers = {path: (origin.layer, origin.place) for path, origin in loaded.origins.items()}
    assert layers["items.page_size"] == ("environment", "environment API_ITEMS__PAGE_SIZE")
    assert layers["http.deadline_s"] == ("config", environ["APP_CONFIG_FILE"])
    assert layers["log.level"] == ("profile", "profiles/staging.yml")
    assert layers["http.max_body_bytes"] == ("default", "the model's default")
    # The platform passes a secret as a file and as a variable.
    assert layers["database.password"] == ("secrets", "secret API_DATABASE__PASSWORD")


def test_variable_with_another_value_than_the_secret_wins(tmp_path: Path) -> None:
    environ = secrets_dir(tmp_path, API_DATABASE__PASSWORD="old") | {"API_DATABASE__PASSWORD": "new"}
    loaded = load(environ)
    assert loaded.origins["database.password"].layer == "environment"


PLATFORM = (
    "postgresql://api:p%40ss%2Fword@/api?host=192.0.2.21,192.0.2.22&sslmode=verify-full&target_session_attrs=read-write"
)


def test_database_of_the_platform_is_used_and_its_password_is_a_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = load({"DATABASE_URL": PLATFORM, "APP_PROFILE": "prod", "APP_DATA_DIR": str(tmp_path)})
    assert loaded.settings.database.password is not None
    target = url(loaded.settings.database, tmp_path)
    assert (target.drivername, target.username, target.password) == ("postgresql+psycopg", "api", "p@ss/word")
    assert target.query["target_session_attrs"] == "read-write"
    assert target.query["host"] == "192.0.2.21,192.0.2.22"
    assert loaded.origins["database.url"].layer == "platform"
    assert main(["show"], {"DATABASE_URL": PLATFORM}) == 0
    assert "ss/word" not in (said := capsys.readouterr().out)
    assert "p%40ss" not in said


def test_own_setting_counts_more_than_the_database_of_the_platform(tmp_path: Path) -> None:
    own = config_file(tmp_path, "database: {url: 'postgresql+psycopg://api@192.0.2.9/api'}")
    found = load(own | {"DATABASE_URL": PLATFORM}).settings.database
    assert found.url == "postgresql+psycopg://api@192.0.2.9/api"
    assert found.password is None, "the platform's password is for the platform's server"


@pytest.mark.parametrize(
    ("address", "mistake"),
    [
        ("no address", "environment DATABASE_URL: expected postgresql://USER:PASSWORD@HOST/NAME"),
        ("mysql://api:hunter2@db/api", "environment DATABASE_URL: database.url: found 'mysql'"),
    ],
)
def test_database_of_the_platform_that_cannot_be_used_is_refused(address: str, mistake: str) -> None:
    (found,) = mistakes({"DATABASE_URL": address})
    assert found.startswith(mistake)
    assert "hunter2" not in found


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load({}).settings.debug = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("loog: {level: info}", "{file}: loog: unknown key, found a mapping, did you mean log?"),
        ("log: {levl: info}", "{file}: log.levl: unknown key, found 'info', did you mean level?"),
        (
            f"database: {{pasword: {CANARY}}}",
            "{file}: database.pasword: unknown key, found a value that is not shown, did you mean password?",
        ),
        ("zzz: 1", "{file}: zzz: unknown key, found 1"),
        ("log: {level: loud}", "{file}: log.level: found 'loud', expected 'debug', 'info', 'warning' or 'error'"),
        ("log: loud", "{file}: log: found 'loud', expected a mapping of settings"),
        ("log: null", "{file}: log: found None, expected a mapping of settings"),
        ("http: {deadline_s: '5'}", "{file}: http.deadline_s: found '5', expected number"),
        ("http: {deadline_s: 0}", "{file}: http.deadline_s: found 0, expected greater than 0"),
        ("http: {max_body_bytes: 1.5}", "{file}: http.max_body_bytes: found 1.5, expected integer"),
        ("http: {docs: 1}", "{file}: http.docs: found 1, expected boolean"),
        ("items: {page_size: true}", "{file}: items.page_size: found True, expected integer"),
        ("debug: true", "{file}: debug: found True, expected False in the profile 'staging'"),
        ("http: {metrics: true}", "{file}: http.metrics: found True, expected False in the profile 'staging'"),
        ("profile: prod", "{file}: profile: is chosen by APP_PROFILE and cannot be set here"),
        (
            "database: {url: 'mysql://x/y'}",
            "{file}: database.url: found 'mysql', expected sqlite or postgresql+psycopg",
        ),
        (
            "database: {url: nonsense}",
            "{file}: database.url: expected sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME",
        ),
        (
            f"database: {{url: 'postgresql+psycopg://u:{CANARY}@h/d'}}",
            "{file}: database.url: a password does not belong into the URL: set it as database.password",
        ),
        (
            f"database: {{password: {CANARY}}}",
            "{file}: database.password: is a secret; set it as API_DATABASE__PASSWORD among the secrets",
        ),
        ("log: {level: info\nhttp: {}", "{file}: line 2: expected ',' or '}}', but got ':'"),
        ("a: 1\nlog: {level: info, level: debug}", "{file}: line 2: 'level' is set twice"),
        ("- log", "{file}: expected a mapping of settings"),
        ("1: 2", "{file}: expected a mapping of settings"),
        ("log: \x07", "{file}: unacceptable character #x0007: special characters are not allowed"),
    ],
)
def test_mistake_in_a_file_names_file_key_value_and_what_is_expected(tmp_path: Path, text: str, mistake: str) -> None:
    environ = config_file(tmp_path, text)
    found = mistakes(environ)
    assert mistake.format(file=environ["APP_CONFIG_FILE"]) in found
    assert CANARY not in str(found)


@pytest.mark.parametrize(
    ("environ", "mistake"),
    [
        ({"APP_PROFILE": "production"}, "APP_PROFILE: found 'production', expected one of dev, prod, staging"),
        (
            {"API_LOG__LEVLE": "info"},
            "environment API_LOG__LEVLE: unknown setting, did you mean API_LOG__LEVEL?",
        ),
        ({"API_X": "1"}, "environment API_X: unknown setting"),
        ({"API_PROFILE": "prod"}, "environment API_PROFILE: unknown setting"),
        ({"API_LOG": "x"}, "environment API_LOG: unknown setting, did you mean API_LOG__LEVEL?"),
        (
            {"API_DEBUG": "maybe"},
            "environment API_DEBUG: debug: found 'maybe', expected boolean, unable to interpret input",
        ),
        (
            {"API_DEBUG": "true", "APP_PROFILE": "prod"},
            "environment API_DEBUG: debug: found True, expected False in the profile 'prod'",
        ),
        (
            {"API_HTTP__DEADLINE_S": "soon"},
            SOON,
        ),
        (
            {"API_ITEMS__PAGE_SIZE": "0"},
            "environment API_ITEMS__PAGE_SIZE: items.page_size: found 0, expected greater than or equal to 1",
        ),
        ({"APP_CONFIG_FILE": "/nowhere"}, "APP_CONFIG_FILE: cannot read /nowhere: No such file or directory"),
        ({"APP_SECRETS_DIR": "/nowhere"}, "APP_SECRETS_DIR: cannot read /nowhere: No such file or directory"),
    ],
)
def test_mistake_in_the_environment_names_the_variable(environ: dict[str, str], mistake: str) -> None:
    assert mistakes(environ) == [mistake]


def test_mistake_in_a_secret_shows_no_value(tmp_path: Path) -> None:
    environ = secrets_dir(tmp_path, API_DATABASE__PASSWROD=CANARY, API_ITEMS__PAGE_SIZE="x")
    found = mistakes(environ)
    assert found[0] == "secret API_DATABASE__PASSWROD: unknown setting, did you mean API_DATABASE__PASSWORD?"
    assert found[1].startswith(
        "secret API_ITEMS__PAGE_SIZE: items.page_size: found a value that is not shown, expected"
    )
    assert CANARY not in str(found)


def test_secret_that_is_no_text_is_refused(tmp_path: Path) -> None:
    environ = secrets_dir(tmp_path)
    (tmp_path / "secrets" / "API_DATABASE__PASSWORD").write_bytes(b"\xff\xfe")
    assert "it is not UTF-8" in mistakes(environ)[0]


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    environ = config_file(tmp_path, "log: {level: loud}\nzzz: 1") | {"API_X": "1"}
    assert len(mistakes(environ)) == 3


def test_check_says_nothing_if_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"], {}) == 0
    assert capsys.readouterr() == ("", "")


def test_check_refuses_with_each_mistake_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"], {"API_X": "1", "API_Y": "2"}) == 1
    assert capsys.readouterr().err == "environment API_X: unknown setting\nenvironment API_Y: unknown setting\n"


def test_show_names_the_layer_of_each_value_and_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environ = secrets_dir(tmp_path, API_DATABASE__PASSWORD=CANARY) | {"API_DATABASE__PASSWORD": CANARY}
    assert main(["show"], environ) == 0
    shown = capsys.readouterr().out
    lines = {line.split()[0]: line.split(maxsplit=3)[1:] for line in shown.splitlines()}
    assert set(lines) == {path for path, _ in leaves(Settings)}
    assert lines["database.password"] == ['"**********"', "secrets", "secret API_DATABASE__PASSWORD"]
    assert CANARY not in shown
    assert CANARY not in repr(load(environ))


def test_module_runs_as_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api.config", "schema"], capture_output=True, text=True, check=True, env={}
    )
    assert done.stdout == schema()


def test_shipped_schema_is_current() -> None:
    assert FILE.read_text() == schema(), "run: python -m api.config schema > src/api/config.schema.json"


def test_shipped_schema_knows_every_setting_but_the_secrets() -> None:
    tree = json.loads(schema())
    jsonschema.Draft202012Validator.check_schema(tree)
    known = set()
    for name, inner in tree["properties"].items():
        section = tree["$defs"].get(inner.get("$ref", "").rpartition("/")[2])
        known |= {f"{name}.{key}" for key in section["properties"]} if section else {name}
    assert known == set(SETTABLE) - {"database.password"}


@pytest.mark.parametrize("profile", sorted(path.name for path in PROFILES.glob("*.yml")))
def test_profiles_fit_the_schema_that_editors_use(profile: str) -> None:
    text = (PROFILES / profile).read_text()
    assert text.startswith("# yaml-language-server: $schema=../config.schema.json\n")
    jsonschema.validate(yaml.safe_load(text), json.loads(schema()))


@pytest.mark.parametrize(
    "config", [{"loog": {}}, {"log": {"level": "loud"}}, {"database": {"password": "x"}}, {"http": {"docs": "yes"}}]
)
def test_schema_refuses_what_the_model_refuses(config: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, json.loads(schema()))


def test_names_of_variables() -> None:
    assert variable("database.url") == "API_DATABASE__URL"
    assert variable("debug") == "API_DEBUG"
