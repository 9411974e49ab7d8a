"""Runs that older versions trained are loaded, rendered and gone on with.

tests/kept_run was trained by this package when its modules lay elsewhere: 60 steps of `ns-train flame-nerf-cpu`
with a tiny grid on the synthetic head. `shown.npz` is what it rendered then. FOLDER stands in its config.yml for the
folder that a test copies it to.
"""

import dataclasses
import importlib
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import flame_nerf
from flame_nerf import methods
from flame_nerf.losses.unseen_views import UnseenViewsConfig
from flame_nerf.refinement import TrackRefinementConfig
from flame_nerf.render.observed.occupancy import OccupancyConfig
from flame_nerf.render.observed.view_cone import FilmedViews
from flame_nerf.render.sampling_config import SamplingConfig
from flame_nerf.runtime import old_runs
from flame_nerf.viewer import HeadPanel

KEPT = Path(__file__).resolve().parents[1] / "kept_run"
LAST_STEP = 59


@pytest.fixture
def config_path(tmp_path):
    """config.yml of the run, with its subject and its checkpoint where that says."""
    shutil.copytree(KEPT / "subject", tmp_path / "subject")
    folder = tmp_path / "outputs/subject/flame-nerf-cpu/t"
    (folder / "nerfstudio_models").mkdir(parents=True)
    name = f"step-{LAST_STEP:09d}.ckpt"
    shutil.copy(KEPT / name, folder / "nerfstudio_models" / name)
    path = folder / "config.yml"
    path.write_text((KEPT / "config.yml").read_text().replace("FOLDER", str(tmp_path)))
    return path


@pytest.mark.slow
def test_renders_what_it_rendered_then(config_path, monkeypatch):
    from nerfstudio.utils.eval_utils import eval_setup

    # One ray a pixel, as then: outlines are smoothed now, which changes their pixels and nothing else.
    monkeypatch.setattr(HeadPanel, "is_moving", True)
    # And rays that leave the head end there: looking on shows more of a head that is haze yet.
    monkeypatch.setattr("flame_nerf.canonical.search_numba.LAYERS", 0)
    # Its cameras are few: what lies between two of them is shown with clothes drawn back now.
    monkeypatch.setattr(FilmedViews, "beyond", lambda self, eyes, few=0.0: torch.full((len(eyes),), -1.0))
    _, pipeline, _, step = eval_setup(config_path)
    assert step == LAST_STEP
    camera, _ = next(iter(pipeline.datamanager.fixed_indices_eval_dataloader))
    with torch.no_grad():
        outputs = pipeline.model.get_outputs_for_camera(camera)
    with np.load(KEPT / "shown.npz") as then:
        for name in then:
            shown = outputs[name].numpy()
            # Kernels compiled in this very process round otherwise than those from the disk: a few pixels move.
            off = np.abs(shown - then[name])
            assert off.mean() < 1e-3 and off.max() < 0.05, (name, off.mean(), off.max())


@pytest.mark.slow
def test_goes_on_where_it_stopped(config_path, tmp_path):
    config = yaml.load(config_path.read_text(), Loader=yaml.Loader)
    config.load_dir = config_path.parent / "nerfstudio_models"
    config.max_num_iterations, config.timestamp = 2, "resumed"
    trainer = config.setup()
    trainer.setup()
    trainer.train()
    assert trainer.step == LAST_STEP + 2
    assert (config.get_checkpoint_dir() / f"step-{LAST_STEP + 2:09d}.ckpt").exists()


# ------------------------------------------------------------------------------------------------------- names, options


def loaded(text: str):
    return yaml.load(text, Loader=yaml.Loader)


def test_every_name_in_the_kept_config_is_found(tmp_path):
    config = loaded((KEPT / "config.yml").read_text())
    assert type(config).__module__ == "flame_nerf.training.trainer"
    assert type(config.pipeline.model.loss_coefficients).__module__ == "flame_nerf.losses.weights"


def test_old_names_are_found_only_where_nothing_has_them():
    for old, homes in old_runs.MOVED.items():
        assert not (Path(flame_nerf.__file__).parents[1] / (old.replace(".", "/") + ".py")).exists()
        for home in homes:
            assert importlib.util.find_spec(home) is not None
    with pytest.raises(ImportError):
        importlib.import_module("flame_nerf.never_was")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        importlib.import_module("flame_nerf.prior_terms").nothing  # noqa: B018


