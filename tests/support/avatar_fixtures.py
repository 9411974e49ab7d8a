"""Fixtures of the tests of avatars: one project, one packed avatar, for all of them. Import them by name."""

from pathlib import Path

import pytest
from avatar_runs import subject_with_head, untrained_run

from flame_nerf.avatar.pack import pack


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Path:
    """A folder as a user has it: subjects/me, outputs/me/flame-nerf-cpu/t."""
    folder = tmp_path_factory.mktemp("project")
    subject_with_head(folder / "subjects/me")
    untrained_run(folder / "subjects/me", folder / "outputs")
    return folder


@pytest.fixture(scope="session")
def config_path(project) -> Path:
    return project / "outputs/me/flame-nerf-cpu/t/config.yml"


@pytest.fixture(scope="session")
def packed(project, config_path, tmp_path_factory) -> Path:
    return pack(config_path, tmp_path_factory.mktemp("packed") / "me.zip").path
