"""Corpora: what is read is what stands in the file, and what is held out stays out of training."""

from __future__ import annotations

import unicodedata

import numpy as np
import pandas as pd
import pytest

from addends.errors import DataError, InputError
from addends.runs import Condition, Run, Seeds, Suite, corpora, read_suite, sentences


def corpus(*pairs: tuple[str, str]) -> pd.DataFrame:
    ids = [f"x-{number:06d}" for number in range(1, len(pairs) + 1)]
    sources, targets = zip(*pairs, strict=True) if pairs else ((), ())
    return pd.DataFrame({"sentence": ids, "language": "fra", "source": list(sources), "target": list(targets)})


@pytest.fixture
def numbers():
    """Two hundred pairs, of which pairs of neighbours share a side but for its case and punctuation."""
    return corpus(*[(f"Phrase {n // 2}." if n % 2 else f"phrase {n // 2} !", f"Sentence {n}") for n in range(200)])


def test_tsv_gives_one_row_a_line(tmp_path):
    file = tmp_path / "fra-eng.tsv"
    file.write_bytes("Il pleut.\tIt rains.\r\n Où ? \t Where?\tCC-BY 2.0\n木。\tA tree.".encode())
    frame = corpora.read_tsv(file, "fra")
    assert list(frame) == ["sentence", "language", "source", "target"]
    assert frame["sentence"].tolist() == ["fra-eng-000001", "fra-eng-000002", "fra-eng-000003"]
    assert frame["source"].tolist() == ["Il pleut.", "Où ?", "木。"]
    assert frame["target"].tolist() == ["It rains.", "Where?", "A tree."]
    assert frame["language"].unique().tolist() == ["fra"]


def test_a_line_separator_inside_a_sentence_does_not_end_it(tmp_path):
    file = tmp_path / "a.tsv"
    file.write_text("un\u2028deux\tone\u2029two\n", encoding="utf-8")
    pairs = corpora.read_tsv(file, "fra")[["source", "target"]].to_numpy().tolist()
    assert pairs == [["un\u2028deux", "one\u2029two"]]
    for side, line in (("fr", "un\u2028deux\ntrois"), ("en", "one\ntwo\u2029three\n")):
        (tmp_path / f"a.{side}").write_text(line, encoding="utf-8")
    assert len(corpora.read_moses(tmp_path / "a.fr", tmp_path / "a.en", "fra")) == 2


def test_a_byte_order_mark_is_no_part_of_the_first_sentence(tmp_path):
    file = tmp_path / "a.tsv"
    file.write_text("Il pleut.\tIt rains.\n", encoding="utf-8-sig")
    assert corpora.read_tsv(file, "fra")["source"].tolist() == ["Il pleut."]


def test_moses_files_read_as_the_same_pairs(tmp_path):
    source, target = tmp_path / "Tatoeba.en-fr.fr", tmp_path / "Tatoeba.en-fr.en"
    source.write_text("Il pleut.\nOù\tça ?\n", encoding="utf-8")
    target.write_text("It rains.\nWhere?", encoding="utf-8")
    frame = corpora.read_moses(source, target, "fra")
    assert list(frame) == ["sentence", "language", "source", "target"]
    assert frame["sentence"].tolist() == ["Tatoeba.en-fr.fr-000001", "Tatoeba.en-fr.fr-000002"]
    assert frame["source"].tolist() == ["Il pleut.", "Où\tça ?"]
    assert frame["target"].tolist() == ["It rains.", "Where?"]