OCCUPANCY = "!!python/object:flame_nerf.occupancy.OccupancyConfig\nresolution: 48\n"


def test_options_that_are_new_since_have_their_defaults():
    config = loaded(OCCUPANCY)
    assert vars(config) == vars(OccupancyConfig(resolution=48))


def test_rays_of_runs_older_than_that_option_end_where_they_were_trained_to():
    sampling = loaded((KEPT / "config.yml").read_text()).pipeline.model.sampling
    assert sampling.grazing == 0.0 and sampling.shell.neck == 0.02
    assert SamplingConfig().grazing == 0.05
    # What a newer run says holds.
    stored = "!!python/object:flame_nerf.render.head_renderer.SamplingConfig\ngrazing: 0.03\n"
    assert loaded(stored).grazing == 0.03


def test_runs_that_call_a_config_by_its_old_name_are_loaded():
    # A newer run than the kept one: its module is where it is today.
    name = "!!python/object:flame_nerf.losses.unseen_views.UnseenSidesConfig"
    stored = loaded(f"{name}\nevery: 3\nseen_tolerance: 0.002\n")
    assert vars(stored) == vars(UnseenViewsConfig(every=3, observed_tolerance=0.002))


def test_what_held_before_is_of_options_that_there_are():
    homes = {"SamplingConfig": SamplingConfig, "TrackRefinementConfig": TrackRefinementConfig}
    for key in old_runs.BEFORE:
        config, name = key.split(".")
        assert name in {field.name for field in dataclasses.fields(homes[config])}


@pytest.mark.parametrize(
    ("change", "stored", "resolution", "said"),
    [
        (None, 7, 48, "OccupancyConfig.cells: this version has no such option; 7 is not used"),
        (old_runs.Gone(7, "96 cells serve every head"), 7, 48, ""),
        (old_runs.Gone(8, "96 cells serve every head"), 7, 48, "OccupancyConfig.cells: 7 is not used, 96 cells serve"),
        (old_runs.Renamed("resolution"), 7, 7, ""),
    ],
)  # fmt: skip
def test_an_option_that_is_gone_is_named_once(monkeypatch, capsys, change, stored, resolution, said):
    monkeypatch.setattr(old_runs, "CHANGED", {} if change is None else {"OccupancyConfig.cells": change})
    config = loaded(OCCUPANCY + f"cells: {stored}\n")
    assert config.resolution == resolution and not hasattr(config, "cells")
    written = " ".join(capsys.readouterr().out.split())
    assert (said in written) if said else written == ""


def test_the_kept_config_is_loaded_without_a_word(capsys):
    model = loaded((KEPT / "config.yml").read_text()).pipeline.model
    assert model.sampling.observed_expressions_only and model.unseen.observed_tolerance == 0.004
    assert capsys.readouterr().out == ""


def test_options_of_a_base_class_are_known_in_those_derived_from_it(capsys):
    stored = "!!python/object:flame_nerf.baselines.insta.InstaModelConfig\nmouth_weight: 20.0\nnever_was: 3\n"
    loaded(stored)
    written = " ".join(capsys.readouterr().out.split())
    assert "InstaModelConfig.mouth_weight: 20.0 is not used, it is 40 in every run now" in written
    assert "InstaModelConfig.never_was: this version has no such option" in written


def test_changed_options_are_of_classes_that_stand_and_names_that_do_not():
    configs = {}
    waiting = [old_runs.StoredConfig]
    while waiting:
        config = waiting.pop()
        configs[config.__name__] = config
        waiting += config.__subclasses__()
    for key, change in old_runs.CHANGED.items():
        config, name = key.split(".")
        names = {field.name for field in dataclasses.fields(configs[config])}
        assert name not in names, key
        assert not isinstance(change, old_runs.Renamed) or change.name in names, key


def test_every_config_of_ours_can_be_loaded_from_an_older_version():
    def configs(value):
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield value
            for field in dataclasses.fields(value):
                yield from configs(getattr(value, field.name))
        elif isinstance(value, dict):
            for inner in value.values():
                yield from configs(inner)

    for method in (methods.flame_nerf, methods.flame_nerf_cpu, methods.flame_nerf_insta, methods.nerface, methods.nha):
        ours = [config for config in configs(method.config) if type(config).__module__.startswith("flame_nerf.")]
        assert len(ours) > 10
        for config in ours:
            assert isinstance(config, old_runs.StoredConfig), type(config)
