from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, recall_score
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from dfer import metrics

K = 7


@st.composite
def labelled(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    count = draw(st.integers(1, 60))
    classes = arrays(np.int64, count, elements=st.integers(0, K - 1))
    return draw(classes), draw(classes)


def distributions(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(K, 0.4), size=count)


@given(labelled())
@settings(deadline=None)
def test_recalls_agree_with_scikit_learn(pair: tuple[np.ndarray, np.ndarray]) -> None:
    true, predicted = pair
    assert metrics.war(true, predicted) == pytest.approx(accuracy_score(true, predicted))
    assert (
        metrics.confusion_matrix(true, predicted, K) == sklearn_confusion_matrix(true, predicted, labels=range(K))
    ).all()
    present = np.unique(true)
    recall = metrics.per_class_recall(true, predicted, K)
    expected = recall_score(true, predicted, labels=present, average=None, zero_division=0.0)
    assert recall[present] == pytest.approx(expected)
    assert np.isnan(np.delete(recall, present)).all()
    assert metrics.uar(true, predicted, K) == pytest.approx(expected.mean())


@given(labelled(), st.permutations(range(K)))
@settings(deadline=None)
def test_renaming_classes_and_reordering_clips_changes_nothing(
    pair: tuple[np.ndarray, np.ndarray], names: list[int]
) -> None:
    true, predicted = pair
    renamed = np.array(names)
    order = np.random.default_rng(0).permutation(len(true))
    assert metrics.uar(renamed[true], renamed[predicted], K) == pytest.approx(metrics.uar(true, predicted, K))
    assert metrics.war(true[order], predicted[order]) == metrics.war(true, predicted)


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_classwise_ece_is_that_of_each_class_against_the_others(bins: int) -> None:
    probabilities, votes = distributions(300, 0), distributions(300, 1)
    expected = []
    for k in range(K):
        bin_of_clip = np.clip(np.ceil(probabilities[:, k] * bins) - 1, 0, None)
        gaps = [
            abs((votes - probabilities)[bin_of_clip == b, k].mean()) * (bin_of_clip == b).mean()
            for b in np.unique(bin_of_clip)
        ]
        expected.append(sum(gaps))
    assert metrics.classwise_ece(probabilities, votes, bins=bins) == pytest.approx(expected)


def test_classwise_ece_by_hand_and_of_two_classes_that_of_one() -> None:
    probabilities = [[0.8, 0.2], [0.8, 0.2], [0.4, 0.6]]
    # of class 0: two clips at 0.8, of which one is; one at 0.4, which is not
    assert metrics.classwise_ece(probabilities, [0, 1, 1], bins=10) == pytest.approx([(2 * 0.3 + 0.4) / 3] * 2)
    assert metrics.classwise_ece(probabilities, probabilities) == pytest.approx([0, 0])


def test_total_variation_is_the_share_of_votes_that_would_have_to_be_others() -> None:
    assert metrics.total_variation([[0.5, 0.5, 0], [1, 0, 0]], [[0.2, 0.5, 0.3], [0, 1, 0]]) == pytest.approx([0.3, 1])


def test_uar_weighs_classes_equally_and_war_does_not() -> None:
    true, predicted = [0] * 9 + [1], [0] * 10
    assert metrics.war(true, predicted) == pytest.approx(0.9)
    assert metrics.uar(true, predicted, 2) == pytest.approx(0.5) == balanced_accuracy_score(true, predicted)


@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        ([], [], "non-empty"),
        ([0, 1], [0], "1 clips, y_true has 2"),
        ([0.5], [0.5], "float64"),
        ([[0]], [[0]], "non-empty int"),
        ([7], [0], "from 7 to 7"),
        ([0], [-1], "y_pred has classes from -1"),
    ],
)
def test_bad_classes_are_refused(true: list, predicted: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.uar(true, predicted, K)


def test_nll_agrees_with_scikit_learn_and_survives_a_probability_of_zero() -> None:
    probabilities, labels = distributions(50, 1), np.arange(50) % K
    assert metrics.nll(probabilities, labels) == pytest.approx(log_loss(labels, probabilities, labels=range(K)))
    assert np.isfinite(metrics.nll([[1.0, 0.0]], [1]))


def test_nll_of_soft_targets_is_least_at_the_targets_and_there_their_entropy() -> None:
    targets = distributions(20, 2)
    entropy = -(targets * np.log(targets)).sum(axis=1).mean()
    assert metrics.nll(targets, targets) == pytest.approx(entropy)
    assert metrics.nll(distributions(20, 3), targets) > entropy


def test_brier_of_a_table_worked_by_hand() -> None:
    assert metrics.brier([[0.8, 0.2], [0.3, 0.7]], [0, 0]) == pytest.approx((0.04 + 0.04 + 0.49 + 0.49) / 2)
    assert metrics.brier([[0.0, 1.0]], [0]) == pytest.approx(2.0)


def test_ece_of_bins_worked_by_hand() -> None:
    # Confidences 0.6, 0.6 (one of two right: gap 0.1 over two clips) and 0.9 (right: gap 0.1 over one).
    probabilities = [[0.6, 0.4], [0.6, 0.4], [0.1, 0.9]]
    assert metrics.ece(probabilities, [0, 1, 1], bins=10) == pytest.approx((2 * 0.1 + 0.1) / 3)


def test_ece_puts_a_confidence_on_an_edge_into_the_lower_bin() -> None:
    # With two bins, 0.5 and 0.4 share the lower one and their errors cancel; 0.6 is alone in the upper one.
    probabilities = [[0.5, 0.3, 0.2], [0.4, 0.3, 0.3], [0.6, 0.2, 0.2]]
    assert metrics.ece(probabilities, [0, 1, 0], bins=2) == pytest.approx((0.1 + 0.4) / 3)


def test_a_certain_and_right_model_is_calibrated() -> None:
    assert metrics.ece(np.eye(K), np.arange(K)) == 0
    assert metrics.ece(np.eye(K), (np.arange(K) + 1) % K) == 1


def test_js_divergence_agrees_with_scipy() -> None:
    a, b = distributions(30, 4), distributions(30, 5)
    assert metrics.js_divergence(a, b) == pytest.approx(jensenshannon(a, b, axis=1) ** 2)


@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
@settings(deadline=None)
def test_js_divergence_is_symmetric_bounded_and_zero_for_equals(seed: int, count: int) -> None:
    a, b = distributions(count, seed), distributions(count, seed + 1)
    forth = metrics.js_divergence(a, b)
    assert forth == pytest.approx(metrics.js_divergence(b, a))
    assert ((forth >= 0) & (forth <= np.log(2))).all()
    assert metrics.js_divergence(a, a) == pytest.approx(np.zeros(count))
    assert metrics.js_divergence(np.eye(K)[:1], np.eye(K)[1:2]) == pytest.approx(np.log(2))


@pytest.mark.parametrize(
    ("probabilities", "targets", "message"),
    [
        ([[0.5, 0.4]], [0], "sum to 1"),
        ([[np.nan, 1.0]], [0], "sum to 1"),
        ([[1.2, -0.2]], [0], "non-negative"),
        ([[0.5, 0.5]], [2], "outside 0..1"),
        ([[0.5, 0.5]], [[0.5, 0.3, 0.2]], "differ in shape"),
        ([0.5, 0.5], [0], "N, K"),
    ],
)
def test_bad_probabilities_are_refused(probabilities: list, targets: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.brier(probabilities, targets)
