"""The linear model and its tests: against R's published output, libraries, and how often they err in simulations."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols

from ltbench.report.noise import ALPHA, Differences, Noise, _bartlett, _tail, dunnett, fit, tukey

# R's data set warpbreaks: breaks of 9 looms by wool (A, B) and tension (L, M, H)
WARPBREAKS = {
    'L': '26 30 54 25 70 52 51 26 67  27 14 29 19 29 31 41 20 44',
    'M': '18 21 29 17 12 18 35 30 36  42 26 19 16 39 28 21 39 29',
    'H': '36 21 24 18 10 43 28 15 26  20 21 24 17 13 15 15 16 28',
}
# the example of scipy.stats.dunnett, of Dunnett (1955): counts of blood cells, millions a cubic millimetre
BLOOD = ([7.40, 8.50, 7.20, 8.24, 9.84, 8.32], [9.76, 8.80, 7.68, 9.36], [12.80, 9.68, 12.16, 9.20, 10.55])


def apart(*samples: list[float]) -> np.ndarray:
    """A table of methods without a common seed."""
    scores = np.full((len(samples), sum(map(len, samples))), np.nan)
    place = 0
    for row, sample in zip(scores, samples, strict=True):
        row[place : place + len(sample)] = sample
        place += len(sample)
    return scores


def test_tukey_as_r_prints_it():
    """TukeyHSD(aov(breaks ~ wool + tension, data = warpbreaks), 'tension'), of R's help page: 9 runs in each cell."""
    values = np.array([row.split() for row in WARPBREAKS.values()], dtype=float)
    long = [
        (breaks, wool, tension) for tension in range(3) for wool, breaks in enumerate(values[tension].reshape(2, 9))
    ]
    frame = pd.DataFrame(long, columns=['breaks', 'wool', 'tension']).explode('breaks').astype(float)
    error = ols('breaks ~ C(wool) + C(tension)', frame).fit().mse_resid
    of_cells = np.repeat(np.eye(3), 18, axis=1) / 18
    noise = Noise(
        values.mean(axis=1), np.full(3, 18), 50, error, 1.0, np.full(3, error), np.full(3, 50), of_cells, np.arange(54)
    )
    p, half = tukey(noise.against(2), 2)
    assert noise.against(2).points[:2] == pytest.approx([14.7222222, 4.7222222])
    assert p[:2] == pytest.approx([0.0011218, 0.4474210], abs=1e-5)
    assert half[:2] == pytest.approx(14.7222222 - 5.3688015, abs=1e-3)
    assert tukey(noise.against(1), 1)[0][0] == pytest.approx(0.0336262, abs=1e-5)


def test_dunnett_as_scipy_has_it():
    noise = fit(apart(*BLOOD))
    assert noise.pooled and noise.freedom == 12
    p, half = dunnett(noise.against(0), 0)
    library = stats.dunnett(*BLOOD[1:], control=BLOOD[0], rng=0)
    assert p[1:] == pytest.approx([0.6200, 0.0058], abs=2e-4)  # as its documentation prints them
    interval = library.confidence_interval()
    assert half[1:] == pytest.approx((interval.high - interval.low) / 2, abs=2e-3)


@pytest.mark.parametrize(('methods', 'freedom'), [(2, 1), (3, 2), (5, 8), (32, 62), (18, np.inf)])
def test_tails_are_those_of_scipy(methods: int, freedom: float):
    for t in (0.5, 2, 3, 6):
        by_scipy = stats.studentized_range.sf(np.sqrt(2) * t, methods, freedom)
        assert _tail(t, methods, freedom) == pytest.approx(by_scipy, abs=5e-5)
    assert _tail(2.0, ((0.5, 1),), freedom) == pytest.approx(2 * stats.t.sf(2.0, freedom), abs=5e-5)
    free = np.random.default_rng(0).multivariate_normal(np.zeros(9), (np.eye(9) + 1) / 2, 200_000)
    assert _tail(2.5, ((0.5, 9),), np.inf) == pytest.approx((abs(free).max(axis=1) > 2.5).mean(), abs=2e-3)


