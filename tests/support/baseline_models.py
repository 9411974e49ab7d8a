"""A method's model on a subject, as the pipeline builds it."""

from __future__ import annotations

import dataclasses

import torch

from flame_nerf.dataparser import FlameNerfDataParserConfig


def build(root, spec, **model):
    """A method's model on a subject, as the pipeline builds it."""
    outputs = FlameNerfDataParserConfig(data=root).setup().get_dataparser_outputs("train")
    config = dataclasses.replace(spec.config.pipeline.model, **model)
    torch.manual_seed(0)
    built = config.setup(
        scene_box=outputs.scene_box,
        num_train_data=len(outputs.image_filenames),
        metadata=outputs.metadata,
        device="cpu",
        grad_scaler=None,
    )
    return built, outputs