@pytest.mark.parametrize("line", ["no tab", "\tno source", "no target\t", "   \tblank source", ""])
def test_a_line_that_is_no_pair_is_named(tmp_path, line):
    file = tmp_path / "fra-eng.tsv"
    file.write_text(f"Il pleut.\tIt rains.\n{line}\nOui.\tYes.\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"fra-eng\.tsv, line 2 is not .*<TAB>English.*Mend"):
        corpora.read_tsv(file, "fra")


def test_a_line_that_is_not_utf8_is_named(tmp_path):
    file = tmp_path / "fra-eng.tsv"
    file.write_bytes(b"Il pleut.\tIt rains.\n" + "Où ?\tWhere?\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"fra-eng\.tsv, line 2 is not UTF-8"):
        corpora.read_tsv(file, "fra")


@pytest.mark.parametrize(
    "character", ["\0", "\x0b", "\x1b", "\x7f", "\x85", "\r"], ids=lambda character: f"U+{ord(character):04X}"
)
def test_a_control_character_is_refused_by_line(tmp_path, character):
    file = tmp_path / "fra-eng.tsv"
    file.write_bytes(f"Il pleut.\tIt rains.\r\nO{character}ui.\tYes.\r\n".encode())
    with pytest.raises(DataError, match=r"fra-eng\.tsv, line 2 is not free of control characters"):
        corpora.read_tsv(file, "fra")
    source, target = tmp_path / "a.fr", tmp_path / "a.en"
    source.write_text("Oui.\n")
    target.write_bytes(f"Y{character}es.\n".encode())
    with pytest.raises(DataError, match=r"a\.en, line 1 is not free of control characters"):
        corpora.read_moses(source, target, "fra")


def test_all_faults_of_a_file_are_counted_and_the_first_lines_named(tmp_path):
    file = tmp_path / "fra-eng.tsv"
    bad = ["no tab", "a\tb", *["also no tab"] * 4, "nul\0\ttwo", "\xe9t\xe9\tsummer", "c\td"]
    file.write_bytes("\n".join(bad).encode("latin-1"))
    with pytest.raises(DataError) as caught:
        corpora.read_tsv(file, "fra")
    assert str(caught.value) == (
        f"{file}, 5 lines are not 'source<TAB>English' with both sides filled: lines 1, 3, 4, ... (the first reads "
        "'no tab'); line 7 is not free of control characters (it reads 'nul\\x00\\ttwo'); line 8 is not UTF-8 "
        "(it reads '\ufffdt\ufffd\\tsummer'). Mend or remove these lines."
    )


def test_carriage_returns_and_byte_order_mark_change_no_pair(tmp_path):
    plain, windows = tmp_path / "a" / "x.tsv", tmp_path / "b" / "x.tsv"
    for file, text in ((plain, "un\tone\ndeux\ttwo\n"), (windows, "\ufeffun\tone\r\ndeux\ttwo\r\n")):
        file.parent.mkdir()
        file.write_bytes(text.encode())
    pd.testing.assert_frame_equal(corpora.read_tsv(plain, "fra"), corpora.read_tsv(windows, "fra"))


def test_pairs_that_repeat_are_kept_and_counted_with_their_lines(tmp_path):
    file = tmp_path / "x.tsv"
    file.write_text("un\tone\nun\ta\nun\tone\tCC\ndeux\ttwo\nun\tone\n")
    with pytest.warns(UserWarning, match=r"x\.tsv: 2 of 5 pairs repeat an earlier one \(lines 3, 5\)\. They are kept"):
        assert len(corpora.read_tsv(file, "fra")) == 5


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()], ids=["absent", "a folder"])
def test_a_missing_file_is_named(tmp_path, make):
    make(tmp_path / "gone.tsv")
    with pytest.raises(DataError, match=r"gone\.tsv is missing"):
        corpora.read_tsv(tmp_path / "gone.tsv", "fra")


def test_moses_files_that_do_not_run_parallel_are_refused(tmp_path):
    source, target = tmp_path / "a.fr", tmp_path / "a.en"
    source.write_text("un\ndeux\ntrois\n")
    target.write_text("one\ntwo\n")
    with pytest.raises(DataError, match=r"a\.fr has 3 lines and .*a\.en has 2"):
        corpora.read_moses(source, target, "fra")
    target.write_text("one\n \nthree\n")
    with pytest.raises(DataError, match=r"a\.en, line 2 is empty"):
        corpora.read_moses(source, target, "fra")


