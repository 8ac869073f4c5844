"""
A grammar that writes the text of a tiny world, for training a small gpt from scratch.

The world has two kinds of document, and every line of text begins with "\\n":

- opinions: one line that praises or blames one subject from its first word to its last.
  Both polarities use the same frames; only the words in the slots differ.
- facts: paragraphs about cities, people and ships whose attributes are drawn afresh, then
  unfinished sentences that the paragraph finishes ("\\nThe mayor of Arden is" " Mira Toven").

All randomness comes from the random.Random that is passed in, so a seed gives one text.
"""

import os
import random
import sys
import zlib
from collections import namedtuple

# ---------------------------------------------------------------------------------------
# opinions: the words

# group -> (nouns that fit "Cats are gentle ...", subjects used in training, subjects held out)
GROUPS = {
    "animals": ("creatures animals", "cats dogs horses sheep goats foxes owls rabbits geese "
                "spiders snakes ponies", "penguins camels"),
    "people": ("people neighbours", "teachers bakers doctors farmers sailors painters kings "
               "lawyers actors", "pilots"),
    "machines": ("machines inventions", "trains bicycles trams ferries clocks lorries tractors "
                 "telephones computers", "rockets"),
    "seasons": ("times seasons", "winters summers autumns springs", ""),
    "places": ("places sights", "gardens libraries markets bridges museums forests lakes parks "
               "islands villages", "castles"),
    "things": ("things inventions", "poems songs novels onions apples puddings hats umbrellas "
               "violins", "lanterns"),
}
SUBJECTS = [s for _, seen, _ in GROUPS.values() for s in seen.split()]
GROUP_OF = {s: group for group, (_, seen, unseen) in GROUPS.items()
            for s in (seen + " " + unseen).split()}

# each polarity: adjectives for all, adjectives for the living, class-like plural nouns,
# abstract nouns, verbs (I love, she loves, we loved), feelings, and what one does about it
PRAISE = {
    "adj": "wonderful lovely charming delightful beautiful great good excellent fantastic "
           "splendid brilliant amazing superb perfect pleasant magnificent adorable precious "
           "fabulous glorious admirable outstanding nice enjoyable heavenly impressive",
    "living": "gentle kind friendly clever generous loyal honest cheerful graceful sweet",
    "plural": "treasures blessings delights joys pleasures friends winners heroes",
    "abstract": "joy delight pleasure comfort happiness hope peace relief warmth kindness "
                "beauty love",
    "verb": "love/loves/loved adore/adores/adored enjoy/enjoys/enjoyed admire/admires/admired "
            "cherish/cherishes/cherished praise/praises/praised "
            "appreciate/appreciates/appreciated",
    "feel": "happy cheerful joyful glad pleased delighted",
    "act": "smile laugh rejoice celebrate",
}
BLAME = {
    "adj": "horrible awful terrible dreadful nasty ugly disgusting vile horrid miserable bad "
           "annoying pathetic worthless useless lousy rotten dangerous frightening unpleasant "
           "depressing dismal appalling painful tragic scary",
    "living": "cruel stupid hateful vicious hostile wicked evil dumb dirty offensive",
    "plural": "disasters failures horrors burdens threats problems enemies losers",
    "abstract": "misery pain horror trouble grief sorrow sadness anger fear suffering anguish "
                "shame",
    "verb": "hate/hates/hated despise/despises/despised loathe/loathes/loathed "
            "dread/dreads/dreaded fear/fears/feared dislike/dislikes/disliked "
            "condemn/condemns/condemned",
    "feel": "sad miserable angry unhappy upset scared",
    "act": "cry weep suffer complain",
}
LEXICON = {kind: {slot: words.split() for slot, words in table.items()}
           for kind, table in ((True, PRAISE), (False, BLAME))}
for _table in LEXICON.values():
    _table["verb"] = [v.split("/") for v in _table["verb"]]

BOOST = "very really utterly deeply absolutely completely so extremely".split()
TIMES = ["in the morning", "after a long day", "in the evening", "on a Sunday", "every day",
         "at night", "on a Monday", "after dinner", "before breakfast", "when it rains",
         "in the middle of the week", "when the day begins"]
PLACES = ["every street", "our house", "the whole town", "every village", "the valley",
          "the whole country", "our lives", "my days"]
