"""A run on a GPU rehearsed where there is none: training, resuming, evaluation, films, the viewer's panel and exports.

    python tests/support/rehearsal.py /tmp/rehearsal --steps 300

Says for every part of it whether a GPU would have gone along, what it would have been waited for in a training step,
and how much work a step gives it. `pretended_gpu.py` says how.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from avatar_runs import subject_with_head
from cpu_run import digest
from pretended_gpu import CUDA, Record, fault_line, pretended_gpu
from torch import nn

from flame_nerf import methods
from flame_nerf.losses.weights import LossWeights
from flame_nerf.subject import Subject, write_subject

METHOD = "flame-nerf"
METHODS = {METHOD: methods.flame_nerf, "flame-nerf-insta": methods.flame_nerf_insta, "nha": methods.nha}
"""Those of CUDA that are rehearsed; the first has the most to do."""
EVERYTHING = "flame-nerf, all that can be learned"
"""The first of them with corrections of everything, latent codes and averaged weights."""
PLAIN, UNRECORDED = "flame-nerf, colour and matte", "flame-nerf, colour and matte, without a graph"
"""The first of them by its commonest step, of two terms alone; only trained."""


def small_encoder(config: Any, device: torch.device) -> Any:
    """A picture's meaning from a network that knows nothing, but has the layers that encoders have."""
    from flame_nerf.losses.encoders.image_encoder import NetworkEncoder

    layers = nn.Conv2d(3, 8, 4, 4), nn.GELU(), nn.Flatten(), nn.Linear(128, 16), nn.LayerNorm(16)
    return NetworkEncoder("small", nn.Sequential(*layers), 16, (0.5,) * 3, (0.5,) * 3, device)


def subject_for(root: Path) -> Subject:
    """The synthetic head with its head model and depth maps."""
    subject = subject_with_head(root)
    (root / "depth").mkdir()
    frames = []
    for frame in subject.frames:
        matte = cv2.imread(str(frame.mask_path), cv2.IMREAD_GRAYSCALE)
        nearer = cv2.GaussianBlur(matte.astype(np.float32), (0, 0), 4)
        path = root / "depth" / f"{frame.timestep:05d}.png"
        cv2.imwrite(str(path), (200 * nearer).astype(np.uint16))
        frames.append(dataclasses.replace(frame, depth_path=path))
    subject = dataclasses.replace(subject, frames=tuple(frames))
    write_subject(subject)
    return subject