def test_the_same_seed_holds_out_the_same_pairs_whatever_else_was_drawn(numbers):
    first = corpora.hold_out(numbers, 30, seed=5)
    np.random.seed(1)  # noqa: NPY002 - the global generator is what must not matter
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    pd.testing.assert_frame_equal(corpora.hold_out(numbers, 30, seed=5), first)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    assert corpora.hold_out(numbers, 30, seed=6)["sentence"].tolist() != first["sentence"].tolist()


def test_held_out_pairs_are_pairs_of_the_file_in_its_order_and_share_no_side(numbers):
    held = corpora.hold_out(numbers, 100, seed=5)
    assert len(held) == 100
    assert held["sentence"].is_monotonic_increasing
    merged = held.merge(numbers, on=list(numbers), how="left", indicator=True)
    assert (merged["_merge"] == "both").all()
    for side in ("source", "target"):
        assert held[side].map(corpora.normal_form).is_unique


def test_every_pair_that_can_be_held_out_is_drawn_equally_often(numbers):
    drawn = pd.concat([corpora.hold_out(numbers, 20, seed) for seed in range(200)])["sentence"].value_counts()
    assert len(drawn) == 100
    assert drawn.mean() == 40  # 200 draws of 20 of 100
    assert drawn.std() == pytest.approx((200 * 0.2 * 0.8) ** 0.5, rel=0.3)  # binomial


@pytest.mark.parametrize("count", [0, -1, 101])
def test_more_than_there_is_cannot_be_held_out(numbers, count):
    with pytest.raises(InputError, match=f"count={count}: between 1 and 100 pairs"):
        corpora.hold_out(numbers, count, seed=1)


def test_variants_of_a_held_out_side_fall_out_and_nothing_else():
    held = corpus(("L'été arrive.", "Summer's here."))
    pairs = {
        ("L'été arrive.", "Here comes summer."): False,  # the source itself
        ("L’ÉTÉ ARRIVE !", "Now."): False,  # its case, apostrophe, punctuation
        (unicodedata.normalize("NFD", "l été  arrive"), "Then."): False,  # its encoding and spacing
        ("Voilà l'été.", "summers here"): False,  # the target
        ("C'est ici.", "“SUMMER’S HERE!”"): False,
        ("L'ete arrive.", "No accents."): True,  # another word
        ("L'été arriva.", "Summer came."): True,
        ("L'été arrive ici.", "Summer's here now."): True,
        ("Summer's here.", "L'été arrive."): True,  # the sides of a pair are compared each with its own
    }
    kept = corpora.drop_overlap(corpus(*pairs), held)
    assert list(zip(kept["source"], kept["target"], strict=True)) == [pair for pair, stays in pairs.items() if stays]
    assert kept.index.tolist() == list(range(len(kept)))


def test_what_overlaps_nothing_is_kept_whole(numbers):
    held = corpus(("autre", "other"))
    pd.testing.assert_frame_equal(corpora.drop_overlap(numbers, held), numbers)
    assert corpora.drop_overlap(numbers, numbers).empty


def test_digits_and_combining_vowels_tell_sentences_apart():
    assert corpora.normal_form("Il a 3 ans.") != corpora.normal_form("Il a 4 ans.")
    assert corpora.normal_form("कि") != corpora.normal_form("की")


