"""CutMix by attention: which cells are pasted, what a class token looks at, and what the labels are."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.video.mvit import MultiscaleAttention, _add_rel_pos

from dfer.mixing.attention import attention_of, attentive_cutmix, class_token_attention, transmix
from dfer.mixing.cutmix import cutmix
from dfer.models import build

B, T, SIDE = 4, 2, 28
CLIPS = torch.randint(0, 256, (B, T, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered() -> torch.Tensor:
    """Clips whose pixels are their number."""
    return torch.arange(B, dtype=torch.uint8).view(-1, 1, 1, 1, 1).expand(-1, T, 3, SIDE, SIDE)


def test_the_most_attended_eighth_of_the_other_clip_is_pasted() -> None:
    attention = torch.rand(B, 7, 7, generator=seeded(3))
    mixed, shares = attentive_cutmix(numbered(), torch.eye(B), attention=attention, generator=seeded())
    for clip in range(B):
        pasted = mixed[clip] != clip
        partner = int(mixed[clip][pasted].unique())
        cells = (pasted[0, 0].float().view(7, 4, 7, 4).mean(dim=(1, 3)) > 0.5).flatten()
        assert set(cells.nonzero().flatten().tolist()) == set(attention[partner].flatten().topk(6).indices.tolist())
        assert (pasted == pasted[:1, :1]).all()
        assert shares[clip, partner] == pytest.approx(6 / 49)
        assert shares[clip, clip] == pytest.approx(43 / 49)


def test_attention_is_the_last_map_s_and_leaves_the_network_as_it_was() -> None:
    network = build("resnet18_tsm", num_classes=7, num_segments=T, width=0.125, dropout=0.0).train()
    network.layer2.eval()  # as a frozen part
    before = {name: value.clone() for name, value in network.state_dict().items()}
    clips = torch.randn(B, T, 3, 64, 64, generator=seeded())
    got = attention_of(network, "layer4", clips)
    assert got.shape == (B, 2, 2)
    assert not got.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training
    assert not network.layer2.training
    assert network.layer3.training
    network.eval()
    x = network.layer1(network.maxpool(network.relu(network.bn1(network.conv1(clips.flatten(0, 1))))))
    maps = network.layer4(network.layer3(network.layer2(x))).unflatten(0, (B, T))
    torch.testing.assert_close(got, maps.mean(dim=(1, 2)))


@pytest.mark.parametrize("name", ["r3d_18", "resnet18_gru"])
def test_maps_with_and_without_a_time_axis(name: str) -> None:
    network = build(name, num_classes=7, num_segments=8, width=0.125, dropout=0.0)
    assert attention_of(network, "layer4", torch.randn(2, 8, 3, 48, 48)).shape[0] == 2


def test_the_class_token_s_attention_is_that_of_torchvision() -> None:
    torch.manual_seed(0)
    module = MultiscaleAttention(
        [2, 8, 8], 16, 16, 2, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 2, 2], True, False, True
    ).eval()
    tokens, grid = torch.randn(3, 1 + 2 * 8 * 8, 16), (2, 8, 8)
    heads = module.qkv(tokens).reshape(3, -1, 3, 2, 8).transpose(1, 3)
    q, k, _ = heads.unbind(dim=2)
    q, q_grid = module.pool_q(q, grid)
    k, k_grid = module.pool_k(k, grid)
    scores = _add_rel_pos(
        module.scaler * q @ k.transpose(2, 3), q, q_grid, k_grid, module.rel_pos_h, module.rel_pos_w, module.rel_pos_t
    )
    expected = scores.softmax(dim=-1)[:, :, 0, 1:].mean(dim=1).view(3, 2, 4, 4).sum(dim=1)
    torch.testing.assert_close(class_token_attention(module, tokens, grid), expected)


def test_labels_are_halfway_between_pixels_and_attention() -> None:
    mixed, draw = transmix(CLIPS, alpha=1.0, generator=seeded(5))
    inside = torch.Generator().manual_seed(int(torch.randint(2**63 - 1, (), generator=seeded(5))))
    expected, shares = cutmix(CLIPS, torch.eye(B), alpha=1.0, generator=inside)
    assert torch.equal(mixed, expected)
    assert torch.equal(draw.shares, shares)
    other = 1 - shares.diagonal()
    torch.testing.assert_close(draw.pasted.mean(dim=(1, 2)), other)
    attention = torch.rand(B, SIDE, SIDE, generator=seeded())
    draw._attention.append(attention)
    seen = (attention * draw.pasted).sum(dim=(1, 2)) / attention.sum(dim=(1, 2))
    got = draw.counted()
    torch.testing.assert_close(got.sum(dim=1), torch.ones(B))
    torch.testing.assert_close(1 - got.diagonal(), torch.where(other > 0, (other + seen) / 2, 0))
    assert ((got > 0) == (shares > 0)).all()


def test_the_network_is_listened_to() -> None:
    network = build("mvit_v2_s", num_classes=7, num_segments=4, width=0.125, dropout=0.0).train()
    clips = torch.randn(B, 4, 3, 56, 56, generator=seeded())
    mixed, draw = transmix(clips, generator=seeded(1))
    with draw.listening(network, "blocks.15.attn"):
        network(mixed).sum().backward()
    assert draw.counted().shape == (B, B)
    network(mixed)
    assert not draw._attention


def test_nothing_is_attended_where_nothing_is() -> None:
    """A class token that never looks at what was pasted: half of the pixels' share is left."""
    _, draw = transmix(CLIPS, generator=seeded(5))
    draw._attention.append(1 - draw.pasted + 1e-9)
    torch.testing.assert_close(1 - draw.counted().diagonal(), (1 - draw.shares.diagonal()) / 2, atol=1e-6, rtol=1e-4)


def test_one_clip_alone_cannot_be_mixed() -> None:
    with pytest.raises(ValueError, match="two clips or more"):
        attentive_cutmix(CLIPS[:1], torch.eye(1), attention=torch.rand(1, 7, 7))
