"""The Containerfile, read as text. `make container` builds and runs it where there is a builder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "Containerfile").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """The instructions, (name, arguments), with continued lines joined and comments left out."""
    lines = "\n".join(line for line in TEXT.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    return [(name.upper(), rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


FOUND = instructions()
LAST = FOUND[max(i for i, (name, _) in enumerate(FOUND) if name == "FROM") :]


def test_the_base_is_one_exact_version_of_a_python_that_is_supported() -> None:
    defaults = dict(rest.split("=", 1) for name, rest in FOUND if name == "ARG")
    bases = [rest.split()[0] for name, rest in FOUND if name == "FROM"]
    images = [re.sub(r"\$\{(\w+)\}", lambda m: defaults[m[1]], base) for base in bases]
    assert len(set(images)) == 1, "stages that differ would have other libraries"
    version = re.fullmatch(r"python:(\d+\.\d+)\.\d+-[\w-]+(@sha256:[0-9a-f]{64})?", images[0])
    assert version is not None, images
    assert f'"Programming Language :: Python :: {version[1]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_it_runs_as_an_ordinary_user() -> None:
    users = [rest for name, rest in LAST if name == "USER"]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[-1]), "numbers, so that Kubernetes can check runAsNonRoot"
    after = [name for name, _ in LAST][[name for name, _ in LAST].index("USER") :]
    assert set(after) <= {"USER", "WORKDIR", "ENTRYPOINT", "CMD"}
    assert ("ENTRYPOINT", '["floemap"]') in LAST


def test_nothing_is_fetched_but_by_pip_from_the_lock() -> None:
    assert not [rest for name, rest in FOUND if name == "ADD"], "ADD fetches and unpacks what nobody has checked"
    runs = [rest for name, rest in FOUND if name == "RUN"]
    assert not [run for run in runs if re.search(r"\b(curl|wget|apt|apt-get|git|sudo)\b", run)]
    installs = [run for run in runs if "pip install" in run]
    assert installs and all("requirements.lock" in run for run in installs)


def test_it_contains_no_secret_and_only_what_the_package_needs() -> None:
    assert not re.search(r"passw|secret|token|_key|credential|FLOEMAP_CDSE", TEXT, re.IGNORECASE)
    copied = [
        word for name, rest in FOUND if name == "COPY" and "--from" not in rest for word in shlex.split(rest)[:-1]
    ]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert next(line for line in ignored if not line.startswith("#")) == "*"
    assert sorted(copied) == sorted(line[1:] for line in ignored if line.startswith("!"))
    assert all((ROOT / path).exists() for path in copied)


@pytest.mark.parametrize("word", ["--read-only", "--cap-drop ALL", "--user"])
def test_the_call_that_is_shown_is_a_careful_one(word: str) -> None:
    assert word in TEXT
