"""The compose deployment and the embedded stack are one description, and the docs tell it right.

No Docker here: the files are read as Compose reads them, and compared with the code.
"""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from pydantic import SecretStr

from app.embedded.processes import ProcessSpec
from app.embedded.stack import process_specs
from app.settings import Settings
from app.storage import open_artifacts
from app.storage.s3 import S3Artifacts

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "HANSA_"
VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::([-?])([^}]*))?\}")
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+[\w.-]*")
UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
FILLED = {
    "PUBLIC_URL": "https://hub.example.org",
    "POSTGRES_PASSWORD": "a1",
    "VALKEY_PASSWORD": "b2",
    "S3_SECRET_ACCESS_KEY": "c3",
    "SIGNING_KEY": "A" * 43,
}

SPECS = {
    spec.name: spec
    for spec in process_specs(
        database_url="",
        redis_url="",
        artifacts_url="",
        signing_key="",
        public_url="",
        host="0.0.0.0",  # noqa: S104 -- in a container
    )
}


def read(name: str) -> str:
    return (ROOT / name).read_text()


def interpolate(text: str) -> str:
    """Fill `text` as Compose does from a filled-in .env."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name, operator, rest = match.groups()
        if name in FILLED:
            return FILLED[name]
        assert operator == "-", f"{name} has neither a value nor a default"
        return str(rest)

    return VARIABLE.sub(value, text)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load(interpolate(read("docker-compose.yml"))))


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return compose["services"]


def dockerfile() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, continuation lines joined."""
    joined = read("Dockerfile").replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def instruction(name: str) -> str:
    """Return the last instruction of that name: the one that counts."""
    return [rest for found, rest in dockerfile() if found == name][-1]


def hansa_services(services: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: found for name, found in services.items() if "build" in found}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_a_service_runs_the_command_of_the_embedded_process(
    spec: ProcessSpec, services: dict[str, dict[str, Any]]
) -> None:
    entrypoint = yaml.safe_load(instruction("ENTRYPOINT"))
    assert [*entrypoint, *services[spec.name]["command"]] == list(spec.argv)


def test_there_is_no_hub_process_that_only_one_of_the_two_runs(
    services: dict[str, dict[str, Any]],
) -> None:
    assert hansa_services(services).keys() == SPECS.keys()


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_a_service_waits_for_what_its_process_needs(
    spec: ProcessSpec, services: dict[str, dict[str, Any]]
) -> None:
    waits = services[spec.name]["depends_on"]
    assert set(spec.depends_on) <= waits.keys()
    for name, wait in waits.items():
        ends = services[name].get("restart") == "on-failure"
        wanted = "service_completed_successfully" if ends else "service_healthy"
        assert wait["condition"] == wanted, name
        assert ends or "healthcheck" in services[name], name


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_a_service_is_given_settings_that_exist_and_those_that_are_required(
    spec: ProcessSpec, services: dict[str, dict[str, Any]]
) -> None:
    fields = {f"{PREFIX}{name.upper()}": field for name, field in Settings.model_fields.items()}
    given = {name for name in services[spec.name]["environment"] if name.startswith(PREFIX)}
    assert given <= fields.keys()
    assert {name for name, field in fields.items() if field.is_required()} <= given
    assert set(spec.env) <= given


