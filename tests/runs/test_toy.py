"""The made-up languages: the same seed says the same things everywhere, and what is hard is hard at stated rates."""

import difflib
import itertools
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from addends.errors import InputError
from addends.runs.toy import corpus as toy
from addends.runs.toy import grammar as toy_grammar
from addends.runs.toy import lexicon as toy_lexicon
from tests.runs import toy_reference


@pytest.fixture(scope="module")
def spoken():
    """4,000 events in every language."""
    return {language: toy.pairs(language, 4000, seed=5) for language in toy.LANGUAGES}


# Identities


@pytest.mark.parametrize("language", toy.LANGUAGES)
def test_a_seed_is_a_corpus_and_a_larger_count_appends(language):
    long, short = toy.pairs(language, 700, 3), toy.pairs(language, 200, 3)
    pd.testing.assert_frame_equal(long.head(200), short)
    assert list(short["sentence"].iloc[[0, 123]]) == [f"toy-{language}-000000", f"toy-{language}-000123"]
    assert (long["source"] != toy.pairs(language, 700, 4)["source"]).mean() > 0.99


def test_another_process_with_another_hash_seed_says_the_same():
    code = "from addends.runs.toy import corpus; print(corpus.pairs('uri', 300, 8).to_csv())"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert runs[0].decode() == toy.pairs("uri", 300, 8).to_csv() + "\n"


def test_numpys_global_state_is_neither_read_nor_changed():
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = toy.pairs("kip", 50, 1)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    pd.testing.assert_frame_equal(first, toy.pairs("kip", 50, 1))


def test_languages_are_parallel(spoken):
    for first, second in itertools.combinations(toy.LANGUAGES, 2):
        assert list(spoken[first]["target"]) == list(spoken[second]["target"])
        assert (spoken[first]["source"] != spoken[second]["source"]).mean() > 0.95
        assert (spoken[first]["sentence"].str[-6:] == spoken[second]["sentence"].str[-6:]).all()


@pytest.mark.parametrize("language", toy.LANGUAGES)
def test_the_source_says_all_that_the_rules_need(language, monkeypatch):
    """One source never has two rule-following targets.

    With one concept of each kind, the being and the thing homonyms, sources recur and only the structure varies.
    """
    only = toy_lexicon.HOMONYMS[0]
    monkeypatch.setattr(toy_grammar, "_zipf", {kind: [0.0] * only for kind in toy_grammar.KINDS})
    frame = toy.pairs(language, 8000, seed=11)
    frame["rule"] = toy_reference.oracle(frame["sentence"], 11)
    recurring = frame.groupby("source").filter(lambda group: len(group) > 1)
    assert len(recurring) > 1500
    assert recurring.groupby("source")["rule"].nunique().max() == 1
    assert recurring.groupby("source")["target"].nunique().max() > 1  # the coins do fall differently


@pytest.mark.parametrize("language", toy.LANGUAGES)
def test_homonyms_are_the_stated_ones_and_stems_differ_otherwise(language):
    lexicon = toy_reference.stems(language)
    alike = lexicon[lexicon["stem"].duplicated(keep=False)]
    assert alike.groupby("stem")["kind"].agg(tuple).unique().tolist() == [("being", "thing")]
    assert alike.groupby("stem")["rank"].agg(lambda ranks: ranks.max() - ranks.min()).max() == 0
    assert len(alike) == 2 * len(toy_lexicon.HOMONYMS)


def test_a_homonym_is_told_by_its_verb_and_only_by_it():
    language, seed = toy_lexicon.TABLE[4], [0.9] * toy_grammar.UNIFORMS
    being, thing = (toy_grammar.FIRST[kind] + toy_lexicon.HOMONYMS[0] for kind in ("being", "thing"))
    words = toy_lexicon.words_of_source(language)
    said = []
    for verb, concept in (("meet", being), ("handle", thing)):
        patient = toy_grammar.Phrase(concept, plural=False, definite=True)
        event = toy_grammar.Event(toy_grammar.FIRST[verb], "past", False, 0, None, patient, flips=seed)
        source = toy_grammar.spell_source(event, language, *words, [0.9, 0.9, 0.9])
        said.append((source.split(), toy_grammar.spell_target(event, *toy_lexicon.words_of_target()).split()))
    (source, target), (other_source, other_target) = said
    assert [a == b for a, b in zip(source, other_source, strict=True)] == [True, True, False, True, True]
    assert target[-1] != other_target[-1]