def test_missing_runs_are_fitted_as_statsmodels_does():
    scores = np.random.default_rng(3).normal(70, 1, (6, 4))
    scores[1, 2] = scores[4, :2] = scores[5, 1:] = np.nan
    noise = fit(scores)
    method, seed = np.nonzero(~np.isnan(scores))
    frame = pd.DataFrame({'score': scores[method, seed], 'method': method, 'seed': seed})
    model = ols('score ~ C(method) + C(seed)', frame).fit()
    assert (noise.variance, noise.freedom) == pytest.approx((model.mse_resid, model.df_resid))
    assert noise.pooled
    found = noise.against(0)
    assert found.points[1:] == pytest.approx(model.params.iloc[1:6])
    assert found.errors[1:] == pytest.approx(model.bse.iloc[1:6])
    assert found.freedom[1:] == pytest.approx(9)


def test_a_single_seed_is_judged_by_the_variance_of_the_others():
    three = np.array([[70, 71, 72], [75, 76.5, 77]])
    noise = fit(np.vstack([three, [73, np.nan, np.nan]]))
    assert (noise.freedom, noise.variance) == pytest.approx((2, 1 / 24))
    assert noise.against(0).errors == pytest.approx([(1 / 24 * 2 / 3) ** 0.5] * 2 + [noise.against(0).errors[2]])
    assert noise.against(0).errors[2] > noise.against(0).errors[1]
    # two methods of which one has a single run: nothing is left beside seeds, so without them
    assert fit(np.array([[70, 71, 72], [73, np.nan, np.nan]])).freedom == 2
    # no common seed: methods alone
    assert fit(apart([70, 71], [74, 75])).freedom == 2
    single = fit(np.array([[70.0], [71.0]]))
    assert single.freedom == 0
    assert single.against(0, np.array([0, 0.25])).errors == pytest.approx([0, 0.5])


def test_two_methods_are_compared_as_by_a_paired_t_test():
    scores = np.array([[70, 71, 73.0, 70], [72, 72.5, 75, 71]])
    for family in (dunnett, tukey):
        p, half = family(fit(scores).against(0), 0)
        paired = stats.ttest_rel(*scores)
        assert p[1] == pytest.approx(paired.pvalue, abs=5e-5)
        low, high = paired.confidence_interval()
        assert half[1] == pytest.approx((high - low) / 2, rel=1e-3)


def test_no_variance_is_below_that_of_rounding_to_test_images():
    scores = np.array([[70.0, 71, 72], [70.25, 71.25, 72.25]])
    noise = fit(scores, step=0.25)
    assert noise.variance == pytest.approx(0.25**2 / 12)
    assert tukey(noise.against(0), 0)[0][1] > ALPHA
    assert tukey(fit(scores + np.array([[0.0], [5.0]]), step=0.25).against(0), 0)[0][1] < ALPHA


def test_a_method_that_varies_more_is_judged_by_its_own_variance():
    scores = 70 + 0.5 * np.random.default_rng(0).standard_normal((12, 3))
    assert fit(scores).pooled
    scores[0] += [-8, 0, 8]
    noise = fit(scores)
    assert not noise.pooled
    assert noise.variances[0] > 40 > 2 > noise.variances[1:].max()
    half = tukey(noise.against(1), 1)[1]
    assert half[0] > 4 * np.nanmax(half[2:])
    balanced = np.random.default_rng(1).normal(size=(5, 4))
    assert _bartlett(balanced.var(axis=1, ddof=1), np.full(5, 3)) == pytest.approx(stats.bartlett(*balanced).pvalue)


def test_methods_on_one_network_count_as_one_of_their_mean_variance():
    scores = np.random.default_rng(2).normal(70, 1, (4, 3))
    networks = np.arange(12).reshape(4, 3)
    alone = fit(scores)
    for copies in (1, 4):  # of the first method, which differ by a constant
        rest = np.vstack([scores[0] + 1.0 + copy for copy in range(copies)])
        found = fit(np.vstack([scores, rest]), np.vstack([networks, np.tile(networks[0], (copies, 1))]))
        assert (found.freedom, found.variance) == pytest.approx((alone.freedom, alone.variance))
        assert found.against(1).errors[[0, 2, 3]] == pytest.approx(alone.against(1).errors[[0, 2, 3]])
    # without common seeds' effects it is the mean of variances
    pair = np.array([[70, 71, 72.0], [75, 77, 79.0]])
    of_pair = fit(pair, networks[[0, 0]], blocks=False)
    assert (of_pair.freedom, of_pair.variance) == pytest.approx((2, 2.5))
    missing = fit(np.array([[70, 71, 72.0], [75, np.nan, np.nan]]), networks[[0, 0]])
    assert (missing.variance, missing.means.tolist()) == (pytest.approx(1), [71, 75])