class Rehearsal:
    """One method's run.

    Attributes:
        parts: what is done, in order.
        steps: launches, bytes and waits of each training step.
    """

    def __init__(self, method: str, subject: Path, folder: Path, steps: int, record: Record):
        self.method, self.subject, self.folder, self.count, self.record = method, subject, folder, steps, record
        self.steps: list[dict[str, Any]] = []
        self.parts: dict[str, Callable[[], None]] = {
            "train": self.train, "resume": self.resume, "evaluate": self.evaluate, "film": self.film,
            "panel": self.panel,
        }  # fmt: skip
        if method in (PLAIN, UNRECORDED):
            self.parts = {"train": self.train}
        if method == METHOD:
            self.parts |= {"render": self.render, "export gltf": self.gltf, "export web": self.web}
        self._pipeline: Any = None

    def config(self) -> Any:
        """The method's own, over a few small pictures, with all the terms that it can have, early."""
        config = copy.deepcopy(METHODS.get(self.method, METHODS[METHOD]).config)
        config.data = config.pipeline.datamanager.data = self.subject
        config.output_dir, config.experiment_name, config.timestamp = self.folder, self.method.replace(" ", ""), "t"
        config.vis, config.max_num_iterations, config.steps_per_save = "tensorboard", self.count, self.count // 2
        config.steps_per_eval_batch = config.steps_per_eval_image = max(2, self.count // 2)
        config.steps_per_eval_all_images = self.count - 1
        config.logging.local_writer.enable = False
        config.pipeline.datamanager.train_num_rays_per_batch = 256
        config.pipeline.datamanager.eval_num_rays_per_batch = 256
        model = config.pipeline.model
        if hasattr(model.field, "n_levels"):
            model.field.log2_hashmap_size, model.field.n_levels = 10, 4
            occupancy = model.sampling.occupancy
            model.sampling.occupancy = dataclasses.replace(
                occupancy, resolution=16, start_step=min(20, self.count // 4)
            )
        if hasattr(model.sampling, "visibility"):
            # PyTorch3D's own operators know nothing of a GPU that is not there.
            model.sampling.visibility = "rays"
        model.refinement.pose.calibration_start_step = min(20, self.count // 3)
        if self.method in (PLAIN, UNRECORDED):
            model.loss_coefficients = LossWeights(unseen_loss=0.0)
            model.cuda_graphs = self.method == PLAIN
        if self.method in (METHOD, EVERYTHING):
            weights, starts = model.loss_coefficients, model.loss_starts
            weights.depth_loss, weights.semantic_loss, weights.opacity_entropy_loss = 1e-3, 1e-2, 1e-3
            starts.depth_loss = starts.unseen_loss = starts.semantic_loss = min(20, self.count // 3)
            model.semantic = dataclasses.replace(model.semantic, every=3, size=16)
            model.semantic.encoder.encoder = "rehearsal:small_encoder"
            model.unseen = dataclasses.replace(model.unseen, every=2)
        if self.method == EVERYTHING:
            model.latent_dim, model.ema_decay = 4, 0.9
            model.refinement.expression.enabled = model.refinement.identity.enabled = True
        return config

    def run(self) -> dict[str, str]:
        """Do all parts; returns what became of each: seconds, or the fault."""
        found = {}
        for name, part in self.parts.items():
            start = time.monotonic()
            try:
                part()
                found[name] = f"{time.monotonic() - start:.1f} s"
            except (Exception, SystemExit) as error:
                found[name] = f"FAULT {fault_line(error)}"
        return found

    def _trainer(self, config: Any, counts: bool) -> Any:
        trainer = config.setup(local_rank=0, world_size=1)
        trainer.setup()
        if not counts:
            return trainer
        step = trainer.train_iteration

        def counted(index: int) -> Any:
            self.record.clear()
            # To look up where in the code takes longer than the work itself.
            self.record.by_place = self.count <= 40 or index % 8 == 1
            done = step(index)
            self.steps.append(
                {"step": index, "launches": sum(self.record.launches.values()), "inside": self.record.inside,
                 "loss": float(done[0].detach().host), "bytes": self.record.bytes,
                 "waits": dict(self.record.waits), "places": dict(self.record.places),
                 "operators": dict(self.record.launches)}
            )  # fmt: skip
            return done

        trainer.train_iteration = counted
        return trainer

    def train(self) -> None:
        """Set-up, steps, evaluation on the way, checkpoints."""
        config = self.config()
        config.save_config()
        torch.manual_seed(0)
        np.random.seed(0)
        trainer = self._trainer(config, counts=True)
        model = trainer.pipeline.model
        elsewhere = [name for name, value in model.named_parameters() if value.device != CUDA]
        elsewhere += [name for name, value in model.named_buffers() if value.device != CUDA]
        assert not elsewhere, f"not on the GPU: {elsewhere}"
        trainer.train()

    @property
    def path(self) -> Path:
        """The run's config.yml."""
        return next(self.folder.glob(f"{self.method.replace(' ', '')}/**/config.yml"))

    def resume(self) -> None:
        """A few steps more."""
        config = self.config()
        config.load_dir, config.timestamp = self.path.parent / "nerfstudio_models", "more"
        config.output_dir, config.max_num_iterations = self.folder / "resumed", 2
        trainer = self._trainer(config, counts=False)
        trainer.train()
        assert trainer.step == self.count + 1, f"went on to step {trainer.step}"

    def pipeline(self) -> Any:
        """The trained avatar, loaded as every command does."""
        from flame_nerf.avatar.loading import load_pipeline

        if self._pipeline is None:
            self._pipeline = load_pipeline(self.path)
        return self._pipeline

    def evaluate(self) -> None:
        """The held-out pictures, as ns-eval."""
        metrics = self.pipeline().get_average_eval_image_metrics(get_std=True)
        assert all(isinstance(value, float) for value in metrics.values()), metrics

    def film(self) -> None:
        """A few pictures, as `flame-nerf drive`."""
        from flame_nerf.film import film_orbit

        film_orbit(self.pipeline(), self.path.parent / "film.mp4", 3, yaw_deg=30.0)

    def render(self) -> None:
        """A camera path, as ns-render, which opens the run itself."""
        from nerfstudio.scripts.render import RenderCameraPath
        from synthetic import look_at_origin

        key = {"camera_to_world": look_at_origin(0, 0).flatten().tolist(), "fov": 26, "aspect": 1, "render_time": 0.3}
        path = {"camera_type": "perspective", "render_height": 16, "render_width": 16, "seconds": 1,
                "camera_path": [key, key | {"render_time": 0.7}]}  # fmt: skip
        (self.folder / "path.json").write_text(json.dumps(path))
        options = {"output_path": self.folder / "pictures", "output_format": "images", "image_format": "png"}
        RenderCameraPath(self.path, camera_path_filename=self.folder / "path.json", **options).main()

    def panel(self) -> None:
        """The viewer's panel: a moment of the video, the sliders, a picture."""
        import viser
        from panel_stand_ins import FakeViewer

        pipeline = self.pipeline()
        model, server = pipeline.model, viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
        try:
            viewer = FakeViewer(server, folder=self.folder)
            viewer.pipeline = pipeline
            said: list[str] = []
            from flame_nerf.viewer import panel as module

            module.CONSOLE = type("Console", (), {"print": lambda _, text: said.append(str(text))})()
            model.panel._setup(viewer)
            model.panel.stage.go(frame=1)
            model.panel.stage.set_sliders({model.motion.pose_names[0]: 0.5}, {"head left": 10.0})
            shown = model.panel.picture(model.override, 24)
            assert isinstance(shown, np.ndarray) and not said, said
        finally:
            server.stop()

    def gltf(self) -> None:
        """The textured head."""
        from flame_nerf.commands.export_gltf import ExportGltf

        ExportGltf(self.path, self.folder / "head.glb", animation=True, size=32).run()

    def web(self) -> None:
        """The page."""
        from flame_nerf.avatar.export.web.config import WebConfig
        from flame_nerf.avatar.export.web.page import export_web

        small = WebConfig(layers=2, texture_size=64, bases=1, views=4, view_size=32, steps=4)
        export_web(self.pipeline(), self.folder / "head.html", small)


def summary(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """A typical step, and what any step but the first few waited for, which make what is made once."""
    late = steps[len(steps) // 3 :]
    waits, places, operators = Counter(), Counter(), Counter()
    for step in late:
        waits.update(step["waits"])
        places.update(step["places"])
        operators.update(step["operators"])
    launches = [step["launches"] for step in late]
    return {
        "steps": len(steps),
        "losses": [step["loss"] for step in steps],
        "launches of each": [step["launches"] for step in steps],
        "in graphs of each": [step["inside"] for step in steps],
        "launches": {"least": min(launches), "median": statistics.median(launches), "most": max(launches)},
        "megabytes": statistics.median(step["bytes"] for step in late) / 1e6,
        "waits a step": {name: count / len(late) for name, count in waits.most_common()},
        "launches a step by place": {name: round(count / len(late), 1) for name, count in places.most_common(40)},
        "launches a step by operator": {name: round(count / len(late), 1) for name, count in operators.most_common(25)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder to work in")
    parser.add_argument("--methods", nargs="+", default=[*METHODS, EVERYTHING, PLAIN, UNRECORDED])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--parts", nargs="*", help="leave out the others")
    parser.add_argument("--cpu-steps", type=int, help="also train on the CPU, twice before and once after")
    parser.add_argument("--result", type=Path, help="JSON file to write")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    subject = args.folder / "subject"
    if not subject.exists():
        subject_for(subject)
    from flame_nerf.refinement import track

    track.START_STEP = min(20, args.steps // 3)
    found: dict[str, Any] = {}
    on_cpu = [digest(subject, args.folder, args.cpu_steps) for _ in range(2)] if args.cpu_steps else []
    with pretended_gpu() as record:
        for method in args.methods:
            rehearsal = Rehearsal(method, subject, args.folder, args.steps, record)
            if args.parts is not None:
                rehearsal.parts = {name: rehearsal.parts[name] for name in args.parts if name in rehearsal.parts}
            parts = rehearsal.run()
            found[method] = {"parts": parts} | (summary(rehearsal.steps) if rehearsal.steps else {})
    if args.cpu_steps:
        found["cpu"] = {"runs": [*on_cpu, digest(subject, args.folder, args.cpu_steps)]}
    text = json.dumps(found, indent=1)
    print(text)
    if args.result:
        args.result.write_text(text)


if __name__ == "__main__":
    main()
