"""Outputs of a picture that are computed when they are looked at."""

import torch

from flame_nerf.render.renderer import Renderer
from flame_nerf.render.step_rays import StepRays
from flame_nerf.render.surface_outputs import Outputs, region_colours, surface_outputs


class Wall(Renderer):
    """A renderer whose surface is the plane z = 0, in the box from -1 to 1."""

    def __init__(self):
        super().__init__()
        self.looked = []

    @property
    def shell(self):
        return torch.ones(2)

    def normals(self, rays, depth):
        self.looked.append("normals")
        return torch.tensor([0.0, 0.0, 1.0]).expand(len(rays), 3)

    def canonical_position(self, rays, depth):
        self.looked.append("canonical_position")
        return 0.5 + 0.5 * (rays.origins + depth * rays.directions)

    def region(self, rays, depth):
        self.looked.append("region")
        return (rays.origins[:, 0] > 0).long()


def rays() -> StepRays:
    origins = torch.tensor([[-0.5, 0.0, 2.0], [0.5, 0.0, 2.0]])
    return StepRays(None, torch.zeros(2, dtype=torch.long), origins, torch.tensor([[0.0, 0.0, -1.0]] * 2))


def test_only_what_is_looked_at_is_computed_and_once():
    wall = Wall()
    hit = {"depth": torch.full((2, 1), 2.0), "accumulation": torch.tensor([[1.0], [0.0]])}
    picture = Outputs({"rgb": torch.ones(1, 2, 3)} | surface_outputs(wall, rays(), hit, (1, 2)))
    assert list(picture) == ["rgb", "normals", "canonical_position", "region"] and not wall.looked
    for _ in range(2):
        torch.testing.assert_close(picture["canonical_position"], torch.tensor([[[0.25, 0.5, 0.5], [0.0, 0.0, 0.0]]]))
    assert wall.looked == ["canonical_position"], "black where nothing is hit"
    assert all(isinstance(value, torch.Tensor) for _, value in picture.items())
    torch.testing.assert_close(picture.get("normals")[0, 0], torch.tensor([0.5, 0.5, 1.0]))
    assert picture.get("nothing") is None and picture["region"].shape == (1, 2, 3)


def test_a_method_without_a_mesh_has_no_surface():
    assert surface_outputs(Renderer(), rays(), {}, (1, 2)) == {}


def test_regions_have_colours_that_differ():
    colours = region_colours(torch.arange(12))
    apart = torch.cdist(colours, colours) + torch.eye(12)
    assert float(apart.min()) > 0.05 and float(colours.min()) >= 0 and float(colours.max()) <= 1