def test_methods_on_one_network_are_compared_by_it_alone():
    """As if the rest of the table were not there, where enough is known of it; else by the noise of networks."""
    scores = np.random.default_rng(4).normal(70, 1, (8, 4))
    networks = np.vstack([np.tile(np.arange(4), (5, 1)), np.arange(4, 16).reshape(3, 4)])
    scores[:5] = 70 + 5 * np.arange(4) + 0.1 * scores[:5]
    whole, alone = fit(scores, networks).against(1), fit(scores[:5]).against(1)
    for name in ('points', 'errors', 'freedom'):
        assert getattr(whole, name)[:5] == pytest.approx(getattr(alone, name))
    assert whole.errors[5] > 5 * whole.errors[0]
    two = fit(scores[[0, 1, 5, 6, 7]], networks[[0, 1, 5, 6, 7]])
    assert two.against(0).freedom[1] == two.freedom > 3  # of two methods with four networks 3 would be left
    # without others there is no more to be known, however freedom is rounded
    for methods, seeds in ((2, 2), (2, 3), (3, 3), (5, 5)):
        family = scores[:methods, :seeds] if seeds < 5 else np.random.default_rng(0).normal(70, 1, (methods, seeds))
        whole, alone = fit(family, np.tile(np.arange(seeds), (methods, 1))), fit(family)
        assert whole.against(0).errors == pytest.approx(alone.against(0).errors)


def test_a_method_that_varies_more_than_others_on_its_network_is_judged_by_itself():
    scores = 70 + 0.5 * np.random.default_rng(0).standard_normal((12, 3))
    networks = np.arange(36).reshape(12, 3)
    networks[1:8] = networks[0]
    scores[0] += [-8, 0, 8]
    noise = fit(scores, networks)
    assert noise.variances[0] > 40 > 2 > noise.variances[1:].max()
    assert noise.against(0).errors[9] > 3


@pytest.mark.parametrize('seeds', [2, 3])
@pytest.mark.parametrize('adjust', [dunnett, tukey])
def test_noise_of_test_images_never_narrows_an_interval(seeds: int, adjust):
    """By Satterthwaite's formula it did: of 2 seeds by a fifth, where images add a tenth of the variance."""
    noise = fit(np.array([[70.0, 72.0, 71.5], [71.0, 71.2, 70.1], [70.5, 72.5, 72.0]])[:, :seeds])
    halves, p = zip(
        *(adjust(noise.against(0, share * noise.variance), 0)[::-1] for share in (0, 0.1, 1, 1e3)), strict=True
    )
    assert (np.diff([half[1:] for half in halves], axis=0) > 0).all()
    assert (np.diff([values[1:] for values in p], axis=0) >= 0).all()
    known = noise.against(0, 1e3 * noise.variance)  # of images alone almost all
    assert known.freedom[1:] == pytest.approx(np.inf) or known.freedom[1:].min() > 500


@pytest.mark.slow
@pytest.mark.parametrize(('seeds', 'share'), [(2, 0.1), (2, 0.5), (3, 0.1), (5, 0.5)])
def test_images_and_seeds_together_err_in_one_of_twenty_tables_at_most(seeds: int, share: float):
    random, erred = np.random.default_rng(0), 0
    for _ in range(1000):
        of_seeds, of_images = random.standard_normal((2, seeds)), share**0.5 * random.standard_normal((2, 1))
        noise = fit(of_seeds + of_images)
        erred += dunnett(noise.against(0, 2 * share), 0)[0][1] < ALPHA
    assert erred / 1000 < 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5


def test_less_than_one_degree_of_freedom_is_none():
    """As of networks of which one was trained again: beside effects of seeds, 0.4 degrees are left."""
    scores = np.vstack([70 + np.random.default_rng(1).normal(0, 1, (3, 3)), [71, np.nan, np.nan]])
    networks = np.array([[0, 1, 2], [0, 1, 2], [0, 1, 9], [3, 4, 5]])
    assert fit(scores, networks).freedom > 2


# ------------------------------------------------------------------------------------------ simulated tables


