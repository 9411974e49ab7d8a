"""The field: where the expression enters, what learns, what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from nerfstudio.cameras.rays import Frustums, RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from one_thread import one_thread  # noqa: F401
from torch import Tensor

from flame_nerf.field import FieldConfig, FlameNerfField, fitted_to_pixels
from flame_nerf.render.compositing import render_packed

BOX = torch.tensor([[-0.15, -0.2, -0.1], [0.15, 0.2, 0.2]])
C = 7


def make_field(seed: int = 0, aware: bool = True, **changes) -> FlameNerfField:
    """A small field; `aware`: with expression weights as training leaves them, not the zeros they start from."""
    torch.manual_seed(seed)
    config = FieldConfig(**{"log2_hashmap_size": 12, "max_resolution": 64, "precision": "float32"} | changes)
    field = FlameNerfField(BOX, C, config)
    torch.nn.init.uniform_(field.grid.table, -0.5, 0.5)
    if aware:
        for name, parameter in field.named_parameters():
            if name.startswith("condition_"):
                torch.nn.init.normal_(parameter)
    return field


def make_query(n: int = 200, frames: int = 3, seed: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    points = BOX[0] + (BOX[1] - BOX[0]) * torch.rand(n, 3, generator=generator)
    directions = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=-1)
    condition = torch.rand(frames, C, generator=generator)
    return points, directions, condition, torch.randint(0, frames, (n,), generator=generator)


ARCHITECTURES = [
    {},
    {"modulate_features": False},
    {"condition_color": True, "color_layers": 2},
    {"density_layers": 2, "direction_degree": 0, "hidden_dim": 16},
    {"features_per_level": 4},
]


@pytest.mark.parametrize("changes", ARCHITECTURES)
def test_shapes_ranges_and_gradients(changes: dict) -> None:
    field = make_field(**changes)
    points, directions, condition, index = make_query()
    points.requires_grad_()
    condition.requires_grad_()
    sigma, rgb = field.canonical(points, directions, condition, index)
    assert sigma.shape == (200,) and rgb.shape == (200, 3)
    assert sigma.dtype == rgb.dtype == torch.float32
    assert (sigma >= 0).all() and (rgb > 0).all() and (rgb < 1).all()
    (sigma.log1p().sum() + (rgb * torch.rand(200, 3)).sum()).backward()
    for name, parameter in field.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert points.grad.abs().sum() > 0 and condition.grad.abs().sum() > 0


def test_expression_weights_leave_zero() -> None:
    field = make_field(aware=False)
    points, directions, condition, index = make_query()
    static = field.canonical(points, directions, condition, index)
    neutral = field.canonical(points, directions, torch.zeros_like(condition), index)
    assert torch.equal(static[0], neutral[0]) and torch.equal(static[1], neutral[1])
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-2, fused=True)
    for _ in range(3):
        _sigma, rgb = field.canonical(points, directions, condition, index)
        optimizer.zero_grad()
        (rgb - 0.2).square().mean().backward()
        optimizer.step()
    assert field.condition_shift.weight.abs().sum() > 0 and field.condition_scale.weight.abs().sum() > 0
    moved = field.canonical(points, directions, condition, index)[1]
    assert not torch.allclose(moved, field.canonical(points, directions, condition * 0, index)[1])


@pytest.mark.parametrize("changes", ARCHITECTURES)
def test_static_field_ignores_any_expression(changes: dict) -> None:
    field = make_field(use_expression=False, **changes)
    points, directions, condition, index = make_query()
    expected = field.canonical(points, directions, torch.zeros_like(condition), index)
    for other in (condition, condition * -50.0):
        actual = field.canonical(points, directions, other, index)
        assert torch.equal(actual[0], expected[0]) and torch.equal(actual[1], expected[1])


@pytest.mark.parametrize("changes", ARCHITECTURES)
def test_each_point_follows_its_own_frame(changes: dict) -> None:
    field = make_field(**changes)
    points, directions, condition, index = make_query()
    sigma, rgb = field.canonical(points, directions, condition, index)
    for frame in range(3):
        own = index == frame
        one = field.canonical(points[own], directions[own], condition[frame : frame + 1], torch.zeros_like(index[own]))
        torch.testing.assert_close(sigma[own], one[0])
        torch.testing.assert_close(rgb[own], one[1])
    shuffled = field.canonical(points, directions, condition, (index + 1) % 3)
    assert not torch.allclose(shuffled[1], rgb)


def test_nothing_outside_the_box() -> None:
    field = make_field()
    points, directions, condition, index = make_query(6)
    points[:3] = BOX[1] + torch.eye(3) * 0.05
    points[3:] = BOX[0] - torch.eye(3) * 0.05
    sigma, rgb = field.canonical(points, directions, condition, index)
    assert (sigma == 0).all() and rgb.isfinite().all()


def test_directions_matter_only_where_asked() -> None:
    points, directions, condition, index = make_query()
    for degree in (0, 1, 2, 3):
        field = make_field(direction_degree=degree)
        sigma, rgb = field.canonical(points, directions, condition, index)
        turned = field.canonical(points, -directions, condition, index)
        assert torch.equal(sigma, turned[0])
        assert torch.equal(rgb, turned[1]) == (degree == 0)


def test_it_starts_as_thin_haze() -> None:
    torch.manual_seed(0)
    field = FlameNerfField(BOX, C, FieldConfig())
    points, directions, condition, index = make_query(2000)
    with torch.no_grad():
        sigma, _ = field.canonical(points, directions, condition, index)
    # Through 3 cm of shell: neither empty nor fog.
    opacity = 1 - torch.exp(-sigma * 0.03)
    assert 0.05 < opacity.mean() < 0.6 and opacity.max() < 0.8


def test_density_neither_overflows_nor_goes_dead() -> None:
    field = make_field()
    points, directions, condition, index = make_query(10)
    with torch.no_grad():
        field.density_network[-1].bias[0] = 1e4
    sigma, _ = field.canonical(points, directions, condition, index)
    assert sigma.isfinite().all() and (sigma > 1e6).all()
    sigma.sum().backward()
    gradient = field.density_network[-1].bias.grad[0]
    assert gradient.isfinite() and gradient > 0


def test_nerfstudio_reads_the_neutral_face() -> None:
    field = make_field(condition_color=True)
    points, directions, _condition, index = make_query(12)
    samples = RaySamples(
        Frustums(
            points.view(4, 3, 3),
            directions.view(4, 3, 3),
            torch.zeros(4, 3, 1),
            torch.zeros(4, 3, 1),
            torch.ones(4, 3, 1),
        )
    )
    out = field(samples)
    sigma, rgb = field.canonical(points, directions, torch.zeros(1, C), torch.zeros_like(index))
    torch.testing.assert_close(out[FieldHeadNames.DENSITY], sigma.view(4, 3, 1))
    torch.testing.assert_close(out[FieldHeadNames.RGB], rgb.view(4, 3, 3))
    torch.testing.assert_close(field.density_fn(points.view(4, 3, 3)), sigma.view(4, 3, 1))


def test_same_seed_same_field_and_state_round_trip(tmp_path) -> None:
    query = make_query()
    first, second, other = make_field(3), make_field(3), make_field(4)
    expected = first.canonical(*query)
    assert torch.equal(second.canonical(*query)[1], expected[1])
    assert not torch.equal(other.canonical(*query)[1], expected[1])
    torch.save(first.state_dict(), tmp_path / "field.pt")
    other.load_state_dict(torch.load(tmp_path / "field.pt", weights_only=True))
    actual = other.canonical(*query)
    assert torch.equal(actual[0], expected[0]) and torch.equal(actual[1], expected[1])


def test_parameter_groups_cover_everything_once() -> None:
    field = make_field(condition_color=True)
    grouped = [p for group in field.get_param_groups().values() for p in group]
    assert len(grouped) == len(set(map(id, grouped))) == len(list(field.parameters()))


@pytest.mark.parametrize("compiled", [True, False])
def test_held_networks_leave_the_gradient_to_the_grid(compiled: bool) -> None:
    field = make_field(compiled=compiled)
    query = make_query()
    sum(values.sum() for values in field.canonical(*query)).backward()
    free = field.grid.table.grad.clone()
    field.zero_grad()
    with field.networks_held():
        evaluated = field.canonical(*query)
    sum(values.sum() for values in evaluated).backward()
    assert torch.equal(field.grid.table.grad, free) and free.abs().max() > 0
    networks = field.get_param_groups()["network"]
    assert all(parameter.grad is None for parameter in networks)
    with pytest.raises(RuntimeError, match="in the block"), field.networks_held():
        raise RuntimeError("in the block")
    assert all(parameter.requires_grad for parameter in networks)


def test_bfloat16_is_close() -> None:
    exact, rough = make_field(aware=False), make_field(aware=False, precision="bfloat16")
    results = []
    for field in (exact, rough):
        sigma, rgb = field.canonical(*make_query())
        assert sigma.dtype == rgb.dtype == torch.float32
        rgb.square().sum().backward()
        results.append((sigma.log(), rgb, field.grid.table.grad))
    for expected, actual in zip(*results, strict=True):
        error = (actual - expected).abs().max()
        assert 0 < error < 0.03 * expected.abs().max().clamp(min=1.0)


def test_no_points() -> None:
    field = make_field()
    points, directions, condition, index = make_query(0)
    sigma, rgb = field.canonical(points, directions, condition, index)
    assert sigma.shape == (0,) and rgb.shape == (0, 3)
    (sigma.sum() + rgb.sum()).backward()


@pytest.mark.parametrize("box", [torch.zeros(2, 3), BOX.flip(0), torch.zeros(3, 2), BOX * math.nan])
def test_boxes_without_volume_are_refused(box: Tensor) -> None:
    with pytest.raises(ValueError, match="canonical box"):
        FlameNerfField(box, C, FieldConfig())


@pytest.mark.parametrize(
    ("pixels_per_cell", "pixel_size", "resolution"),
    [
        (0.0, 0.002, 512),
        # The box is 0.4 m along its longest side.
        (1.0, 0.002, 200),
        (2.0, 0.002, 100),
        (1.0, 0.0001, 512),
        (1.0, 0.1, 16),
    ],
)
def test_cells_are_no_narrower_than_pixels(pixels_per_cell: float, pixel_size: float, resolution: int) -> None:
    config = FieldConfig(max_resolution=512, pixels_per_cell=pixels_per_cell)
    assert fitted_to_pixels(config, BOX, pixel_size).max_resolution == resolution


def test_networks_without_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden layer"):
        make_field(density_layers=0)


def test_learns_a_look_that_follows_the_expression() -> None:
    """A wall whose stripes appear with the first expression value: what wrinkles and teeth ask of the field."""
    field = make_field(aware=False)
    torch.nn.init.uniform_(field.grid.table, -1e-4, 1e-4)
    groups = field.get_param_groups()
    optimizer = torch.optim.Adam(
        [{"params": groups["encoding"], "lr": 2e-2}, {"params": groups["network"], "lr": 5e-3}], eps=1e-15, fused=True
    )
    generator = torch.Generator().manual_seed(0)
    step, n_rays, n = 0.002, 256, 10
    offsets = torch.arange(n_rays + 1) * n
    ray_index = torch.arange(n_rays).repeat_interleave(n)

    def loss() -> Tensor:
        xy = (torch.rand(n_rays, 2, generator=generator) - 0.5) * 0.2
        t = 0.2 + step * (torch.arange(n) + torch.rand(n_rays, 1, generator=generator)).flatten()
        condition = torch.zeros(4, C)
        condition[:, 0] = torch.rand(4, generator=generator)
        frame = torch.arange(n_rays) % 4
        stripes = (xy[:, 1] * 300).sin() * condition[frame, 0] * 0.4
        target = (0.5 + stripes[:, None]).expand(-1, 3)
        directions = torch.tensor([0.0, 0.0, -1.0]).expand(len(t), -1)
        points = torch.cat([xy[ray_index], 0.25 - t[:, None]], dim=-1)

        class Packed:
            t_start, t_end = t - step / 2, t + step / 2

        Packed.ray_index, Packed.offsets = ray_index, offsets
        sigma, rgb = field.canonical(points, directions, condition, frame[ray_index])
        background = torch.rand(n_rays, 3, generator=generator)
        return (render_packed(sigma, rgb, Packed, n_rays, background).rgb - target).square().mean()

    for _ in range(300):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
    with torch.no_grad():
        error = torch.stack([loss() for _ in range(10)]).mean().item()
    # The best static wall leaves the stripes' variance over the expression: 0.4² · ½ · Var[U(0,1)] = 0.0067.
    assert error < 0.0022