def test_a_verbs_kind_decides_what_it_acts_on():
    kinds = toy_reference.stems("ora")["kind"].tolist()
    wanted = {"act": (None, None), "meet": ("being", None), "handle": ("thing", None), "give": ("thing", "being")}
    seen = set()
    for event in itertools.islice(toy._events(2), 2000):
        roles = tuple(phrase and kinds[phrase.concept] for phrase in (event.patient, event.recipient))
        assert roles == wanted[kinds[event.verb]]
        seen.add(kinds[event.verb])
        for phrase in filter(None, (event.agent, event.patient)):
            if phrase.relative:
                verb, patient = phrase.relative
                assert (kinds[patient.concept], None) == wanted[kinds[verb]]
                seen.add(f"relative {kinds[verb]}")
    assert seen == {*wanted, "relative meet", "relative handle"}


def test_sides_have_between_four_and_sixteen_words(spoken):
    for side in [frame[name] for frame in spoken.values() for name in ("source", "target")]:
        words = side.str.split().str.len()
        assert toy_grammar.SHORTEST == 4 <= words.min()
        assert words.max() <= 16 == toy_grammar.LONGEST
    assert spoken["ora"]["target"].str.split().str.len().nunique() >= 10


def test_the_documentation_shows_the_table_and_the_examples_as_they_are():
    table = toy_reference.describe()
    assert tuple(table["language"]) == toy.LANGUAGES
    assert table.notna().all(axis=None)
    for row in table.itertuples():
        assert f"    {row.language}  {row.example}\n" in toy.__doc__
        line = next(line for line in toy.__doc__.splitlines() if line.startswith(f"{row.language} "))
        stated = f"{row.free:.2f} {row.replaced:.2f} {row.sound_change}"
        assert line.split() == [
            *(row.language, row.family, row.branch, row.order, row.marking, row.adjective, row.pronouns),
            *stated.split(),
        ]


# Rates and relatedness


def test_relatives_share_stems_and_strangers_do_not():
    stems = {language: toy_reference.stems(language)["stem"] for language in toy.LANGUAGES}
    family = toy_reference.describe().set_index("language")["family"]
    stated, alike = toy_reference.relatedness(), {}
    for first, second in itertools.combinations(toy.LANGUAGES, 2):
        pair = zip(stems[first], stems[second], strict=True)
        alike[first, second] = np.mean([difflib.SequenceMatcher(None, a, b).ratio() for a, b in pair])
    related = [score for (a, b), score in alike.items() if family[a] == family[b]]
    unrelated = [score for (a, b), score in alike.items() if family[a] != family[b]]
    assert min(related) > max(unrelated) + 0.2
    assert alike["ora", "ore"] > alike["ora", "uri"]  # the same branch is nearer than the same family
    assert (stated.to_numpy() == stated.to_numpy().T).all()
    assert (np.diag(stated) == 1).all()
    for (first, second), share in {key: stated.loc[key] for key in alike}.items():
        identical = (stems[first] == stems[second]).mean()
        assert identical <= share + 0.05 if family[first] == family[second] else share == 0 and identical < 0.02


def test_undoing_the_sound_changes_gives_back_the_stated_share():
    stated, ora = toy_reference.relatedness(), toy_reference.stems("ora")["stem"]
    own = toy_reference.stems("ora")["kind"] != "thing"  # things include homonyms, spelled as beings
    for row in toy_lexicon.TABLE[1:3]:
        change = str.maketrans(*row.change)
        assert len(set(row.change[1])) == len(row.change[1])  # one letter for one letter
        same = ora.str.translate(change) == toy_reference.stems(row.code)["stem"]
        assert same[own].mean() == pytest.approx(stated.loc["ora", row.code], abs=0.03)
        assert stated.loc["ora", row.code] == pytest.approx(1 - row.replaced, abs=0.06)


def test_the_coins_fall_at_the_stated_rates(spoken):
    """Measured on the words: a side by side reading of the targets and of the rule-following ones."""
    frame = spoken["kip"]
    lexicon = toy_reference.stems("kip")
    two = {word for pair in lexicon.dropna()[["target", "synonym"]].to_numpy() for word in pair}
    times = set(lexicon.loc[lexicon["kind"] == "time", ["target", "synonym"]].to_numpy().ravel()) - {None, np.nan}
    against, choices, fronted, adverbs = 0, 0, 0, 0
    for said, rule in zip(frame["target"], toy_reference.oracle(frame["sentence"], 5), strict=True):
        said, rule = said.split(), rule.split()
        if rule[-1] in times:
            adverbs += 1
            if said[0] in times:
                fronted += 1
                said = [*said[1:], said[0]]
        for a, b in zip(said, rule, strict=True):
            if b in two or b[:-2] in two:  # forms are two letters long
                choices, against = choices + 1, against + (a != b)
            else:
                assert a == b
    for rate, count, stated in (
        (against / choices, choices, toy_grammar.SYNONYM_NOISE),
        (fronted / adverbs, adverbs, toy_grammar.FRONTING),
    ):
        assert count > 1500
        assert abs(rate - stated) < 4 * (stated * (1 - stated) / count) ** 0.5


