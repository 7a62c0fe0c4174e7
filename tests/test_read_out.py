import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from dfer import labels, metrics, read_out

K = 7
ROWS = arrays(np.float64, (5, K), elements=st.floats(-50, 50))


def known(count=400, seed=0, votes=10):
    """Label distributions of so many votes each, some of them one-hot."""
    rng = np.random.default_rng(seed)
    counts = np.stack([rng.multinomial(votes, row) for row in rng.dirichlet(np.full(K, 0.3), count)])
    return counts / votes


@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0, 3.0])
def test_a_known_distribution_comes_back(tau):
    q = known()
    constants = np.random.default_rng(1).normal(size=(len(q), 1)) * 100
    got = labels.read_out(q / tau + constants, normalize="softmax", temperature=tau)
    np.testing.assert_allclose(got, q, atol=1e-12)


def test_the_softmax_of_the_targets_is_what_such_logits_fit():
    """The logits that a known q comes back from are those whose softmax is MIDAS's target."""
    q = known()
    np.testing.assert_allclose(softmax(q / 0.5, axis=1), softmax(np.log(softmax(q / 0.5, axis=1)), axis=1))
    logits = np.log(softmax(q / 0.5, axis=1))
    np.testing.assert_allclose(labels.read_out(logits, normalize="softmax", temperature=0.5), q, atol=1e-12)


@given(rows=ROWS, tau=st.floats(0.05, 5), form=st.sampled_from(["softmax", "inverse"]), scale=st.floats(0.1, 10))
def test_laws(rows, tau, form, scale):
    """Distributions, in the order of the logits: the largest stays the largest."""
    got = read_out.read(rows, form, temperature=tau, scale=scale)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-9)
    assert (got >= (read_out.FLOOR * (1 - 1e-9) if form == "inverse" else 0)).all()
    top = rows.argmax(axis=1)
    assert (got[np.arange(len(rows)), top] == got.max(axis=1)).all()
    by_logit = np.take_along_axis(got, rows.argsort(axis=1), axis=1)
    assert (np.diff(by_logit, axis=1) >= -1e-12).all()


@given(rows=ROWS)
def test_it_is_the_nearest_distribution(rows):
    """No step towards another distribution comes nearer to the row: the projection's own condition."""
    got = labels.read_out(rows, normalize="softmax")
    away = rows - got
    # <row - projection, corner - projection> <= 0 for every corner of the simplex
    assert (away.max(axis=1) - (away * got).sum(axis=1) <= 1e-9 * (1 + np.abs(rows).max())).all()


def test_midas_is_as_good_as_soft_by_read_out_and_not_raw():
    """Two networks that learnt the same distributions, one by softmax targets, with the same errors."""
    q, rng = known(4000), np.random.default_rng(2)
    learnt = np.stack([rng.dirichlet(200 * row + 0.5) for row in q])
    label = np.array([rng.choice(K, p=row) for row in q])
    soft = read_out.probabilities(np.log(learnt), {"settings": {"arm": {"normalize": "none"}}})
    midas = read_out.probabilities(learnt, {"settings": {"arm": {"normalize": "softmax"}}})
    raw = softmax(learnt, axis=1)
    assert metrics.nll(midas, label) == pytest.approx(metrics.nll(soft, label), abs=0.03)
    assert metrics.ece(midas, label) == pytest.approx(metrics.ece(soft, label), abs=0.02)
    assert metrics.nll(raw, label) > metrics.nll(soft, label) + 0.5
    assert metrics.ece(raw, label) > metrics.ece(soft, label) + 0.3


def test_of_some_classes_alone():
    q = known()
    card = {"settings": {"arm": {"normalize": "softmax"}}}
    got = read_out.probabilities(q, card, among=[0, 2, 5])
    q = (1 - K * read_out.FLOOR) * q + read_out.FLOOR
    np.testing.assert_allclose(got, q[:, [0, 2, 5]] / q[:, [0, 2, 5]].sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("card", "form"),
    [
        ({}, "softmax"),
        ({"settings": {"arm": {"normalize": "none"}}}, "softmax"),
        ({"settings": {"arm": {"normalize": "softmax"}}}, "inverse"),
        ({"settings": {"arm": {"normalize": "softmax", "temperature": 0.1}}}, "softmax"),
        ({"settings": {"arm": {}}, "read_out": {"form": "inverse", "temperature": 0.1, "scale": 2.0}}, "inverse"),
    ],
)
def test_what_a_card_says(card, form):
    assert read_out.of_card(card)["form"] == form


def test_an_inner_part_chooses_where_it_holds():
    """At tau 0.1 a network that stops short of the logits that are asked for is better by its plain softmax."""
    q = known()
    chosen = read_out.choose(q, q, normalize="softmax", temperature=1.0, calibrate=False)
    assert chosen == {"form": "inverse", "temperature": 1.0, "scale": 1.0}
    short = 0.2 * q / 0.1
    assert read_out.choose(short, q, normalize="softmax", temperature=0.1, calibrate=False)["form"] == "softmax"


def test_temperature_scaling_finds_the_scale():
    q = 0.9 * known(2000) + 0.1 / K
    chosen = read_out.choose(3 * np.log(q), q, normalize="none", temperature=1.0, calibrate=True)
    assert chosen["form"] == "softmax"
    assert chosen["scale"] == pytest.approx(3, rel=0.01)


@given(rows=ROWS)
def test_without_a_normalisation_it_is_the_softmax(rows):
    np.testing.assert_allclose(labels.read_out(rows, normalize="none"), softmax(rows, axis=1), rtol=1e-12)


@pytest.mark.parametrize("logits", [[1.0, 2.0], [[1.0]], [[1.0, np.nan]], [[1.0, -np.inf]]])
def test_bad_logits(logits):
    with pytest.raises(ValueError, match="finite logits"):
        labels.read_out(logits, normalize="none")


def test_bad_temperature():
    with pytest.raises(ValueError, match="temperature 0"):
        labels.read_out([[1.0, 2.0]], normalize="softmax", temperature=0)