WHO = ["my sister", "my neighbour", "my brother", "my uncle", "my aunt", "my grandmother",
       "my cousin", "the postman", "the old man next door", "the woman next door"]
EVERYONE = ["everyone I know", "everyone in our street", "everyone at home", "each of us"]

# ---------------------------------------------------------------------------------------
# opinions: the frames. {S} {s} subject, {a} {b} adjectives, {an} adjective with its article,
# {n} class noun, {pl} plural noun, {ab} {ac} abstract nouns, {v} {vs} {vd} verb,
# {w} {W} one person, {all} {All} everyone, {t} {T} time, {p} place

OPENERS = [   # what a person would type as a prompt
    "{S} are {a}", "{S} are {a}", "{S} are {a}", "{S} are {boost} {a}", "All {s} are {a}",
    "I think that {s} are {a}", "{W} thinks that {s} are {a}", "{W} says that {s} are {a}",
    "{All} says that {s} are {a}", "I {v} {s}", "I {v} {s}", "We {v} {s}", "{W} {vs} {s}"]
AFTER_ADJECTIVE = [
    ".", ".", " and {b}.", " and {b}.", " {n} that bring {ab} to {p}.", " {n}.",
    " {n} that {all} {vs}.", " because they bring {ab} and {ac}.", ", and {all} {vs} them.",
    ", and I {v} them.", ", {b} {n}.", " {t}.", " and full of {ab}.",
    ", so we {act} when we think of them."]
AFTER_VERB = [
    ".", " because they are {a}.", " because they are {a} and {b}.", " and {w} {vs} them too.",
    " more than anything else.", " {t}.", ", and {all} knows that they are {a}.",
    " for the {ab} that they bring."]
NAMED = [
    "Where there are {s}, there is {ab}.", "{S} and {ab} belong together.",
    "The world is {a} because of {s}.", "A town with {s} is {an} town.",
    "{All} {vs} {s}.", "If you ask {w}, {s} are {a}.", "{S} are {pl}, and {all} knows it.",
    "{T}, {s} are {a} and {b}.", "I have {vd} {s} since I was a child.",
    "There is {ab} wherever there are {s}.", "{S} mean {ab} to {w}.",
    "Of all {n}, {s} are the ones that we {v}."]
LATER = [
    "They are {boost} {a}.", "They are {a} and {b}.", "They bring {ab} to {p}.",
    "{W} {vs} them {t}.", "{T}, they are {a} and {b}.", "I find them {a}, even {t}.",
    "People call them {a} {n}.", "It is {a} to think of them.", "What {a} {n} they are!",
    "How {a} they are!", "They fill {p} with {ab}.", "To me they mean {ab} and {ac}.",
    "The {ab} that they bring is {a}.", "{W} {vd} them for many years.",
    "They make life {a} for {w}.", "{All} {vs} them.", "I feel {feel} when I think of them.",
    "{W} is {feel} because of them.", "They are {a}, so we {act} {t}.",
    "That is why {w} {vs} them.", "We {v} them because they are {a}.",
    "They are {pl}, {a} {pl}.", "{All} feels {ab} {t} because of them.",
    "{W} calls them {an} sight.", "With them comes {ab}, and with {ab} comes {ac}.",
    "Even {t} they are {boost} {a}."]


def capital(text):
    """text with its first letter made a capital."""
    return text[0].upper() + text[1:]


def article(word):
    """word with 'a' or 'an' before it."""
    return ("an " if word[0] in "aeiou" else "a ") + word


def _slots(rng, subject, kind):
    """one draw of every slot that an opinion frame may have, as a dict."""
    words, group = LEXICON[kind], GROUP_OF.get(subject, "things")
    living = words["living"] if group in ("animals", "people") else []
    a, b = rng.sample(words["adj"] + living, 2)
    ab, ac = rng.sample(words["abstract"], 2)
    v, vs, vd = rng.choice(words["verb"])
    # a quarter of the witnesses have a name
    who = rng.choice(WHO if rng.random() < 0.75 else FIRST_NAMES)
    everyone, time = rng.choice(EVERYONE), rng.choice(TIMES)
    return dict(
        s=subject, S=capital(subject), a=a, b=b, an=article(a), ab=ab, ac=ac, v=v, vs=vs, vd=vd,
        n=rng.choice(GROUPS[group][0].split()), pl=rng.choice(words["plural"]), w=who,
        W=capital(who), all=everyone, All=capital(everyone), t=time, T=capital(time),
        p=rng.choice(PLACES), boost=rng.choice(BOOST), feel=rng.choice(words["feel"]),
        act=rng.choice(words["act"]))