def test_the_ceiling_is_where_the_documentation_says():
    sacrebleu = pytest.importorskip("sacrebleu")
    _, sample = toy.split("vel", 1, 1000, seed=2)
    best, targets = toy_reference.oracle(sample["sentence"], 2), [list(sample["target"])]
    assert sacrebleu.corpus_chrf(best, targets).score == pytest.approx(89, abs=1.5)
    assert sacrebleu.corpus_bleu(best, targets, force=True).score == pytest.approx(85, abs=2.5)


def test_frequencies_follow_zipf():
    events = itertools.islice(toy._events(1), 6000)
    counts = pd.Series([event.agent.concept for event in events if event.agent]).value_counts()
    counts = counts.reindex(range(toy_grammar.KINDS["being"]), fill_value=0)
    assert counts.max() >= 20 * counts.median()  # rank 1 against rank 35
    seen = counts.iloc[:20]
    slope = np.polyfit(np.log(np.arange(1, 21)), np.log(seen), 1)[0]
    assert slope == pytest.approx(-1, abs=0.15)


# Splits


@pytest.mark.parametrize("language", ["ora", "kip"])
def test_no_held_out_side_is_in_training(language, monkeypatch):
    monkeypatch.setattr(toy_grammar, "_zipf", {kind: [0.5, 0.5] for kind in toy_grammar.KINDS})  # sides recur often
    train, held_out = toy.split(language, 3000, 400, seed=6)
    assert (len(train), len(held_out)) == (3000, 400)
    for side in ("source", "target"):
        assert not set(train[side]) & set(held_out[side])
        assert held_out[side].is_unique
    assert not set(train["sentence"]) & set(held_out["sentence"])
    numbers = train["sentence"].str[-6:].astype(int)
    assert numbers.is_monotonic_increasing
    assert numbers.iloc[-1] - numbers.iloc[0] >= 3000  # some were dropped, and made up for
    everything = toy.pairs(language, numbers.iloc[-1] + 1, 6)
    left = everything[~everything["sentence"].isin([*train["sentence"], *held_out["sentence"]])]
    after = left[left["sentence"] > held_out["sentence"].iloc[-1]]
    assert (after["source"].isin(held_out["source"]) | after["target"].isin(held_out["target"])).all()


def test_every_language_and_every_size_of_training_holds_out_the_same_sentences():
    sizes = dict(zip(toy.LANGUAGES, (1, 50, 90, 40, 9), strict=True))
    samples = [toy.split(language, size, 60, seed=9) for language, size in sizes.items()]
    numbers = [list(held_out["sentence"].str[-6:]) for _, held_out in samples]
    assert all(other == numbers[0] for other in numbers)
    pd.testing.assert_frame_equal(toy.split("uri", 30, 60, 9)[0], samples[2][0].head(30))


# Bad input


def test_an_unknown_language_gets_the_list_and_a_suggestion():
    for call in (lambda code: toy.pairs(code, 1, 1), lambda code: toy.split(code, 1, 1, 1)):
        with pytest.raises(InputError, match=r"language='orra'.*ora, ore, uri, vel, kip\. Did you mean 'ora'\?"):
            call("orra")
    with pytest.raises(InputError, match=r"addends\.runs\.toy\.corpus says"):
        toy.pairs("xxx", 1, 1)


@pytest.mark.parametrize("value", [0, -3, 2.0, "7", None, True])
def test_a_count_is_a_positive_integer(value):
    with pytest.raises(InputError, match=r"count=.*integer of at least 1"):
        toy.pairs("ora", value, 1)
    with pytest.raises(InputError, match=r"train=.*integer of at least 1"):
        toy.split("ora", value, 1, 1)
    with pytest.raises(InputError, match=r"held_out=.*integer of at least 1"):
        toy.split("ora", 1, value, 1)


@pytest.mark.parametrize("value", [-1, 0.5, None])
def test_a_seed_is_an_integer_not_below_zero(value):
    for call in (lambda seed: toy.pairs("ora", 1, seed), lambda seed: toy.split("ora", 1, 1, seed)):
        with pytest.raises(InputError, match=r"seed=.*integer of at least 0"):
            call(value)


def test_numpy_integers_are_integers():
    pd.testing.assert_frame_equal(toy.pairs("ora", np.int64(5), np.int32(2)), toy.pairs("ora", 5, 2))
