"""What methods add to a loss, and what a step does for arms that mix inside, count votes or relabel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from dfer.config.catalogue import IMAGENET_MEAN, IMAGENET_STD, NETWORKS
from dfer.config.settings import ArmSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.losses.dirichlet_multinomial import dirichlet_multinomial
from dfer.mixing import midas
from dfer.training import Plan
from dfer.training.objective import SelfCuring
from dfer.training.step import Step, make_network
from dfer.training.transforms import to_float

T, SIDE = 2, 32


def plan_of(arm: ArmSettings, network: str = "resnet18_tsm", **settings: Any) -> Plan:
    chosen = {"epochs": 3, "batch_size": 6, "learning_rate": 0.01, "device": "cpu", "precision": "float32", **settings}
    return Plan(
        arm=arm,
        model=ModelSettings(name=network, pretrained=None, input_size=SIDE, dropout=0.0, width=0.125),
        sampling=SamplingSettings(num_segments=T),
        train=TrainSettings(**chosen),
    )


def batch(count: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    frames = torch.randint(0, 256, (count, T, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    return frames, torch.eye(7)[torch.randint(7, (count,), generator=generator)]


def step_of(arm: ArmSettings, **settings: Any) -> tuple[Step, Any]:
    torch.manual_seed(0)
    plan = plan_of(arm, **settings)
    network = make_network(plan).train()
    return Step(network, plan, steps=10), network


@pytest.mark.parametrize("mixing", ["midas", "none"])
def test_the_larger_share_is_the_clip_that_accuracy_counts(mixing: str) -> None:
    frames, labels = batch()
    step, _ = step_of(ArmSettings(labels="soft", mixing=mixing))
    step(frames, labels, torch.Generator().manual_seed(3))
    everyone = torch.eye(len(frames))
    shares = everyone
    if mixing == "midas":
        _, shares = midas(frames, everyone, normalize="none", generator=torch.Generator().manual_seed(3))
    assert step.main is not None
    assert torch.equal(step.main, shares.argmax(dim=1))
    assert (mixing == "none") == torch.equal(step.main, torch.arange(len(frames)))


def test_the_mixed_targets_are_to_the_bit_those_of_the_mixing_itself() -> None:
    """Clips go through the mixing as more classes; that must not change a training by a rounding."""
    frames, labels = batch()
    labels = (labels + torch.rand(6, 7, generator=torch.Generator().manual_seed(1))).softmax(dim=1)
    step, _ = step_of(ArmSettings(labels="soft", mixing="midas", normalize="softmax"))
    got = step._mixed(frames, labels, torch.Generator().manual_seed(9))
    expected = midas(frames, labels, normalize="none", generator=torch.Generator().manual_seed(9))
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])


def test_the_targets_entropy_is_the_least_loss() -> None:
    frames, labels = batch()
    step, _ = step_of(ArmSettings(labels="hard", normalize="smooth", smoothing=0.2))
    loss, _ = step(frames, labels, torch.Generator())
    smooth = 0.8 * labels + 0.2 / 7
    assert step.target_entropy == pytest.approx(float(-(smooth * smooth.log()).sum(dim=1).mean()), rel=1e-5)
    assert float(loss) > step.target_entropy


def test_counts_of_votes_are_mixed_as_clips_are() -> None:
    frames, _ = batch()
    votes = torch.tensor([[10.0, 0, 0, 0, 0, 0, 0], [0, 3, 0, 0, 0, 0, 0]] * 3)
    arm = ArmSettings(labels="soft", mixing="midas", loss="dirichlet_multinomial")
    step, _ = step_of(arm)
    loss, logits = step(frames, votes / votes.sum(dim=1, keepdim=True), torch.Generator().manual_seed(3), votes=votes)
    _, shares = midas(frames, torch.eye(6), normalize="none", generator=torch.Generator().manual_seed(3))
    expected = dirichlet_multinomial(logits, shares @ votes) / 6
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(ValueError, match="counts of votes"):
        step(frames, votes / 10, torch.Generator())


@pytest.mark.parametrize("mixing", ["manifold_mixup", "patchup"])
@pytest.mark.parametrize("parts", [1, 2])
def test_hidden_states_are_mixed_and_their_labels_with_them(mixing: str, parts: int) -> None:
    frames, labels = batch()
    arm = ArmSettings(labels="soft", mixing=mixing, alpha=2.0)
    for seed in range(3):  # several stages
        step, network = step_of(arm, micro_batches=parts)
        loss, logits = step(frames, labels, torch.Generator().manual_seed(seed))
        assert loss.isfinite()
        assert logits.shape == (6, 7)
        assert step.main is not None
        assert (step.main // (6 // parts) == torch.arange(6) // (6 // parts)).all()  # within its part
        assert all(parameter.grad is not None for parameter in network.parameters())
        torch.manual_seed(0)
        plain = make_network(plan_of(arm)).train()(to_float(frames, IMAGENET_MEAN, IMAGENET_STD))
        assert not torch.allclose(plain, logits)


@pytest.mark.parametrize(("mixing", "network"), [("attentive_cutmix", "resnet18_tsm"), ("transmix", "mvit_v2_s")])
@pytest.mark.parametrize("parts", [1, 2])
def test_mixings_that_look_at_attention(mixing: str, network: str, parts: int) -> None:
    frames, labels = batch()
    step, _ = step_of(ArmSettings(labels="soft", mixing=mixing), network=network, micro_batches=parts)
    loss, logits = step(frames, labels, torch.Generator().manual_seed(1))
    assert loss.isfinite()
    assert logits.shape == (6, 7)
    assert step.main is not None
    assert step.main.shape == (6,)


def test_scn_weighs_trusts_and_relabels() -> None:
    frames, labels = batch()
    step, network = step_of(ArmSettings(labels="hard", method="scn"))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    loss, logits = step(frames, labels, torch.Generator())
    torch.manual_seed(0)
    again = make_network(plan_of(ArmSettings(labels="hard", method="scn"))).train()
    again.load_state_dict(before)
    outputs = again.network(to_float(frames, IMAGENET_MEAN, IMAGENET_STD))
    weights = outputs[:, 7].sigmoid()
    torch.testing.assert_close(logits, (weights[:, None] * outputs[:, :7]).detach(), rtol=1e-4, atol=1e-5)
    ordered = sorted(weights.tolist(), reverse=True)
    margin = max(0.0, 0.15 - (sum(ordered[:4]) / 4 - sum(ordered[4:]) / 2))
    assert float(loss) == pytest.approx(float(cross_entropy(logits, labels)) + margin, rel=1e-4)
    probabilities, own = logits.softmax(dim=1), labels.argmax(dim=1)
    assert step.relabelled is not None
    for row in range(6):
        doubtful = probabilities[row].max() - probabilities[row, own[row]] > 0.2
        assert step.relabelled[row] == (probabilities[row].argmax() if doubtful else own[row])


def test_scn_relabels_a_clip_that_it_is_sure_of() -> None:
    def objective(logits: Tensor) -> Tensor:
        one = SelfCuring(torch.nn.Identity(), lambda z, q: cross_entropy(z, q, reduction="sum"))
        one((logits, torch.tensor([0.9, 0.1])), torch.eye(3)[[0, 1]])
        return one.relabelled

    assert objective(torch.tensor([[0.0, 0.0, 9.0], [0.0, 9.0, 0.0]])).tolist() == [2, 1]
    assert objective(torch.tensor([[0.0, 0.0, 0.3], [0.0, 0.0, 0.3]])).tolist() == [0, 1]


def test_rul_mixes_features_by_uncertainty_and_says_both_labels() -> None:
    frames, labels = batch()
    step, network = step_of(ArmSettings(labels="hard", method="rul"))
    twin = make_network(plan_of(ArmSettings(labels="hard", method="rul"))).train()
    twin.load_state_dict(network.state_dict())
    torch.manual_seed(4)
    loss, logits = step(frames, labels, torch.Generator())
    torch.manual_seed(4)
    partners = torch.randperm(6)
    outputs = twin.network(to_float(frames, IMAGENET_MEAN, IMAGENET_STD))
    means, uncertainty = outputs[:, :64], outputs[:, 64:].exp().mean(dim=1)
    mixed = torch.stack(
        [
            (uncertainty[i] * means[i] + uncertainty[j] * means[j]) / (uncertainty[i] + uncertainty[j])
            for i, j in enumerate(partners.tolist())
        ]
    )
    expected = mixed @ twin.fc.weight.T + twin.fc.bias
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-4, atol=1e-5)
    both = (cross_entropy(expected, labels) + cross_entropy(expected, labels[partners])) / 2
    assert float(loss) == pytest.approx(float(both), rel=1e-5)
    twin.eval()
    clips = to_float(frames, IMAGENET_MEAN, IMAGENET_STD)
    torch.testing.assert_close(twin(clips), twin.fc(twin.network(clips)[:, :64]))


def test_eac_compares_maps_of_a_clip_and_its_mirror_image() -> None:
    frames, labels = batch()
    step, network = step_of(ArmSettings(labels="hard", method="eac"), network="resnet18")
    twin = make_network(plan_of(ArmSettings(labels="hard"), network="resnet18")).train()
    twin.load_state_dict(network.state_dict())
    loss, logits = step(frames, labels, torch.Generator())
    clips = to_float(frames, IMAGENET_MEAN, IMAGENET_STD)
    x = torch.cat((clips, clips.flip(-1))).flatten(0, 1)
    x = twin.layer4(twin.layer3(twin.layer2(twin.layer1(twin.maxpool(twin.relu(twin.bn1(twin.conv1(x))))))))
    maps = torch.einsum("kc,nchw->nkhw", twin.fc.weight, x)
    expected = (maps.mean(dim=(2, 3)) + twin.fc.bias).unflatten(0, (12, T)).mean(dim=1)[:6]
    torch.testing.assert_close(logits, expected.detach(), rtol=1e-3, atol=1e-4)
    own, mirrored = maps[: 6 * T], maps[6 * T :].flip(-1)
    assert float(loss) == pytest.approx(float(cross_entropy(expected, labels) + 5 * mse_loss(own, mirrored)), rel=1e-4)


@pytest.mark.parametrize("method", ["scn", "rul", "eac"])
@pytest.mark.parametrize("network", ["resnet18_tsm", "r3d_18"])
def test_every_parameter_learns(method: str, network: str) -> None:
    frames, labels = batch()
    step, module = step_of(ArmSettings(labels="hard", method=method), network=network)
    step(frames, labels, torch.Generator())
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize(
    ("arm", "network", "message"),
    [
        ({"mixing": "manifold_mixup"}, "mvit_v2_s", "mixing: manifold_mixup needs stages .*resnet18_tsm"),
        ({"method": "eac"}, "resnet18_gru", "method: eac needs a linear classifier .*resnet18_tsm"),
    ],
)
def test_a_network_that_lacks_something_is_refused(arm: dict[str, str], network: str, message: str) -> None:
    plan = replace(plan_of(ArmSettings(labels="hard", **arm)), model=ModelSettings(name=network, pretrained=None))
    with pytest.raises(ValueError, match=message):
        Step(torch.nn.Linear(1, 1), plan, steps=1)


def test_what_the_catalogue_names_is_there() -> None:
    """Modules that hidden states are mixed after, last maps and class tokens, of each network that has them."""
    for name, known in NETWORKS.items():
        with torch.device("meta"):
            network = make_network(
                replace(
                    plan_of(ArmSettings(labels="hard")),
                    model=ModelSettings(name=name, pretrained=None),
                    sampling=SamplingSettings(num_segments=known.num_segments),
                )
            )
        for module in (*known.stages, known.feature_map, known.class_token):
            network.get_submodule(module)
        assert not known.stages or known.feature_map