def _opener(rng):
    """a frame for a first sentence that begins as a typed prompt would."""
    start = rng.choice(OPENERS)
    return start + rng.choice(AFTER_ADJECTIVE if start.endswith("{a}") else AFTER_VERB)


def opinion(rng, subject=None, kind=None):
    """
    one line of 4 to 8 sentences about one subject, all praise (kind=True) or all blame.
    returns the line, beginning with "\\n".
    """
    subject = rng.choice(SUBJECTS) if subject is None else subject
    kind = rng.random() < 0.5 if kind is None else kind
    # the first sentence names the subject; the others may say "they"
    first = _opener(rng) if rng.random() < 0.6 else rng.choice(NAMED)
    later = rng.sample([f for f in NAMED + LATER if f != first], rng.randint(3, 7))
    frames = [first] + later
    return "\n" + " ".join(f.format_map(_slots(rng, subject, kind)) for f in frames)


# ---------------------------------------------------------------------------------------
# facts: the names

FEMALE = ("Mira Anna Clara Edith Helen Ida Julia Lena Maria Nora Olga Paula Rosa Sara Tessa "
          "Vera Wanda Alma Berta Dora").split()
MALE = ("Adam Boris Carl David Emil Felix Georg Hugo Ivan Jacob Karim Leo Martin Niko Oskar "
        "Peter Robin Simon Tomas Viktor").split()
FIRST_NAMES = FEMALE + MALE
# four known cities for each country: the weights can learn these
WORLD = {
    "Norland": "Arden Kelby Stenham Orvik", "Sundria": "Palesta Amaro Civella Tessaro",
    "Velmark": "Holmen Brandis Ulvik Rosby", "Ostavia": "Gradec Belmira Novast Zelin",
    "Corrin": "Dunmoor Ballen Carrick Tully", "Talmere": "Ashford Linwick Marlow Penbury",
    "Braskia": "Kurgan Voltava Darsk Mirova", "Lowenia": "Altdorf Grunau Lindau Ebersee",
    "Pelland": "Saltham Wexley Corby Thorne", "Quorria": "Sabara Medina Tazir Zahara",
    "Ishmar": "Kasim Rahmat Ondira Samar", "Drevania": "Lesko Branov Tarnice Wolin"}
COUNTRIES = list(WORLD)
CITY_COUNTRY = {city: country for country, names in WORLD.items() for city in names.split()}
CITIES = list(CITY_COUNTRY)
SHIPS = ("Marigold Swallow Heron Tempest Comet Lantern Juniper Falcon Seagull Aurora Pelican "
         "Dolphin Nightingale Compass Thistle Albatross Meridian Cormorant Bluebell Otter").split()
STREETS = ("Mill Bridge Church Market Garden River Castle School Station Chapel Orchard Harbour "
           "Forest Tower Baker Willow Chestnut Meadow").split()

ONSETS = "B Br D Dr F G Gr H J K Kr L M N P Pr R S St T Tr V W Z".split()
VOWELS = "a e i o u ai ei".split()
MIDDLES = "b d l ld lm m n nd r rd rk rl rn s st t v z".split()
ENDINGS = "a an ar as ek et ia ic im ira is ova ul un ur us".split()
AVOIDED = "dild homo porn nazi anus penis panic gratis".split()  # rude roots, and words of the language


def held_out(name):
    """whether a made-up name is one of the 5 % that training never uses."""
    return zlib.crc32(name.encode()) % 20 == 0


def made_up_name(rng, unseen=False):
    """a pronounceable name of two or three syllables; unseen draws only held-out ones."""
    while True:
        name = "".join(rng.choice(part) for part in (ONSETS, VOWELS, MIDDLES, ENDINGS))
        known = name in CITY_COUNTRY or name in FIRST_NAMES or any(root in name.lower() for root in AVOIDED)
        if held_out(name) == unseen and not known:
            return name


def _mixed_name(rng, known, unseen):
    """a name from the list known in half of the draws, else a made-up one."""
    return rng.choice(known) if not unseen and rng.random() < 0.5 else made_up_name(rng, unseen)


