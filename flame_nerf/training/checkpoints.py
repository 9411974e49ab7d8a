"""Checkpoints of a run: which there are, what is in one, and whether it can be used."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flame_nerf.runtime.errors import AvatarError

if TYPE_CHECKING:
    import torch

NAMES = "step-*.ckpt"
KEPT = 2
"""Checkpoints that training keeps: should the last one be damaged, there is the one before."""


def checkpoints_in(folder: Path) -> list[Path]:
    """A folder's checkpoints, that of the highest step last; empty where there are none."""
    found = [path for path in folder.glob(NAMES) if re.fullmatch(r"step-\d+\.ckpt", path.name)]
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """Training step in a checkpoint's name."""
    return int(path.stem.removeprefix("step-"))


def read_checkpoint(path: Path) -> tuple[int, dict[str, torch.Tensor]]:
    """Step and state of a checkpoint; nothing but tensors and plain values is ever made from it.

    Raises:
        AvatarError: it is damaged, not a checkpoint, or holds what is no number.
    """
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        step, state = loaded["step"], loaded["pipeline"]
        if not isinstance(step, int) or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise ValueError("it holds other things than a step and tensors")
        bad = not_finite(state.items())
        if bad is not None:
            raise ValueError(f"{bad} is not a number everywhere")
    except Exception as error:  # noqa: BLE001 -- torch raises many kinds for a damaged file
        # Of a file that ends too soon torch says that its own zip reader has an internal error.
        reason = "cut short or damaged" if "PytorchStreamReader" in str(error) else first_line(error)
        raise AvatarError(f"{path}: no usable checkpoint ({reason}); copy it again, or train") from None
    return step, state


def newest_usable(folder: Path) -> Path:
    """The last checkpoint that can be read; says which later ones cannot, and why.

    Raises:
        AvatarError: the folder is not there, has no checkpoint, or none that can be used.
    """
    found = checkpoints_in(folder)
    if not found:
        there = "holds no step-*.ckpt" if folder.is_dir() else "is not there"
        raise AvatarError(f"{folder} {there}; give the folder of checkpoints that ns-train wrote (nerfstudio_models)")
    problems = []
    for path in reversed(found):
        try:
            read_checkpoint(path)
        except AvatarError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            print(f"{problem}. Taken instead: {path.name}")
        return path
    raise AvatarError(problems[0] if len(problems) == 1 else f"{problems[0]}. Nor are those before it usable")


def not_finite(tensors: Iterable[tuple[str, torch.Tensor]]) -> str | None:
    """Name of the first tensor that holds NaN; None where there is none.

    Infinity is a value that some may have: of a cell that no ray has visited, the density is unknown.
    """
    for name, tensor in tensors:
        if tensor.is_floating_point() and bool(tensor.isnan().any()):
            return name
    return None


def refuse_missing(module: Any, incompatible: Any) -> None:
    """Hook after a module's state is loaded: a checkpoint must bring all that is learned.

    Raises:
        SystemExit: with the first names that it lacks, which is what a user of any command should see.
    """
    # A pipeline loads its model first and then, without strictness, what is its own beside it: its names for the
    # model's tensors begin with this.
    missing = [name for name in incompatible.missing_keys if not name.startswith("_model.")]
    if missing:
        names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise SystemExit(
            f"The checkpoint lacks {names}: it is of another config or another version. Use the config.yml that it "
            "was trained with, or train again."
        )


def first_line(error: BaseException) -> str:
    """What an error says, at most 200 characters of it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