def test_the_settings_of_compose_open_the_store_and_name_its_services(
    services: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in services["hub"]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = Settings()  # pyright: ignore[reportCallIssue] -- from the environment
    assert isinstance(open_artifacts(settings), S3Artifacts)
    assert settings.public_url == FILLED["PUBLIC_URL"]
    for url in (settings.database_url, settings.redis_url, settings.s3_endpoint):
        text = url.get_secret_value() if isinstance(url, SecretStr) else url
        host = re.search(r"(?:@|//)(\w+):\d+", text)
        assert host is not None
        assert host[1] in services
    password = services["postgres"]["environment"]["POSTGRES_PASSWORD"]
    assert f":{password}@postgres" in settings.database_url.get_secret_value()
    assert services["store"]["environment"] == {
        "AWS_ACCESS_KEY_ID": settings.s3_access_key_id,
        "AWS_SECRET_ACCESS_KEY": settings.s3_secret_access_key.get_secret_value(),
    }


def test_the_store_is_a_bucket_that_the_deployment_makes(
    services: dict[str, dict[str, Any]],
) -> None:
    bucket = services["hub"]["environment"]["HANSA_ARTIFACTS_URL"].split("/")[2]
    assert f"s3.bucket.create -name={bucket}" in services["bucket"]["command"][0]


def test_a_worker_is_given_the_time_to_stop_that_its_process_has(
    services: dict[str, dict[str, Any]],
) -> None:
    assert int(services["worker"]["stop_grace_period"].rstrip("s")) >= SPECS["worker"].stop_seconds


def test_every_image_is_pinned(services: dict[str, dict[str, Any]]) -> None:
    images = {found["image"] for found in services.values()}
    bases = {rest.split()[0] for name, rest in dockerfile() if name == "FROM"}
    unpinned = [image for image in images | bases if not PINNED.fullmatch(image)]
    assert unpinned == []


def test_the_built_image_has_the_version_of_the_hub(services: dict[str, dict[str, Any]]) -> None:
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    images = {found["image"] for found in hansa_services(services).values()}
    assert images == {f"hansa-hub:{version}"}


def test_every_volume_is_declared_and_every_declared_one_used(compose: dict[str, Any]) -> None:
    mounts = [
        mount.split(":")[0]
        for service in compose["services"].values()
        for mount in service.get("volumes", [])
        if not mount.startswith((".", "/"))
    ]
    assert set(mounts) == compose["volumes"].keys()


def test_uploads_are_staged_on_a_volume(services: dict[str, dict[str, Any]]) -> None:
    found = re.search(r"TMPDIR=(\S+)", instruction("ENV"))
    assert found is not None
    for name in ("hub", "worker"):
        targets = [mount.split(":")[1] for mount in services[name]["volumes"]]
        assert found[1] in targets


def test_only_the_proxy_is_reachable_from_outside(services: dict[str, dict[str, Any]]) -> None:
    published = [name for name, service in services.items() if "ports" in service]
    assert published == ["proxy"]


def test_the_proxy_takes_the_bodies_that_the_hub_takes() -> None:
    limits = dict(re.findall(r"request_body @(\w+) \{\s*max_size (\S+)", read("deploy/Caddyfile")))
    seen = {name: int(size[:-3]) * UNITS[size[-3:]] for name, size in limits.items()}
    assert seen == {
        "blobs": Settings.model_fields["max_artifact_bytes"].default,
        "messages": Settings.model_fields["max_body_bytes"].default,
    }


def test_the_example_environment_has_every_variable_with_its_default() -> None:
    text = "\n".join(line.partition("  #")[0] for line in read("docker-compose.yml").splitlines())
    used = {match[1]: (match[2], match[3]) for match in VARIABLE.finditer(text) if match[1]}
    example = dict(re.findall(r"^(#?\w+)=(.*)$", read(".env.example"), re.MULTILINE))
    required = {name for name, (operator, _) in used.items() if operator == "?"}
    optional = {f"#{name}": rest for name, (operator, rest) in used.items() if operator == "-"}
    assert {name for name in example if not name.startswith("#")} == required
    assert {name: rest for name, rest in example.items() if name.startswith("#")} == optional
    assert required == FILLED.keys()


def test_the_image_serves_by_default_and_not_as_root(services: dict[str, dict[str, Any]]) -> None:
    assert yaml.safe_load(instruction("ENTRYPOINT")) == ["hansa-hub"]
    assert yaml.safe_load(instruction("CMD")) == services["hub"]["command"]
    assert instruction("USER") not in {"root", "0"}


def test_the_image_has_the_command_and_no_torch() -> None:
    hub = tomllib.loads(read("pyproject.toml"))["project"]
    sdk = tomllib.loads(read("client_sdk/pyproject.toml"))["project"]
    assert hub["scripts"]["hansa-hub"] == "app.cli:main"
    needed = [*hub["dependencies"], *sdk["dependencies"]]
    assert [name for name in needed if re.match(r"(torch|hansa\[)", name)] == []


def test_the_worker_has_what_its_broker_needs() -> None:
    # Without the extra, kombu's Redis transport finds its imports here, thanks to pytest, and
    # not in the image.
    needed = tomllib.loads(read("pyproject.toml"))["project"]["dependencies"]
    assert [name for name in needed if name.startswith("celery[redis]")] != []


def test_what_the_image_copies_exists_and_is_sent_to_the_build() -> None:
    sent = set(re.findall(r"^!(\S+)$", read(".dockerignore"), re.MULTILINE))
    copied: set[str] = set()
    for name, rest in dockerfile():
        if name == "COPY" and "--from" not in rest:
            copied.update(shlex.split(rest)[:-1])
    whole = {path for path in copied if not copied & {str(it) for it in Path(path).parents}}
    assert whole == sent
    assert all((ROOT / path).exists() for path in copied)


def test_operations_document_every_setting_with_its_default() -> None:
    row = re.compile(r"^\| `(HANSA_\w+)` \| (.*?) \|", re.MULTILINE)
    told = dict(row.findall(read("docs/operations.md")))
    true = {
        f"{PREFIX}{name.upper()}": (
            "required" if field.is_required() else f"`{_plain(field.default)}`"
        )
        for name, field in Settings.model_fields.items()
    }
    assert told == true


def _plain(default: object) -> str:
    value = default.get_secret_value() if isinstance(default, SecretStr) else default
    return str(value) or "(empty)"