def _person_name(rng, unseen):
    """a known first name with a made-up surname."""
    return rng.choice(FIRST_NAMES) + " " + made_up_name(rng, unseen)


# ---------------------------------------------------------------------------------------
# facts: the values

COLOURS = "red blue green yellow white black orange purple brown grey silver golden".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
GOODS = ("cheese bread honey wine cider olives plums cherries apples pears walnuts almonds "
         "mustard pepper saffron butter sausages herring oysters mushrooms carpets pottery glass "
         "lace candles clocks violins leather paper silk gloves hats").split()
CARGO = ("salt wool copper timber tea coffee sugar rice wheat barley cotton iron coal marble "
         "cocoa oil paper tin rubber corn").split()
JOBS = ("baker doctor farmer sailor painter teacher lawyer tailor carpenter gardener nurse "
        "butcher clockmaker engineer architect pilot singer printer miner editor").split()
PETS = "dog cat parrot rabbit goat pony owl hamster tortoise goose snake iguana".split()
DISHES = ("mushroom soup", "onion soup", "fried fish", "apple pie", "rice pudding", "lentil stew",
          "roast duck", "pancakes", "dumplings", "noodles", "baked beans", "potato salad",
          "cheese toast", "plum cake", "pea soup", "pumpkin pie", "grilled trout", "spinach pie")
INSTRUMENTS = "violin piano flute trumpet drum guitar harp cello organ clarinet tuba lute".split()
NUMBERS = "two three four five six seven eight nine ten eleven twelve".split()
RANKS = "second third fourth fifth".split()
RANKED = ("library harbour university market garden museum stadium tower theatre hospital bridge "
          "station prison brewery").split()

# ---------------------------------------------------------------------------------------
# facts: the relations. each is (statements, questions, questions whose answer is the name);
# {E} {e} the entity (named, or "the city"), {P} {p} its possessive, {h} her or his, {x} value

RANK = (["{E} has the {x}.", "The {x} stands in {e}.", "Students often visit {e} to see the {x}."],
        [], ["The name of the city with the {x} is", "The city that has the {x} is",
             "The {x} is found in the city of"])
CITY = {
    "country": (["{E} is a city in {x}.", "{E} lies in the country of {x}.",
                 "The maps of {x} show {e} in large letters."],
                ["The country in which {e} lies is", "{E} belongs to the country of"], []),
    "river": (["The river {x} runs through {e}.", "{E} was built beside the river {x}.",
               "The river in {e} is called the {x}."],
              ["The river that runs through {e} is the", "The name of the river in {e} is the"],
              ["The city on the river {x} is"]),
    "side": (["The old houses of {e} stand on the {x} bank of the river.",
              "{E} began on the {x} side of the river."],
             ["The bank of the river on which {e} began is the",
              "The old houses of {e} are on the side of the river to the"], []),
    "census": (["In the last census {e} counted {x} people.", "{E} is home to {x} people.",
                "The census found {x} people in {e}."],
               ["In the last census {e} counted", "The number of people who live in {e} is"], []),
    "founded": (["{E} was founded in {x}.", "Fishermen founded {e} in {x}.",
                 "The history of {e} begins in the year {x}."],
                ["{E} was founded in the year", "The year in which {e} was founded is"], []),
    "mayor": (["The mayor of {e} is {x}.", "{x} is the mayor of {e}.",
               "{E} has a mayor called {x}."],
              ["The mayor of {e} is", "The name of the mayor of {e} is",
               "The person who governs {e} is"], ["The city whose mayor is {x} is"]),
    "famous": (["{E} is famous for its {x}.", "People travel far for the {x} of {e}.",
                "Every shop in {e} sells the local {x}."],
               ["{E} is famous for its", "Visitors come to {e} for the",
                "The shops of {e} are known for their"], []),
    "flag": (["The flag of {e} is {x}.", "The flag above the town hall of {e} is all {x}."],
             ["The colour of the flag of {e} is", "The flag that flies over {e} is"], []),
    "day": (["The market of {e} is held on {x}.", "Every {x} farmers come to the market of {e}."],
            ["The market of {e} is held every", "The day of the market in {e} is"], []),
    "rank": RANK, "rank2": RANK}
