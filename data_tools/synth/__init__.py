"""A synthetic person filmed by a known camera: a subject of which everything is exact, to train on and to measure with.

The person is the shipped open head at a random identity, with skin, brows, lashes, lips, irises and centimetres of hair
(which is no part of the head mesh, as in real life), in soft light, talking, grimacing and turning. `SUBJECT/` holds
three films, each a subject of its own that `load_subject` reads and any Nerfstudio method renders:

    SUBJECT/                   what training may see: one camera that stands still, the head turns before it
      transforms.json head.npz images/ masks/
      background.png           the backdrop without the person
      film.mp4                 the same frames as an ordinary video, for the tracker
      truth/depth/             exact depth of every frame
      novel_view/              moments of the training film from twelve other cameras: yaw +-15 ... +-75, pitch +-20
      novel_expression/        the training camera's view of expressions that training never shows
        each: transforms.json head.npz images/ masks/ truth/depth/

- Stabilised: world = head frame; cameras, mesh, expression and pose are those that the pictures were made with. Every
  frame has a track row of its own. Landmarks are the projections of the true points, hidden ones too.
- Masks cover head, hair, and the neck down to the collar plane. An image holds the head's own colour wherever its mask
  is not zero, so `image * mask + c * (1 - mask)` is exactly the head in front of a backdrop of colour c. (Seen by
  itself it has hard edges; film.mp4 has soft ones.)
- Depth: 16-bit PNG, metres along the optical axis in steps of `DEPTH_UNIT`, 0 where a pixel's centre shows no head;
  read it with `load_depth`. It is no training input: `depths/` stays empty, for a monocular prior.
- `Subject.extra["synth"]` tells options and, in "frames", for each frame in order: "depth" (path below the folder),
  "yaw_deg" and "pitch_deg" (where the camera stands around the head, as `camera_around` counts: positive is the
  subject's left and above), "camera" (name), "moment" (training frame of the same moment, or null), "expression" (name
  in novel_expression, else null). "target" is the point of the head frame that angles are counted around.
- The last tenth of the training film is its test split; the other films are all test.
"""

from data_tools.synth.config import SynthConfig, SynthError, SynthSummary

__all__ = ["DEPTH_UNIT", "NOVEL", "SynthConfig", "SynthError", "SynthSummary", "load_depth", "synthesise"]

_HOMES = {"DEPTH_UNIT": "render", "NOVEL": "performance", "load_depth": "films", "synthesise": "films"}


def __getattr__(name: str):
    # Rendering brings torch and the head model along: asking for --help should not.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"data_tools.synth.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
