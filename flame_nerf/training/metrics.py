"""How like the truth a rendered picture is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from nerfstudio.utils import colormaps
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from flame_nerf.runtime.words import escape
from flame_nerf.subject import Subject


def image_metrics(
    rgb: Float[Tensor, "H W 3"],
    truth: Float[Tensor, "H W 3"],
    matte: Float[Tensor, "H W 1"],
    boxes: Int[Tensor, "3 4"],
    chin_row: int,
) -> dict[str, float]:
    """PSNR of the picture, inside the matte, inside it above the chin, and in the mouth's box; SSIM. Colours in 0..1.

    Args:
        matte: soft mask; inside is above one half.
        boxes: x0, y0, x1, y1 of mouth, right eye, left eye; an empty box leaves its metric out.
        chin_row: first row below the chin.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    rgb = rgb.clamp(0, 1)
    everywhere = torch.ones_like(matte[..., 0], dtype=torch.bool)
    inside = matte[..., 0] > 0.5
    pair = [picture.moveaxis(-1, 0)[None] for picture in (rgb, truth)]
    metrics = {
        "psnr": psnr(rgb, truth, everywhere),
        "ssim": float(structural_similarity_index_measure(*pair, data_range=1.0)),
    }
    above_chin = inside.clone()
    above_chin[chin_row:] = False
    x0, y0, x1, y1 = boxes[0].tolist()
    mouth = torch.zeros_like(inside)
    mouth[y0:y1, x0:x1] = True
    parts = {"psnr_matte": inside, "psnr_head": above_chin, "psnr_mouth": mouth}
    metrics.update({name: psnr(rgb, truth, where) for name, where in parts.items() if where.any()})
    return metrics


def psnr(rgb: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"], where: Bool[Tensor, "H W"]) -> float:
    """Peak signal-to-noise ratio in dB of the chosen pixels; 100 at most, which equal pictures get."""
    error = (rgb[where] - truth[where]).square().mean()
    return float(-10 * error.clamp_min(1e-10).log10())


class ImageMetrics:
    """Metrics of whole rendered pictures, and the pictures to look at."""

    def __init__(self, subject: Subject, lpips: bool):
        """
        Args:
            subject: whose pictures are compared with.
            lpips: also report LPIPS.
        """
        self._subject = subject
        self._lpips = LazyLPIPS() if lpips else None

    def __call__(
        self, outputs: dict[str, Tensor], batch: dict[str, Any], device: torch.device
    ) -> tuple[dict[str, float], dict[str, Float[Tensor, "H W2 3"]]]:
        """Metrics by name, and pictures by name: the truth beside the rendered one, opacity and depth in colours.

        Args:
            outputs: rgb [H, W, 3], accumulation [H, W, 1] and depth [H, W, 1].
            batch: image [H, W, 3], mask [H, W, 1], boxes [3, 4] and chin_row of the same picture.
            device: where to compute.

        Raises:
            SystemExit: with the message alone: the subject came without its pictures.
        """
        if self._subject.pictures_left_out:
            # Nerfstudio's ns-eval has no word for it, and shows whatever else is raised with a traceback.
            raise SystemExit(
                f"{self._subject.root}: its pictures were left out when the avatar was packed, so there is nothing to "
                "compare with. Evaluate the run that it was packed from."
            )
        truth, rgb = batch["image"].to(device), outputs["rgb"].to(device)
        accumulation, depth = outputs["accumulation"].to(device), outputs["depth"].to(device)
        metrics = image_metrics(rgb, truth, batch["mask"].to(device), batch["boxes"], batch["chin_row"])
        if self._lpips is not None:
            metrics.update(self._lpips(rgb, truth))
        images = {
            "img": torch.cat([truth, rgb], dim=1),
            "accumulation": colormaps.apply_colormap(accumulation),
            "depth": colormaps.apply_depth_colormap(depth, accumulation=accumulation),
        }
        return metrics, images


class LazyLPIPS:
    """LPIPS, whose network is downloaded at its first use; without it, one message and no metric."""

    def __init__(self) -> None:
        self._network: Callable | None = None
        self._is_missing = False

    def __call__(self, rgb: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> dict[str, float]:
        """The metric under its name, or nothing. Colours in 0..1."""
        if self._network is None and not self._is_missing:
            self._load(rgb.device)
        if self._network is None:
            return {}
        pair = [picture.moveaxis(-1, 0)[None].clamp(0, 1) for picture in (rgb, truth)]
        return {"lpips": float(self._network(*pair))}

    def _load(self, device: torch.device) -> None:
        try:
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

            self._network = LearnedPerceptualImagePatchSimilarity(normalize=True).to(device)
        except Exception as error:  # whatever the download or the optional package fails with
            self._is_missing = True
            CONSOLE.log(f"[yellow]LPIPS is left out: its network could not be loaded ({escape(error)}).")