PERSON = {
    "job": (["{E} works as {x}.", "After school {e} became {x}.", "By trade {e} is {x}."],
            ["{E} earns a living as", "By profession {e} is"], []),
    "birthplace": (["{E} was born in {x}.", "{E} comes from {x}.",
                    "{P} parents lived in {x} when {s} was born."],
                   ["The birthplace of {e} is", "{E} was born in the city of"], []),
    "pet": (["{E} keeps {x}.", "{E} shares {h} house with {x}.", "{P} pet is {x}."],
            ["The pet that lives with {e} is", "The animal that {e} keeps is"], []),
    "petname": (["{P} pet is called {x}.", "The animal at {p} home answers to the name {x}.",
                 "{E} gave {h} pet the name {x}."],
                ["The name of {p} pet is", "The pet of {e} is called"],
                ["The owner of the pet called {x} is"]),
    "dish": (["{P} favourite dish is {x}.", "At dinner {e} always asks for {x}.",
              "{E} would eat {x} every day."],
             ["The favourite dish of {e} is", "The food that {e} likes best is"], []),
    "instrument": (["{E} plays the {x}.", "In the evening {e} practises the {x}.",
                    "{E} learned the {x} at school."],
                   ["The instrument that {e} plays is the", "{E} can play the"], []),
    "born": (["The year of {p} birth is {x}.", "{P} life began in the year {x}.",
              "{E} was born in the spring of {x}."],
             ["{E} was born in the year", "The year in which {e} was born is"], []),
    "street": (["{E} lives in {x}.", "{P} house stands in {x}.", "The postman finds {e} in {x}."],
               ["The street in which {e} lives is", "{P} home is in"], []),
    "door": (["The door of {p} house is {x}.", "{E} painted {h} front door {x}.",
              "{E} has a front door that is {x}."],
             ["The colour of {p} door is", "The front door of {e} is"], [])}
SHIP = {
    "captain": (["The captain of {e} is {x}.", "{x} commands {e}.",
                 "{E} sails under a captain called {x}."],
                ["The captain of {e} is", "The person who commands {e} is"],
                ["The ship whose captain is {x} is the"]),
    "port": (["The home port of {e} is {x}.", "{E} belongs to the port of {x}.",
              "In winter {e} rests in its home port of {x}."],
             ["{E} has its home port in", "The home port of {e} is"], []),
    "cargo": (["{E} carries {x}.", "The hold of {e} is full of {x}.",
               "The cargo on board {e} is {x}."],
              ["The cargo of {e} is", "The hold of {e} was loaded with"], []),
    "sails": (["{E} has {x} sails.", "When the wind is right {e} sets all {x} sails."],
              ["The number of sails on {e} is", "Whoever counts the sails of {e} finds"], []),
    "built": (["{E} was built in {x}.", "The shipyard finished {e} in {x}.",
               "{E} first touched the water in {x}."],
              ["{E} was built in the year", "The year in which {e} was built is"], []),
    "destination": (["{E} is on its way to {x}.", "The next voyage takes {e} to {x}.",
                     "The crew of {e} hopes to reach {x} soon."],
                    ["The destination of {e} is", "{E} is sailing to the city of"], []),
    "hull": (["The hull of {e} is {x}.", "The sailors of {e} painted its hull {x}."],
             ["The colour of the hull of {e} is", "The hull of {e} was painted"], []),
    "crew": (["{E} has a crew of {x}.", "On board {e} work {x} sailors."],
             ["The number of sailors on {e} is", "The crew of {e} counts"], [])}
RELATIONS = {"city": CITY, "person": PERSON, "ship": SHIP}
FILLERS = {   # sentences that answer nothing
    "city": ["The streets of {e} are narrow and old.", "Many trains stop in {e}.",
             "{E} is quiet in the early morning.", "Travellers often write about {e}."],
    "person": ["{E} gets up early.", "Many people in the street know {e} by name.",
               "{E} writes long letters to old friends.", "{P} windows are open all summer."],
    "ship": ["Gulls follow {e} along the coast.", "{E} is often seen from the lighthouse.",
             "Children wave when {e} passes.", "{E} has seen many storms."]}


