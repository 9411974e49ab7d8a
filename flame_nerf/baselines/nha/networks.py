"""The two networks of a neural head avatar: where the surface is, and what colour it has."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import relu
from tyro.conf import Fixed

from flame_nerf.runtime.old_runs import StoredConfig

POSITION_FREQUENCIES = 6
"""Octaves of the positional encoding of a vertex; the longest period is four times the head's half size."""
HALF_SIZE = 0.15
"""Metres of the canonical head that count as 1 in both networks."""

FIRST_PRESENCE, PRESENCE_GAIN = 0.04, 50.0
"""Before training a vertex of the neck is there by sigmoid(0.04 * 50) = 0.88; steps of its own learning rate, a
thousandth, then take it away within some fifty of them."""


@dataclass
class NhaFieldConfig(StoredConfig):
    """Sizes of the networks."""

    geometry_dim: Fixed[int] = 64
    """Width of the network that moves vertices. Wider follows finer movement, and a step takes longer."""
    geometry_layers: Fixed[int] = 3
    """Its hidden layers."""
    texture_dim: Fixed[int] = 256
    """Width of the network that colours the surface. Wider is sharper, and a step takes longer by its square."""
    texture_layers: Fixed[int] = 4
    """Its hidden layers. More are sharper, and a step takes longer in proportion."""
    texture_frequency: Fixed[float] = 80.0
    """Factor before the first sine (SIREN has 30 for pictures from -1 to 1). Larger learns finer detail sooner; too
    large, the surface turns to noise where training saw little of it."""
    use_expression: Fixed[bool] = True
    """Condition both networks on the expression. Without, only the tracked mesh and the latent code change."""


class GeometryNetwork(nn.Module):
    """(vertex, condition) -> offset from the tracked mesh."""

    encoded: Float[Tensor, "V P"]
    limit: Float[Tensor, "V 1"]

    def __init__(
        self, vertices: Float[Tensor, "V 3"], limit: Float[Tensor, " V"], condition_dim: int, config: NhaFieldConfig
    ):
        """
        Args:
            vertices: of the canonical head, metres.
            limit: length that no offset's component exceeds, metres.
            condition_dim: C, length of a moment's expression and pose.
            config: see there.
        """
        super().__init__()
        centre = 0.5 * (vertices.amin(dim=0) + vertices.amax(dim=0))
        unit = (vertices - centre) / HALF_SIZE
        angles = torch.cat([unit * (math.pi / 2 * 2.0**octave) for octave in range(POSITION_FREQUENCIES)], dim=1)
        self.register_buffer("encoded", torch.cat([unit, angles.sin(), angles.cos()], dim=1), persistent=False)
        self.register_buffer("limit", limit[:, None], persistent=False)
        width = config.geometry_dim
        self.position = nn.Linear(self.encoded.shape[1], width)
        self.condition = _conditioned(condition_dim, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(config.geometry_layers - 1))
        self.out = nn.Linear(width, 3)
        # Training begins with the mesh as it was tracked.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, condition: Float[Tensor, "B C"]) -> Float[Tensor, "B V 3"]:
        """Offsets of all vertices, metres, canonical head. Differentiable."""
        hidden = self.position(self.encoded)[None]
        hidden = relu(hidden + self.condition(condition)[:, None])
        for layer in self.hidden:
            hidden = relu(layer(hidden))
        return self.limit * torch.tanh(self.out(hidden))


class TextureNetwork(nn.Module):
    """(place on the canonical head, normal, direction, condition) -> colour, with sines for activations (SIREN)."""

    centre: Float[Tensor, " 3"]

    def __init__(self, centre: Float[Tensor, " 3"], condition_dim: int, config: NhaFieldConfig):
        """
        Args:
            centre: of the canonical head, metres.
            condition_dim: D, length of a moment's condition with its latent code.
            config: see there.
        """
        super().__init__()
        width, layers = config.texture_dim, config.texture_layers
        self.frequency = config.texture_frequency
        self.register_buffer("centre", centre, persistent=False)
        self.position = nn.Linear(3, width)
        hidden = [nn.Linear(width, width) for _ in range(layers - 1)]
        self.hidden = nn.ModuleList(hidden)
        self.condition = _conditioned(condition_dim, width * (layers - 1))
        self.light = nn.Linear(6, width * (layers - 1), bias=False)
        self.out = nn.Linear(width, 3)
        with torch.no_grad():
            self.position.weight.uniform_(-1 / 3, 1 / 3)
            for layer in hidden:
                bound = math.sqrt(6 / width)
                layer.weight.uniform_(-bound, bound)
            bound = math.sqrt(6 / width) / 3
            self.out.weight.uniform_(-bound, bound)
            self.light.weight.uniform_(-0.3, 0.3)

    def forward(
        self,
        places: Float[Tensor, "N 3"],
        normals: Float[Tensor, "N 3"],
        directions: Float[Tensor, "N 3"],
        condition: Float[Tensor, "B D"],
        which: Int[Tensor, " N"],
    ) -> Float[Tensor, "N 3"]:
        """Colours in 0..1. Differentiable in everything.

        Args:
            places: on the canonical head, metres.
            normals: of the posed surface, unit length.
            directions: in which it is looked at, unit length.
            condition: of the moments.
            which: moment of each place.
        """
        told = self.condition(condition).index_select(0, which) + self.light(torch.cat([normals, directions], dim=1))
        phases = told.chunk(len(self.hidden), dim=1) if len(self.hidden) else ()
        hidden = torch.sin(self.frequency * self.position((places - self.centre) / HALF_SIZE))
        for layer, phase in zip(self.hidden, phases, strict=True):
            hidden = torch.sin(layer(hidden) + phase)
        return torch.sigmoid(self.out(hidden))


class NhaField(nn.Module):
    """Both networks, and where the mesh ends.

    The paper's mesh ends at the neck. A head with shoulders is cut along the collar by the matte, wherever that is:
    each vertex of the neck learns whether it is there.
    """

    neck: Int[Tensor, " K"]

    def __init__(self, geometry: GeometryNetwork, texture: TextureNetwork, neck: Bool[Tensor, " V"]):
        super().__init__()
        self.geometry, self.texture = geometry, texture
        self.register_buffer("neck", neck.nonzero()[:, 0], persistent=False)
        self.presence = nn.Parameter(torch.full((int(neck.sum()),), FIRST_PRESENCE))

    def opacity(self) -> Float[Tensor, "V 1"]:
        """Opacity at each vertex: 1 but for the neck's. Differentiable."""
        ones = torch.ones(len(self.geometry.encoded), device=self.presence.device)
        return ones.index_copy(0, self.neck, torch.sigmoid(PRESENCE_GAIN * self.presence))[:, None]

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """`geometry`, and the texture's as `network`."""
        geometry = [*self.geometry.parameters(), self.presence]
        return {"network": list(self.texture.parameters()), "geometry": geometry}


class _Nothing(nn.Module):
    """In place of a layer on a condition of length 0."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, condition: Float[Tensor, "B 0"]) -> Float[Tensor, "B W"]:
        return condition.new_zeros(len(condition), self.width)


def _conditioned(condition_dim: int, width: int) -> nn.Module:
    """A layer on a moment's condition, which heads without expressions and joints have not."""
    if condition_dim == 0:
        return _Nothing(width)
    layer = nn.Linear(condition_dim, width, bias=False)
    nn.init.uniform_(layer.weight, -0.1, 0.1)
    return layer