def tables(count: int, methods: int, seeds: int, deviations: np.ndarray, below: np.ndarray) -> np.ndarray:
    """``[count, methods, seeds]`` percent: seeds shift all methods by 0.8."""
    random = np.random.default_rng(0)
    noise = deviations[:, None] * random.standard_normal((count, methods, seeds))
    return 70 - below[:, None] + noise + 0.8 * random.standard_normal((count, 1, seeds))


def significant(scores: np.ndarray, family, reference: int | None = None) -> np.ndarray:
    """Which methods of a table are told from the reference, or from the best."""
    reference = int(scores.mean(axis=1).argmax()) if reference is None else reference
    return family(fit(scores).against(reference), reference)[0] < ALPHA


def by_pairs(scores: np.ndarray) -> np.ndarray:
    """What the tables did before: paired t-tests against the best, corrected by Holm."""
    best = int(scores.mean(axis=1).argmax())
    p = stats.ttest_rel(np.delete(scores, best, 0), scores[best], axis=1).pvalue
    corrected = np.maximum.accumulate(np.sort(p) * np.arange(len(p), 0, -1))
    return np.insert(corrected[p.argsort().argsort()] < ALPHA, best, False)


def rates(tell, methods: int, seeds: int, deviations=1.0, far: float = 0.0, count: int = 1000) -> float:
    """Percent of tables of equal methods in which any is told apart; or of methods that are ``far`` below that are."""
    half = np.arange(methods) >= methods / 2
    found = [tell(scores) for scores in tables(count, methods, seeds, np.broadcast_to(deviations, methods), far * half)]
    return 100 * (np.array(found)[:, half].mean() if far else np.any(found, axis=1).mean())


TO_BEST, TO_FIRST = partial(significant, family=tukey), partial(significant, family=dunnett, reference=0)


@pytest.mark.parametrize('tell', [TO_BEST, TO_FIRST])
def test_equal_methods_are_told_apart_in_about_one_of_twenty_tables(tell):
    assert rates(tell, 8, 3, count=300) == pytest.approx(5, abs=3.5)  # 2.6 is the standard error


def test_far_methods_are_told_apart_where_pairs_did_not():
    assert rates(TO_BEST, 32, 3, far=4, count=30) > 90
    assert rates(by_pairs, 32, 3, far=4, count=30) < 15


def on_one_network(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Equal methods: five on three networks, four with one run of their own each; a network's deviation is 0.95."""
    scores, networks = np.full((9, 3), np.nan), np.zeros((9, 3), int)
    scores[:5] = 0.9 * random.standard_normal(3) + 0.3 * random.standard_normal((5, 3))
    scores[5:, 0], networks[:5], networks[5:, 0] = 0.95 * random.standard_normal(4), np.arange(3), np.arange(3, 7)
    return 70 + scores + 0.3 * random.standard_normal(3), networks


def test_equal_methods_on_one_network_are_not_told_from_others():
    """Nearly three of four tables erred while each method on the network counted as one of its own."""
    random = np.random.default_rng(0)
    erring = {False: 0, True: 0}
    for scores, networks in (on_one_network(random) for _ in range(100)):
        best = int(np.nanmean(scores, axis=1).argmax())
        for known in erring:
            found = fit(scores, networks if known else None)
            erring[known] += bool((tukey(found.against(best), best)[0] < ALPHA).any())
    assert erring[True] <= 5 < 60 < erring[False]


@pytest.mark.slow
@pytest.mark.parametrize(('methods', 'seeds'), [(2, 3), (8, 2), (8, 3), (18, 5)])
def test_error_rates(methods: int, seeds: int):
    """Family-wise 5 % within 1 point, against ``erm`` and against the best."""
    assert rates(TO_BEST, methods, seeds, count=2000) == pytest.approx(5, abs=1)
    assert rates(TO_FIRST, methods, seeds, count=2000) == pytest.approx(5, abs=1)


@pytest.mark.parametrize('adjust', [tukey, dunnett])
def test_without_any_variation_methods_are_equal_or_not(adjust):
    """As of images that are all right or all wrong: there is no noise to compare a difference with."""
    found = Differences(np.array([0.0, 0.0, 10.0]), np.zeros(3), np.full(3, np.inf), np.full(3, 0.5))
    p, half = adjust(found, 0)
    assert p[1:].tolist() == [1.0, 0.0]
    assert half[1:].tolist() == [0.0, 0.0]