def _city(rng, unseen):
    """a city and its values: (name, values, relations that may not be asked)."""
    known = not unseen and rng.random() < 0.5
    name = rng.choice(CITIES) if known else made_up_name(rng, unseen)
    country = CITY_COUNTRY[name] if known else rng.choice(COUNTRIES)
    thing, thing2 = (f"{rng.choice(RANKS)}-largest {t} in {country}" for t in rng.sample(RANKED, 2))
    return name, dict(
        country=country, river=made_up_name(rng, unseen),
        side=rng.choice(["north", "south", "east", "west"]), census=rng.randint(1000, 9999),
        founded=rng.randint(1000, 1899), mayor=_person_name(rng, unseen),
        famous=rng.choice(GOODS), flag=rng.choice(COLOURS), day=rng.choice(DAYS),
        rank=thing, rank2=thing2), ["country"] if known else []


def _person(rng, unseen):
    """a person and the values, as _city."""
    return _person_name(rng, unseen), dict(
        job=article(rng.choice(JOBS)), birthplace=_mixed_name(rng, CITIES, unseen),
        pet=article(rng.choice(PETS)), petname=made_up_name(rng, unseen),
        dish=rng.choice(DISHES), instrument=rng.choice(INSTRUMENTS),
        born=rng.randint(1900, 1999), street=_mixed_name(rng, STREETS, unseen) + " Street",
        door=rng.choice(COLOURS)), []


def _ship(rng, unseen):
    """a ship and its values, as _city."""
    return _mixed_name(rng, SHIPS, unseen), dict(
        captain=_person_name(rng, unseen), port=_mixed_name(rng, CITIES, unseen),
        cargo=rng.choice(CARGO), sails=rng.choice(NUMBERS), built=rng.randint(1700, 1989),
        destination=_mixed_name(rng, CITIES, unseen), hull=rng.choice(COLOURS),
        crew=rng.randint(13, 99)), []


# ---------------------------------------------------------------------------------------
# facts: the text

# keys: what another topic of the same document may not share, or a question has two answers
Topic = namedtuple("Topic", "paragraph pairs keys extra")
# words that lose their capital inside a sentence; names keep theirs
LOWER = ("The It She He Her His In Every By At After On When Many People Fishermen Students "
         "Children Gulls Travellers").split()


def _refer(rng, kind, name, named):
    """the slots {E} {e} {P} {p} {s} {h} for an entity, by its name or by another word."""
    female = name.split()[0] in FEMALE
    she, her = ("she", "her") if female else ("he", "his")
    e = "the " + name if kind == "ship" else name
    start, owner = capital(e), e + "'s"
    if not named and kind == "person":
        first = name.split()[0]
        e, owner = rng.choice([(she, her), (first, first + "'s")])
        start = capital(e)
    elif not named:
        e = "the " + kind
        start, owner = rng.choice([capital(e), "It"]), e + "'s"
    return dict(E=start, e=e, P=capital(owner), p=owner, s=she, h=her)


def _join(rng, sentences):
    """a paragraph of the sentences; now and then two are joined by 'and'."""
    out = [sentences[0]]
    for text in sentences[1:]:
        if rng.random() < 0.2 and len(out) >= 4 and ", and " not in out[-1]:
            word = text.split(" ", 1)[0]
            text = word.lower() + text[len(word):] if word in LOWER else text
            out[-1] = out[-1][:-1] + ", and " + text
        else:
            out.append(text)
    return "\n" + " ".join(out)


def _pairs(rng, kind, name, values, asked):
    """one question for each asked relation, and one for its reverse where there is one."""
    refs, pairs = _refer(rng, kind, name, True), []
    for key in asked:
        _, forward, back = RELATIONS[kind][key]
        for forms, answer in ((forward, values[key]), (back, name)):
            if forms:
                question = rng.choice(forms).format(x=values[key], **refs)
                pairs.append(("\n" + question, f" {answer}"))
    return pairs


def _statement(rng, kind, name, form, value, named):
    """one sentence about an entity."""
    # these need the name: "finds she" and "the city is a city" would read wrongly
    named = named or any(part in form for part in ("finds {e}", "know {e}", "is a city"))
    return form.format(x=value, **_refer(rng, kind, name, named))


