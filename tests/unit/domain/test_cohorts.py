"""Who is admitted to a round, how fair the draws are, and what a run says while it waits."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.domain.cohorts import Candidate, Cohort, Machine, choose_cohort, is_online
from app.domain.runs import NextRound
from hansa_core.plans import RunPlan, parse_plan
from hansa_core.secagg.plans import SecurePlan
from hansa_core.states import RoundKind, SiteState

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
ONLINE_FOR = timedelta(seconds=120)
FINAL = NextRound(1, RoundKind.EVALUATE, evaluate=True, threshold=1)
NAMES = [f"site-{number:02}" for number in range(10)]


def a_plan(seed: int = 7, evaluation: dict[str, Any] | None = None, **cohort: Any) -> RunPlan:
    return parse_plan(
        {
            "name": "first",
            "model": "tumor",
            "rounds": 1,
            "seed": seed,
            "cohort": {"min_sites": 1, **cohort},
            "evaluation": evaluation or {},
        }
    )


def training(number: int = 1, *, threshold: int = 1, evaluate: bool = True) -> NextRound:
    return NextRound(number, RoundKind.TRAIN, evaluate=evaluate, threshold=threshold)


def a_site(name: str, seconds_ago: float | None = 0, **labels: str) -> Candidate:
    seen = None if seconds_ago is None else NOW - timedelta(seconds=seconds_ago)
    return Candidate(name, labels, seen)


def choose(plan: RunPlan, coming: NextRound, *sites: Candidate, failed_tries: int = 0) -> Cohort:
    cohort = choose_cohort(
        plan, coming, sites, online_for=ONLINE_FOR, now=NOW, failed_tries=failed_tries
    )
    assert (cohort.waiting_for is None) == bool(cohort.names)
    return cohort


def waiting_for(*sites: Candidate, threshold: int = 2, **cohort: Any) -> str | None:
    return choose(a_plan(**cohort), training(threshold=threshold), *sites).waiting_for


def reasons(cohort: Cohort) -> dict[str, str]:
    return {item.site: item.reason for item in cohort.excluded}


# Who is eligible


def test_all_matching_sites_online_are_admitted_not_only_the_needed_ones() -> None:
    cohort = choose(
        a_plan(labels={"scanner": "mri"}),
        training(),
        a_site("bergen", 0, scanner="mri"),
        a_site("oslo", 120, scanner="mri", country="no"),
        a_site("turku", 121, scanner="mri"),
        a_site("vaasa", 0, scanner="ct"),
        a_site("visby", 0),
    )
    assert cohort.names == {"bergen", "oslo"}
    assert cohort.target is None
    assert reasons(cohort) == {
        "turku": "offline: last seen 2 min ago",
        "vaasa": "scanner is ct, wanted mri",
        "visby": "scanner is not set, wanted mri",
    }
    assert not any(item.drawn_against for item in cohort.excluded)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (SiteState.PENDING, "waits for approval"),
        (SiteState.SUSPENDED, "is suspended"),
        (SiteState.REVOKED, "is revoked"),
    ],
)
def test_only_active_sites_are_admitted(state: SiteState, reason: str) -> None:
    out = Candidate("oslo", {}, NOW, state)
    cohort = choose(a_plan(), training(), a_site("bergen"), out)
    assert cohort.names == {"bergen"}
    assert reasons(cohort) == {"oslo": reason}


def test_a_machine_below_the_floor_is_told_everything_that_it_lacks() -> None:
    floor = {"cpus": 4, "memory_gib": 15.5, "gpus": 1}
    sites = [
        Candidate("exact", {}, NOW, machine=Machine(4, int(15.5 * 2**30), 1)),
        Candidate("small", {}, NOW, machine=Machine(2, 2**33, 0)),
        Candidate("forgetful", {}, NOW, machine=Machine(4, 2**40 - 1, 0)),
        Candidate("silent", {}, NOW),
    ]
    cohort = choose(a_plan(hardware=floor), training(), *sites)
    assert cohort.names == {"exact"}
    assert reasons(cohort) == {
        "forgetful": "has 0 GPUs, wanted 1",
        "silent": "reports no hardware",
        "small": "has 2 CPUs, wanted 4; has 8 GiB of memory, wanted 15.5; has 0 GPUs, wanted 1",
    }
    assert choose(a_plan(), training(), *sites).names == {site.name for site in sites}


def test_a_site_is_online_for_a_while_after_it_was_seen() -> None:
    assert is_online(NOW - ONLINE_FOR, ONLINE_FOR, NOW)
    assert not is_online(NOW - ONLINE_FOR - timedelta(microseconds=1), ONLINE_FOR, NOW)
    assert not is_online(None, ONLINE_FOR, NOW)
    assert is_online(NOW + timedelta(seconds=1), ONLINE_FOR, NOW)  # another replica's clock


# Draws


def drawn(number: int, plan: RunPlan, sites: list[Candidate], failed_tries: int = 0) -> Cohort:
    return choose(plan, training(number), *sites, failed_tries=failed_tries)


def test_a_random_draw_takes_every_site_equally_often() -> None:
    plan = a_plan(choose="random", size=3)
    sites = [a_site(name) for name in NAMES]
    rounds = 4000
    taken = Counter(name for number in range(rounds) for name in drawn(number, plan, sites).names)
    # Binomial, p = 0.3: a standard deviation is 29 rounds; 4 of them for each of 10 sites.
    assert sum(taken.values()) == 3 * rounds
    assert all(abs(taken[name] - 0.3 * rounds) < 4 * 29 for name in NAMES), taken


def test_a_random_draw_takes_every_pair_equally_often() -> None:
    plan = a_plan(choose="random", size=2)
    sites = [a_site(name) for name in NAMES[:5]]
    rounds = 4000
    pairs = Counter(drawn(number, plan, sites).names for number in range(rounds))
    assert len(pairs) == 10
    # Binomial, p = 0.1: a standard deviation is 19 rounds.
    assert all(abs(times - rounds / 10) < 4 * 19 for times in pairs.values()), pairs


def test_over_many_seeds_the_first_round_is_as_fair() -> None:
    sites = [a_site(name) for name in NAMES[:4]]
    seeds = 2000
    taken = Counter(
        name
        for seed in range(seeds)
        for name in drawn(1, a_plan(seed, choose="random", size=1), sites).names
    )
    # Binomial, p = 0.25: a standard deviation is 19.4 draws.
    assert all(abs(taken[name] - seeds / 4) < 4 * 19.4 for name in NAMES[:4]), taken


def test_a_weighted_draw_of_one_follows_the_examples() -> None:
    plan = a_plan(choose="weighted", size=1)
    examples = {"bergen": 100, "oslo": 200, "turku": 700}
    sites = [Candidate(name, {}, NOW, examples=count) for name, count in examples.items()]
    rounds = 4000
    taken = Counter(name for number in range(rounds) for name in drawn(number, plan, sites).names)
    for name, count in examples.items():
        share = count / 1000
        deviation = (rounds * share * (1 - share)) ** 0.5
        assert abs(taken[name] - rounds * share) < 4 * deviation, taken


def test_a_site_without_an_answer_weighs_as_much_as_the_others_mean() -> None:
    plan = a_plan(choose="weighted", size=1)
    sites = [
        Candidate("bergen", {}, NOW, examples=100),
        Candidate("oslo", {}, NOW, examples=500),
        Candidate("turku", {}, NOW),  # counts as 300 of then 900
    ]
    rounds = 4000
    taken = Counter(name for number in range(rounds) for name in drawn(number, plan, sites).names)
    assert abs(taken["turku"] - rounds / 3) < 4 * 30, taken
    fresh = [a_site(name) for name in NAMES[:2]]  # before the first answers: all alike
    first = Counter(name for number in range(rounds) for name in drawn(number, plan, fresh).names)
    assert abs(first[NAMES[0]] - rounds / 2) < 4 * 32, first


@pytest.mark.parametrize("size", [1, 3, 4, 7])
def test_a_stratified_draw_shares_the_places_between_the_values(size: int) -> None:
    plan = a_plan(choose="stratified", stratify_by="country", size=size)
    countries = ("dk", "fi", "no")
    sites = [
        a_site(f"{place}-{number}", country=place) for place in countries for number in range(5)
    ]
    served: Counter[str] = Counter()
    for number in range(300):
        counts = Counter(name[:2] for name in drawn(number, plan, sites).names)
        shares = [counts[place] for place in countries]
        assert sum(shares) == size
        assert max(shares) - min(shares) <= 1
        served += counts
    assert set(served.values()) == {100 * size}  # the rest goes around: nobody is served last


def test_what_a_small_stratum_cannot_fill_goes_to_the_others() -> None:
    plan = a_plan(choose="stratified", stratify_by="country", size=4)
    sites = [a_site("dk", country="dk"), *(a_site(f"no-{n}", country="no") for n in range(9))]
    for number in range(20):
        names = drawn(number, plan, sites).names
        assert len(names) == 4
        assert "dk" in names
    cohort = drawn(1, plan, [*sites, a_site("visby")])
    assert reasons(cohort)["visby"] == "has no label country to be stratified by"


PLANS = [
    a_plan(choose="random", size=3),
    a_plan(choose="weighted", size=3, over_select=1),
    a_plan(choose="stratified", size=3, stratify_by="country"),
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.cohort.choose)
def test_a_draw_depends_on_seed_round_and_names_but_not_on_their_order(plan: RunPlan) -> None:
    sites = [
        Candidate(name, {"country": ("dk", "fi")[place % 2]}, NOW, examples=10 + 7 * place)
        for place, name in enumerate(NAMES)
    ]
    names = [drawn(number, plan, sites) for number in range(30)]
    assert names == [drawn(number, plan, sites[::-1]) for number in range(30)]
    later = NOW + timedelta(seconds=60)
    moved = [
        choose_cohort(plan, training(number), sites, online_for=ONLINE_FOR, now=later)
        for number in range(30)
    ]
    assert [cohort.names for cohort in moved] == [cohort.names for cohort in names]
    other = plan.model_copy(update={"seed": plan.seed + 1})
    assert [drawn(number, other, sites) for number in range(30)] != names
    assert len({cohort.names for cohort in names}) > 10


def test_a_round_held_again_after_a_failure_draws_anew() -> None:
    plan, sites = a_plan(choose="random", size=5), [a_site(name) for name in NAMES]
    tries = [drawn(1, plan, sites, failed_tries=tries).names for tries in range(20)]
    assert len(set(tries)) > 10
    assert drawn(1, plan, sites).names == tries[0]  # after a pause, the same


def test_over_selection_asks_more_but_wants_the_size() -> None:
    sites = [a_site(name) for name in NAMES]
    cohort = drawn(1, a_plan(choose="random", size=4, over_select=3), sites)
    assert len(cohort.names) == 7
    assert cohort.target == 4
    against = {item.site for item in cohort.excluded if item.drawn_against}
    assert against == set(NAMES) - cohort.names
    assert set(reasons(cohort).values()) == {"not drawn: 7 of 10 eligible sites were asked"}
    few = drawn(1, a_plan(choose="random", size=4, over_select=3), sites[:3])
    assert few.names == set(NAMES[:3])
    assert few.excluded == ()


@pytest.mark.parametrize("choice", ["random", "weighted", "stratified"])
def test_pinned_sites_are_in_every_round(choice: str) -> None:
    extra: dict[str, Any] = {"stratify_by": "country"} if choice == "stratified" else {}
    plan = a_plan(choose=choice, size=3, pinned=["site-04", "site-07"], **extra)
    sites = [a_site(name, country=name[-1]) for name in NAMES]
    drawn_beside: set[str] = set()
    for number in range(100):
        names = drawn(number, plan, sites).names
        assert names > {"site-04", "site-07"}
        assert len(names) == 3
        drawn_beside |= names
    assert drawn_beside == set(NAMES)


def test_a_round_waits_for_its_pinned_sites() -> None:
    here = [a_site("bergen"), a_site("oslo")]
    assert waiting_for(*here, a_site("turku", 600), pinned=["turku"]) == (
        "2 of 2 sites online: waiting for turku (last seen 10 min ago)"
    )
    elsewhere = a_site("visby", 600)
    barred = Candidate("turku", {}, NOW, SiteState.SUSPENDED)
    assert waiting_for(*here, barred, elsewhere, pinned=["turku"]) == (
        "2 of 2 sites online: waiting for the pinned turku"
    )


# Evaluators

CENTRAL: dict[str, Any] = {"evaluators": ["central"]}


def test_evaluators_never_train_and_are_asked_where_the_round_evaluates() -> None:
    plan = a_plan(evaluation=CENTRAL)
    sites = [a_site("bergen"), a_site("central")]
    cohort = choose(plan, training(), *sites)
    assert (cohort.names, cohort.evaluators) == ({"bergen"}, {"central"})
    assert choose(plan, training(evaluate=False), *sites).evaluators == frozenset()
    away = choose(plan, training(), a_site("bergen"), a_site("central", 600))
    assert (away.names, away.evaluators) == ({"bergen"}, frozenset())
    barred = Candidate("central", {}, NOW, SiteState.SUSPENDED)
    assert choose(plan, training(), a_site("bergen"), barred).evaluators == frozenset()
    alone = choose(plan, training(threshold=2), *sites)
    assert (alone.waiting_for or "").startswith("1 of 2 sites online")


def test_the_final_evaluation_asks_all_sites_and_evaluators_that_are_there() -> None:
    sites = [a_site("bergen"), a_site("oslo", 600), a_site("turku"), a_site("central")]
    drawn_for_training = a_plan(evaluation=CENTRAL, choose="random", size=1, pinned=["oslo"])
    assert choose(drawn_for_training, FINAL, *sites).names == {"bergen", "turku", "central"}
    only_central = a_plan(evaluation={"at_sites": False, **CENTRAL})
    assert choose(only_central, FINAL, *sites).names == {"central"}


def test_a_secure_evaluation_waits_for_sites_enough_to_hide_each() -> None:
    plan = a_plan(evaluation=CENTRAL).model_copy(update={"secure": SecurePlan()})
    final = replace(FINAL, threshold=3)
    sites = [a_site("bergen"), a_site("oslo"), a_site("turku"), a_site("central")]
    cohort = choose(plan, final, *sites)
    assert (cohort.names, cohort.evaluators) == ({"bergen", "oslo", "turku"}, {"central"})
    few = choose(plan, final, *sites[:2], a_site("turku", 600), sites[3])
    assert few.names == frozenset()
    assert (few.waiting_for or "").startswith("2 of 3 sites online: waiting for turku")


def test_a_final_evaluation_at_evaluators_waits_for_them_and_nobody_else() -> None:
    plan = a_plan(evaluation={"at_sites": False, **CENTRAL})
    sites = [a_site("bergen"), a_site("oslo", 600), a_site("central", 300)]
    assert choose(plan, FINAL, *sites).waiting_for == (
        "0 of 1 sites online: waiting for central (last seen 5 min ago)"
    )


# What a run says


def test_a_run_that_waits_says_for_whom() -> None:
    absent = (
        a_site("turku", 7300),
        a_site("oslo", None),
        a_site("vaasa", 130),
        a_site("kiel", 119.9 + 0.2),
    )
    assert waiting_for(a_site("bergen"), *absent) == (
        "1 of 2 sites online: waiting for kiel (last seen 2 min ago), oslo (never seen), "
        "turku (last seen 2 h ago), vaasa (last seen 2 min ago)"
    )


def test_a_run_that_waits_names_five_at_most() -> None:
    many = [a_site(f"site-{number}", 600) for number in range(7)]
    reason = waiting_for(*many) or ""
    assert reason.endswith("site-4 (last seen 10 min ago) and 2 more")
    assert waiting_for(*many[:5]) == reason.removesuffix(" and 2 more")


def test_a_run_waits_for_enrolments_where_no_more_site_could_come() -> None:
    assert waiting_for() == "0 of 2 sites online: waiting for more sites to enroll"
    others = (a_site("bergen", scanner="ct"), a_site("oslo", scanner="mri"))
    assert waiting_for(*others, labels={"scanner": "mri"}) == (
        "1 of 2 sites online: waiting for more sites to enroll"
    )


def test_sites_that_wait_for_approval_are_what_the_run_waits_for() -> None:
    pending = [Candidate(name, {}, NOW, SiteState.PENDING) for name in ("rome", "oslo")]
    assert waiting_for(*pending) == ("0 of 2 sites online: waiting for the approval of oslo, rome")
    assert waiting_for(*pending, a_site("bergen", 60 * 60)) == (
        "0 of 2 sites online: waiting for bergen (last seen 60 min ago) and for "
        "the approval of oslo, rome"
    )
