"""The image and the compose file: linted, and consistent with the package they run. Nothing is built here."""

import fnmatch
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from smart_retrieval.cli.main import app

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
#: Instructions of the last stage, comments and line ends within one left out.
FINAL = [
    line.partition(" ")[::2]
    for line in re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M)).split("\nFROM ")[-1].splitlines()
    if line.strip()
]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())


def last(name):
    return [rest for instruction, rest in FINAL if instruction == name][-1]


def options_of(arguments):
    """What ``smart`` makes of a command line; it is not run."""
    command = typer.main.get_command(app)
    assert arguments[0] in command.commands
    found = command.commands[arguments[0]]
    context = found.make_context(arguments[0], list(arguments[1:]), resilient_parsing=True)
    return context.params


def test_hadolint_finds_nothing():
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([program, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_runs_without_rights_and_says_whether_it_is_ready():
    assert last("USER") == "10001"
    assert "useradd --uid 10001" in DOCKERFILE
    instructions = [instruction for instruction, _ in FINAL]
    assert "RUN" not in instructions[instructions.index("USER") :]
    assert "USER" not in instructions[instructions.index("HEALTHCHECK") :]
    code = json.loads(last("HEALTHCHECK").partition("CMD ")[2])[-1]
    compile(code, "HEALTHCHECK", "exec")
    (path,) = re.findall(r"http://127\.0\.0\.1:8000(/\w+)", code)
    operations = (ROOT / "src" / "smart_retrieval" / "server" / "http" / "operations.py").read_text()
    assert f'@router.get("{path}"' in operations
    assert json.loads(last("ENTRYPOINT")) == ["smart"]
    assert "ADD " not in DOCKERFILE
    assert not re.search(r"(?i)(token|password|secret)\w*\s*=", DOCKERFILE)


def test_commands_are_those_of_the_package():
    service = COMPOSE["services"]["smart"]
    command = json.loads(last("CMD"))
    assert service["command"] == command
    options = options_of(command)
    assert options["indexes"] == ["/indexes/docs.smart"]
    assert (options["host"], options["port"]) == ("0.0.0.0", int(last("EXPOSE")))
    assert str(options["token_file"]) == "/run/secrets/tokens"
    for line in re.findall(r"smart-retrieval (index .*)", DOCKERFILE):
        assert options_of(line.split())["index_path"] == Path("/indexes/docs.smart")


def test_compose_is_closed_to_others():
    service = COMPOSE["services"]["smart"]
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["secrets"]) == set(COMPOSE["secrets"])
    # Whatever is written there goes into a volume or the temporary folder, and caches outlive the container.
    environment = dict(part.split("=", 1) for part in last("ENV").split())
    assert {environment[name].split("/")[1] for name in ("SMART_CACHE", "NUMBA_CACHE_DIR")} == {"cache"}
    assert last("VOLUME").split() == ["/indexes", "/cache"]
    mounted = dict(volume.split(":")[::-1] for volume in service["volumes"])
    assert set(mounted) == set(last("VOLUME").split())
    assert mounted["/cache"] in COMPOSE["volumes"]
    assert service["tmpfs"] == ["/tmp"]


def test_extras_exist_and_the_build_sees_what_it_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)", DOCKERFILE, re.M)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert {"serve", "demo"} <= set(extras.split(","))
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    seen = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {name for names in re.findall(r"^COPY ((?!--from).*) \S+$", DOCKERFILE, re.M) for name in names.split()}
    assert copied == seen
    needed = {"pyproject.toml", "src", project["readme"], *project["license-files"]}
    assert all(any(fnmatch.fnmatch(name, pattern) for pattern in seen) for name in needed)
    assert all((ROOT / name).exists() for name in seen)