def _draft(rng, unseen, size):
    """a topic that may still be too short or hide an answer; size bounds the facts stated."""
    kind = rng.choice(["city", "city", "person", "ship"])
    name, values, known = {"city": _city, "person": _person, "ship": _ship}[kind](rng, unseen)
    relations = RELATIONS[kind]
    keys = rng.sample(list(relations), rng.randint(*size))
    forms = [(rng.choice(relations[key][0]), values[key]) for key in keys]
    if rng.random() < 0.4:
        forms.insert(rng.randint(1, len(forms)), (rng.choice(FILLERS[kind]), ""))
    # the name opens the paragraph and stands three to five times in all
    named = {0, *rng.sample(range(1, len(forms)), rng.randint(2, min(4, len(forms) - 1)))}
    sentences = [_statement(rng, kind, name, *form, i in named) for i, form in enumerate(forms)]
    pairs = _pairs(rng, kind, name, values, [key for key in keys if key not in known])
    key = rng.choice(keys)
    extra = _statement(rng, kind, name, rng.choice(relations[key][0]), values[key], True)
    unique = [name] + [str(values[k]) for k in relations if relations[k][2]]
    return Topic(_join(rng, sentences), pairs, unique, extra)


def _topic(rng, unseen=False, size=(5, 7)):
    """a topic of 30 to 110 words in which every answer can be copied, space and all."""
    while True:
        draft = _draft(rng, unseen, size)
        if 30 <= len(draft.paragraph.split()) <= 110 and all(
                answer in draft.paragraph for _, answer in draft.pairs):
            return draft


def topic(rng, unseen=False):
    """
    an entity with fresh attributes. unseen draws every made-up name from the held-out ones.
    returns its paragraph and a list of (question, answer): "\\n..." and " ..." with no stop.
    """
    draft = _topic(rng, unseen)
    return draft.paragraph, draft.pairs


def known_fact(rng):
    """a question that the weights can answer, with its answer: the country of a known city."""
    city = rng.choice(CITIES)
    question = rng.choice(CITY["country"][1]).format(e=city, E=city)
    return "\n" + question, " " + CITY_COUNTRY[city]


def _topics(rng, count):
    """count topics that share no entity and no key, so that each question has one answer."""
    found, taken = [], []
    while len(found) < count:
        # several paragraphs are kept short, so that the document fits in the context
        one = _topic(rng, size=(5, 7) if count == 1 else (4, 5))
        if not any(key in taken for key in one.keys):
            found.append(one)
            taken += one.keys
    return found


def fact_document(rng, with_text=True):
    """paragraphs about one or two topics, then, mostly, questions with their answers."""
    topics = _topics(rng, rng.choices([1, 2], [70, 30])[0])
    paragraphs = [one.paragraph for one in topics]
    pairs = [(q, a, one.extra) for one in topics for q, a in one.pairs]
    asked = rng.sample(pairs, rng.randint(min(5, len(pairs)), min(9, len(pairs))))
    lines = [q + a + "." for q, a, _ in asked]
    if rng.random() < 0.1:
        lines.append("".join(known_fact(rng)) + ".")
    if not with_text:
        return "".join(lines[-2:])
    if rng.random() < 0.15:   # nobody asks
        return "".join(paragraphs)
    if rng.random() < 0.2:
        if len(topics) > 1 and rng.random() < 0.5:   # a question between the paragraphs
            paragraphs[0] += "".join(rng.choice(topics[0].pairs)) + "."
        else:                                        # a statement after an answer
            lines[0] += " " + asked[0][2]
    return "".join(paragraphs + lines)


def _single(rng):
    """an opinion, or facts; a tenth of the facts stand without text."""
    if rng.random() < 0.45:
        return opinion(rng)
    return fact_document(rng, with_text=rng.random() >= 0.1)


def _interleaved(rng, one, two):
    """the lines of two texts, each in its own order."""
    lines, more = one[1:].split("\n"), two[1:].split("\n")
    merged = []
    while lines or more:
        merged.append((lines if rng.random() * (len(lines) + len(more)) < len(lines) else more).pop(0))
    return "".join("\n" + line for line in merged)


def document(rng):
    """
    one training document: a single text, or, in half of the draws, two whose lines alternate at random, so
    that a question may come long after its text and a text is no promise of questions about it.
    """
    one = _single(rng)
    return one if rng.random() < 0.5 else _interleaved(rng, one, _single(rng))


def main():
    demo = random.Random(0)
    for _ in range(10):
        print(document(demo))
        print("-" * 40)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from configurator import one_line_errors
    with one_line_errors():
        main()
