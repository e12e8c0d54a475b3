"""The grammar behind the made-up languages: events drawn at random, and the rules that put them into words.

An event is who does what, to what, for whom, where and when. It is drawn without regard to any language; a language
then decides the order of the words and how roles, number, tense and person are marked. Everything in an event can be
recovered from its source sentence, so the target sentence is determined up to the two coin flips stated below.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate

SHORTEST, LONGEST = 4, 16  # words of a sentence, in every language
UNIFORMS = 64  # random numbers set aside for an event
SYNONYM_NOISE = 0.25  # share of the choices between two target synonyms that go against the rule, at random
FRONTING = 0.3  # share of the target's adverbs of time that open the sentence instead of closing it, at random

# How many concepts there are of each kind. Beings act and receive; what may be acted on depends on the verb's kind.
KINDS = {
    "being": 70,
    "thing": 90,
    "place": 30,
    "act": 16,  # verbs without an object
    "meet": 28,  # verbs whose object is a being
    "handle": 36,  # verbs whose object is a thing
    "give": 10,  # verbs whose object is a thing and that have a receiver
    "quality": 50,
    "time": 16,
}
FIRST = dict(zip(KINDS, accumulate(KINDS.values(), initial=0), strict=False))  # number of the first concept of a kind
CONCEPTS = sum(KINDS.values())
OBJECTS = {"act": "", "meet": "being", "handle": "thing", "give": "thing"}  # the kind of a verb's object
PRONOUNS = ("1s", "2s", "3s a", "3s b", "1p", "2p", "3p")  # two genders in the third person singular
CASES = ("accusative", "dative", "locative")
ARTICLES = ("definite", "plural", "definite plural")
TENSES = ("present", "past", "future")
PARTICLES = (*CASES, *ARTICLES, *TENSES[1:], "relative", "not", "and")

_zipf = {}  # cumulated probabilities, 1/rank within each kind
for _kind, _size in KINDS.items():
    _weights = list(accumulate(1 / rank for rank in range(1, _size + 1)))
    _zipf[_kind] = [weight / _weights[-1] for weight in _weights[:-1]]


@dataclass(slots=True)
class Phrase:
    """A noun with what belongs to it. ``joined`` is a second noun after "and"; ``relative`` a verb and its object.

    >>> Phrase(FIRST["being"] + 3, plural=True, definite=True).concept  # the fourth being, several of it
    3
    """

    concept: int
    plural: bool
    definite: bool
    adjective: int | None = None
    joined: Phrase | None = None
    relative: tuple[int, Phrase] | None = None


@dataclass(slots=True)
class Event:
    """What a sentence says. The agent is a phrase or a pronoun; ``person`` is what a verb agrees with.

    >>> event = Event(FIRST["act"], "past", negated=False, person=0, agent=None)  # I did the first act
    >>> PRONOUNS[event.person]
    '1s'
    """

    verb: int
    tense: str
    negated: bool
    person: int
    agent: Phrase | None
    patient: Phrase | None = None
    recipient: Phrase | None = None
    place: Phrase | None = None
    time: int | None = None
    flips: list[float] = field(default_factory=list)  # one a synonym of the target; the last is for fronting


@dataclass(frozen=True)
class Language:
    """One row of the table of languages; its words are made by `addends.runs.toy`."""

    code: str
    family: str
    branch: str
    order: str  # of subject, object and verb: "SOV", "SVO" or "VSO"
    marking: str  # of roles, number, tense and person: "suffixes", "particles" or "none" (order alone shows roles)
    adjective: str  # "before" or "after" its noun
    pronouns: str  # as subject: "dropped" (the verb shows the person), "optional" or "kept"
    free: float  # share of clauses in which subject and object change places
    replaced: float  # share of stems not inherited from the family
    change: tuple[str, str]  # regular sound change: each letter of the first string became that of the second


def draw(uniforms: list[float]) -> Event:
    """An event read off ``UNIFORMS`` random numbers in [0, 1).

    Options are taken only while every language can still say the event in ``LONGEST`` words, and are forced where a
    language that drops pronouns and has no articles would stay below ``SHORTEST``.
    """
    flips, u = uniforms[:20], iter(uniforms[20:]).__next__
    frame = _pick(u, act=0.2, meet=0.3, handle=0.35, give=0.15)
    event = Event(_concept(frame, u), _pick(u, present=0.4, past=0.4, future=0.2), u() < 0.15, 0, None, flips=flips)
    room, words = LONGEST - 3, 1  # upper bound of the words still free; lower bound of the words taken
    if u() < 0.3:
        event.person = int(u() * len(PRONOUNS))
        room -= 1
    else:
        event.agent = _phrase("being", u)
        if u() < 0.12:
            event.agent.joined = _phrase("being", u)
        room, words = (room - 5, words + 3) if event.agent.joined else (room - 2, words + 1)
        many = event.agent.plural or event.agent.joined is not None
        event.person = 6 if many else 2 + event.agent.concept % 2
    acted_on = OBJECTS[frame]
    if acted_on:
        event.patient = _phrase(acted_on, u)
        room, words = room - 3, words + 1
    if frame == "give":
        event.recipient = _phrase("being", u)
        room, words = room - 3, words + 1
    heads = [phrase for phrase in (event.agent, event.patient) if phrase and not phrase.joined]
    if heads and room >= 5 and u() < 0.2:
        verb = _pick(u, meet=0.5, handle=0.5)
        heads[int(u() * len(heads))].relative = (_concept(verb, u), _phrase(OBJECTS[verb], u))
        room, words = room - 5, words + 2
    if room >= 1 and (u() < 0.45 or words < SHORTEST):
        event.time = _concept("time", u)
        room, words = room - 1, words + 1
    if room >= 3 and (u() < 0.3 or words < SHORTEST):
        event.place = _phrase("place", u)
        room, words = room - 3, words + 1
    for phrase in (event.place, event.patient, event.agent, event.recipient):
        if phrase and room >= 1 and (u() < 0.3 or words < SHORTEST):
            phrase.adjective = _concept("quality", u)
            room, words = room - 1, words + 1
    return event


def spell_source(event: Event, language: Language, stems: list[str], marks: dict[str, str], noise: list[float]) -> str:
    """The event in a source language; three numbers in [0, 1) decide what the language leaves open.

    Which are: where the adverb of time stands, whether subject and object change places, and whether a pronoun that
    may be left out is.
    """
    suffixing = language.marking == "suffixes"

    def noun(phrase: Phrase, case: str | None) -> list[str]:
        words, after, stem = [], [], stems[phrase.concept]
        if suffixing:
            stem += marks["plural"] * phrase.plural + marks["definite"] * phrase.definite + marks.get(case or "", "")
        else:
            article = " ".join(["definite"] * phrase.definite + ["plural"] * phrase.plural)
            if case and language.marking == "particles":
                words.append(marks[case])
            if article:
                words.append(marks[article])
        if phrase.relative:
            verb, patient = phrase.relative
            if language.order == "SOV":  # the clause stands before its noun and its verb takes a suffix
                words += [*noun(patient, "accusative"), stems[verb] + marks["relative"]]
            else:
                after = [marks["relative"], stems[verb], *noun(patient, "accusative")]
        adjective = [] if phrase.adjective is None else [stems[phrase.adjective]]
        words += [*adjective, stem] if language.adjective == "before" else [stem, *adjective]
        if phrase.joined:
            after = [marks["and"], *noun(phrase.joined, case)]
        return words + after

    tense = marks.get(event.tense, "")
    negation = [marks["not"]] if event.negated else []
    if suffixing:
        verb = [*negation, stems[event.verb] + tense + marks["agreement " + PRONOUNS[event.person]]]
    else:
        verb = [*negation, *([tense] if tense else []), stems[event.verb]]
    kept = language.pronouns == "kept" or (language.pronouns == "optional" and noise[2] < 0.5)
    subject = noun(event.agent, None) if event.agent else [marks[PRONOUNS[event.person]]] if kept else []
    place = noun(event.place, "locative") if event.place else []
    recipient = noun(event.recipient, "dative") if event.recipient else []
    patient = noun(event.patient, "accusative") if event.patient else []
    time = [] if event.time is None else [stems[event.time]]
    early, late = (time, []) if noise[0] < 0.5 else ([], time)
    if patient and noise[1] < language.free:
        subject, patient = patient, subject
    if language.order == "SOV":
        words = [*early, *subject, *place, *recipient, *patient, *late, *verb]
    else:
        opening = [*subject, *verb] if language.order == "SVO" else [*verb, *subject]
        words = [*early, *opening, *patient, *recipient, *place, *late]
    return " ".join(words)


def spell_target(event: Event, words: list[tuple[str, ...]], marks: dict[str, str], flipped: bool = True) -> str:
    """The event in the target language; without the coin flips if ``flipped`` is False.

    Of a verb's two synonyms the second goes with plural subjects; of any other word's, with events of the past. A
    share ``SYNONYM_NOISE`` of these choices is the other way round, and a share ``FRONTING`` of adverbs comes first.
    """
    flip = iter(event.flips).__next__

    def word(concept: int, second: bool) -> str:
        if len(words[concept]) == 1:
            return words[concept][0]
        return words[concept][second != (flipped and flip() < SYNONYM_NOISE)]

    past = event.tense == "past"

    def noun(phrase: Phrase) -> list[str]:
        article = [marks["definite"]] if phrase.definite else [] if phrase.plural else [marks["indefinite"]]
        adjective = [] if phrase.adjective is None else [word(phrase.adjective, past)]
        result = [*article, *adjective, word(phrase.concept, past) + marks["plural"] * phrase.plural]
        if phrase.relative:
            verb, patient = phrase.relative
            result += [marks["relative"], word(verb, phrase.plural), *noun(patient)]
        if phrase.joined:
            result += [marks["and"], *noun(phrase.joined)]
        return result

    result = noun(event.agent) if event.agent else [marks[PRONOUNS[event.person]]]
    result += [marks["future"]] * (event.tense == "future") + [marks["not"]] * event.negated
    result.append(word(event.verb, event.person >= PRONOUNS.index("1p")) + marks["past"] * past)
    result += noun(event.patient) if event.patient else []
    result += [marks["dative"], *noun(event.recipient)] if event.recipient else []
    result += [marks["locative"], *noun(event.place)] if event.place else []
    if event.time is not None:
        time = word(event.time, past)
        result = [time, *result] if flipped and event.flips[-1] < FRONTING else [*result, time]
    return " ".join(result)


def _pick(u: Callable[[], float], **shares: float) -> str:
    return list(shares)[min(bisect(list(accumulate(shares.values())), u()), len(shares) - 1)]


def _concept(kind: str, u: Callable[[], float]) -> int:
    return FIRST[kind] + bisect(_zipf[kind], u())


def _phrase(kind: str, u: Callable[[], float]) -> Phrase:
    return Phrase(_concept(kind, u), u() < 0.3, u() < 0.55)
