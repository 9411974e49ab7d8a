"""Terms that render views of their own: which are prepared, and which a step has."""

import dataclasses

import pytest
import torch
from synthetic import make_subject

from flame_nerf.data.dataset import FlameNerfDataset
from flame_nerf.dataparser import FlameNerfDataParserConfig
from flame_nerf.losses.semantic import SemanticTermConfig
from flame_nerf.losses.unseen_views import UnseenViewsConfig
from flame_nerf.losses.view_terms import view_terms, wanted_terms
from flame_nerf.losses.weights import LossWeights


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    root = make_subject(tmp_path_factory.mktemp("views") / "subject", size=48, count=8).root
    return FlameNerfDataParserConfig(data=root, split="all").setup().get_dataparser_outputs("train")


@pytest.mark.parametrize(
    "unseen, semantic, shell, masks, encoder, expected",
    [
        (0.2, 0.0, True, True, True, {"unseen_loss"}),
        (0.2, 0.1, True, True, True, {"unseen_loss", "semantic_loss"}),
        (0.2, 0.1, True, True, False, {"unseen_loss"}),
        (0.0, 0.1, False, True, True, {"semantic_loss"}),
        (0.0, 0.0, True, True, True, set()),
        (0.2, 0.0, False, True, True, set()),
        (0.2, 0.0, True, False, True, set()),
    ],
)
def test_terms_with_a_weight_and_what_they_need(
    outputs, monkeypatch, unseen, semantic, shell, masks, encoder, expected
):
    if encoder:
        monkeypatch.setattr("flame_nerf.losses.semantic.load_image_encoder", lambda *options: object())
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    subject = outputs.metadata["subject"]
    if not masks:
        subject = dataclasses.replace(
            subject, frames=[dataclasses.replace(frame, mask_path=None) for frame in subject.frames]
        )
    terms = view_terms(
        SemanticTermConfig(),
        UnseenViewsConfig(size=6),
        LossWeights(unseen_loss=unseen, semantic_loss=semantic),
        subject,
        outputs.metadata["frames"],
        FlameNerfDataset(outputs),
        torch.ones(3),
        torch.full((len(subject.track.faces),), 0.02) if shell else None,
    )
    assert set(terms) == expected


def test_a_step_has_the_terms_that_want_it():
    asked = []

    class Every:
        def __init__(self, steps: int):
            self.steps = steps

        def wanted(self, step: int) -> bool:
            return step % self.steps == 0

        def loss(self, c2w, render):
            asked.append((self.steps, c2w, render))
            return torch.tensor(float(self.steps))

    terms = {"twos": Every(2), "threes": Every(3)}
    found = [set(wanted_terms(terms, step, "cameras", "render")) for step in range(4)]
    assert found == [{"twos", "threes"}, set(), {"twos"}, {"threes"}] and not asked, (
        "nothing is computed before its time"
    )
    assert float(wanted_terms(terms, 3, "cameras", "render")["threes"]()) == 3.0
    assert asked == [(3, "cameras", "render")]