def test_the_data_folder_is_what_the_variable_names(tmp_path, monkeypatch):
    monkeypatch.setenv("ADDENDS_DATA", str(tmp_path))
    assert corpora.data_folder() == tmp_path
    monkeypatch.setenv("ADDENDS_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"ADDENDS_DATA='.*gone' is no folder"):
        corpora.data_folder()
    for unset in (lambda: monkeypatch.setenv("ADDENDS_DATA", ""), lambda: monkeypatch.delenv("ADDENDS_DATA")):
        unset()
        with pytest.raises(DataError, match=r"ADDENDS_DATA is not set.*corpora/train"):
            corpora.data_folder()


def some(count: int) -> pd.DataFrame:
    numbers = [str(number) for number in range(count)]
    return pd.DataFrame({"sentence": numbers, "language": "fra", "source": numbers, "target": numbers})


def test_fewer_pairs_of_a_seed_are_among_more_and_the_seed_decides():
    pairs = some(1000)
    few, more = (corpora.draw(pairs, count, 31)["sentence"] for count in (100, 400))
    assert (len(few), len(more)) == (100, 400)
    assert set(few) < set(more)
    assert list(few) == sorted(few, key=int)  # in the order of the file
    assert set(corpora.draw(pairs, 100, 32)["sentence"]) != set(few)
    assert corpora.draw(pairs, None, 31) is pairs
    assert set(corpora.draw(pairs, 1000, 31)["sentence"]) == set(pairs["sentence"])


@pytest.mark.parametrize("count", [0, -1, 1001])
def test_more_pairs_than_there_are_cannot_be_drawn(count):
    with pytest.raises(InputError, match=f"pairs={count}: between 1 and 1000 are possible"):
        corpora.draw(some(1000), count, 31)


@pytest.fixture(scope="module")
def european(data_folder):
    return read_suite("european")


def of_language(suite: Suite, language: str) -> pd.DataFrame:
    return sentences.training_pairs(suite, Run(language, Condition((language,)), Seeds(1, 1, 1)))


def test_three_hundred_french_sentences_are_held_out(european):
    held = sentences.held_out(european)
    assert len(held) == 300
    assert held["sentence"].is_unique
    assert held["language"].unique().tolist() == ["fra"]


@pytest.mark.parametrize("language", ["fra", "deu", "pol", "bul", "cmn"])
def test_no_training_pair_shares_a_side_with_a_held_out_one(european, data_folder, language):
    def plain(text):  # written anew: alphanumeric characters alone, in lower case
        return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())

    held, pairs = sentences.held_out(european), of_language(european, language)
    everything = corpora.read_tsv(data_folder / "corpora" / "train" / f"{language}-eng.tsv", language)
    for side in ("source", "target"):
        assert not set(pairs[side].map(plain)) & set(held[side].map(plain))
    assert 0 < len(everything) - len(pairs) < 0.05 * len(everything)
    dropped = everything[~everything["sentence"].isin(pairs["sentence"])]
    sides = [
        dropped[side].map(corpora.normal_form).isin(set(held[side].map(corpora.normal_form)))
        for side in ("source", "target")
    ]
    assert (sides[0] | sides[1]).all()


@pytest.mark.slow
def test_two_thousand_further_sentences_stand_in_no_training_file_and_not_among_the_held_out(european, data_folder):
    def plain(text):
        return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())

    further, held = sentences.further(european), sentences.held_out(european)
    assert len(further) == 2000
    sides = {side: set(further[side].map(plain)) for side in ("source", "target")}
    assert len(sides["source"]) == len(sides["target"]) == 2000
    for language in european.corpus.languages:
        pairs = corpora.read_tsv(data_folder / "corpora" / "train" / f"{language}-eng.tsv", language)
        for side in sides:
            assert not sides[side] & set(pairs[side].map(plain))
    for side in sides:
        assert not sides[side] & set(held[side].map(plain))


def test_a_condition_that_asks_for_more_pairs_than_there_are_is_refused(european):
    run = Run("fra-much", Condition(("fra",), 10_000_000), Seeds(1, 1, 1))
    with pytest.raises(InputError, match="pairs=10000000: between 1 and"):
        sentences.training_pairs(european, run)


def test_sentences_are_read_one_a_line_and_faults_are_named(tmp_path):
    file = tmp_path / "sentences.txt"
    file.write_bytes("\ufeffLe chat.\r\n  Il pleut. \nun\u2028seul".encode())
    assert corpora.read_sentences(file) == ["Le chat.", "Il pleut.", "un\u2028seul"]
    file.write_bytes(b"a\n\nb\n")
    with pytest.raises(DataError, match=r"sentences\.txt, line 2 is empty"):
        corpora.read_sentences(file)
