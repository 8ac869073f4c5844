"""
Two worlds to make texts up from: one to choose by, 'choose', and one to prove a choice on, 'prove'. They
share neither syllables nor kinds nor relations.
"""
from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """values: words, or what is made up: 'person', 'place', 'year' or 'number'. says: sentences with {S}, the
    subject, {P}, its possessive, and {value}. begins: with {name}, a sentence that the value ends. asks:
    questions with {name}."""
    values: object
    says: tuple
    begins: str
    asks: tuple


@dataclass(frozen=True)
class Kind:
    """What texts are about: what sort of name it has, how it is called later on, as (subject, possessive),
    its opening sentences, and what else is told of it."""
    name: str
    called: tuple
    first: tuple
    relations: tuple


def relation(values, *sentences):
    """Of its sentences the questions are those that end like one; what goes on ends with dots."""
    asks = tuple(sentence for sentence in sentences if sentence.endswith('?'))
    begins, = (sentence for sentence in sentences if sentence.endswith('...'))
    says = tuple(sentence for sentence in sentences if sentence not in (*asks, begins))
    return Relation(values, says, begins.removesuffix('...'), asks)


def words(text):
    return tuple(text.split(', '))


def syllables(**parts):
    return {part: tuple(text.split()) for part, text in parts.items()}


# ---- to choose by ----

PERSON = Kind(
    'person', (('He', 'His'), ('She', 'Her')),
    ('{S} is remembered in the valley to this day.', 'Few people have heard of {S}.',
     'This is the story of {S}.', '{S} lived a quiet life.'),
    (relation('place', '{S} was born in {value}.', '{P} birthplace was {value}.',
              '{S} came into the world in {value}.',
              '{name} was born in the town of...',
              'Where was {name} born?', 'In which town did the life of {name} begin?'),
     relation(words('a baker, a tailor, a blacksmith, a beekeeper, a surgeon, a carpenter, '
                    'a painter, a librarian, a fisherman, a lawyer, a gardener, a sailor, '
                    'a watchmaker, a teacher, a miner, a shepherd'),
              '{S} worked as {value}.', '{S} earned a living as {value}.', '{P} trade was that of {value}.',
              "What was {name}'s profession?", 'The profession of {name} was that of...',
              'What job did {name} have?'),
     relation('person', '{S} married {value}.', '{P} wedding with {value} was a small one.',
              '{S} shared a home with {value}.',
              'The person whom {name} married was called...',
              'Who was {name} married to?', 'What is the name of the person {name} wed?'),
     relation(words('the flute, the violin, the cello, the drum, the harp, the trumpet, the organ, '
                    'the guitar'),
              '{S} played {value} every evening.', '{P} favourite instrument was {value}.',
              '{S} owned {value} and practised it daily.', 'The instrument that {name} played was...',
              'Which instrument did {name} play?',
              'On what did {name} make music?'),
     relation('year', '{S} died in {value}.', '{P} death came in {value}.', '{S} was buried in {value}.',
              'The year in which {name} died was...',
              'In what year did {name} die?', 'When did the life of {name} end?'),
     relation(words('a goat, a parrot, a donkey, a tortoise, a cat, a fox, a raven, a hound, '
                    'a hedgehog, an owl'),
              '{S} kept {value} in the garden.', '{P} companion was {value}.',
              '{S} never travelled without {value}.', 'The animal of {name} was...',
              'Which animal did {name} own?',
              'What pet did {name} have?')))

PLACE = Kind(
    'place', (('The town', "The town's"), ('It', 'Its')),
    ('{S} is a small town.', '{S} is a village in the hills.', 'Travellers seldom stop at {S}.'),
    (relation('person', '{S} was founded by {value}.', '{P} founder was {value}.',
              '{P} first house was built by {value}.',
              'The person who founded {name} was called...',
              'Who founded {name}?', 'Which person started the settlement of {name}?'),
     relation('number', '{S} has {value} inhabitants.', '{value} people live there.',
              '{P} population is {value}.',
              'How many people live in {name}?', 'The number of people who live in {name} is...',
              'What is the population of {name}?'),
     relation(words('honey, cheese, plums, cider, bread, trout, pepper, almonds'),
              '{S} is famous for its {value}.', '{P} pride is the {value}.',
              'Visitors come to taste the {value}.',
              'The product that {name} is known for is its...',
              'What is {name} known for?', 'Which product made {name} well known?'),
     relation('place', '{S} lies on the river {value}.', '{P} river is the {value}.',
              'The river {value} runs past it.',
              'The name of the river at {name} is the...',
              'Which river flows through {name}?', 'On what water does {name} stand?'),
     relation('person', '{P} mayor is {value}.', '{S} is governed by {value}.',
              'The mayor there is {value}.',
              'Who leads the council of {name}?', 'The name of the mayor of {name} is...',
              'Who is the mayor of {name}?'),
     relation(words('a mill, a chapel, a bridge, a prison, a lighthouse, a school, a bakery, '
                    'a watchtower'),
              '{P} oldest building is {value}.', '{S} has one old building, {value}.',
              'Nothing there is older than {value}.', 'The oldest building in {name} is...',
              'What is the oldest building in {name}?',
              'Which building of {name} is the most ancient?')))

WORK = Kind(
    'work', (('It', 'Its'), ('The work', "The work's")),
    ('{S} is a novel.', '{S} is a play in three acts.', '{S} was once a popular book.'),
    (relation('person', '{S} was written by {value}.', '{P} author is {value}.', '{value} wrote it.',
              'The author of {name} is called...',
              'Who is the author of {name}?', 'By whom was {name} written?'),
     relation('year', '{S} appeared in {value}.', '{P} first edition is from {value}.',
              '{S} was first printed in {value}.',
              'The year in which {name} was published is...',
              'When was {name} published?', 'In what year did {name} come out?'),
     relation(words('a lost soldier, a deaf queen, a young thief, a blind monk, two sisters, '
                    'an old captain, a runaway nurse, a cruel judge'),
              '{S} tells of {value}.', '{P} hero is {value}.', 'At the centre of the story stands {value}.',
              'Who is the main character of {name}?', 'The main character of {name} is...',
              'What is {name} about?'),
     relation('place', '{P} action takes place in {value}.', '{S} is set in {value}.',
              'All of it happens in {value}.',
              'Where does the story of {name} take place?', 'The place where {name} is set is called...',
              'In which place is {name} set?'),
     relation(words('Danish, Polish, Greek, Turkish, Finnish, Czech, Arabic, Welsh'),
              '{S} was translated into {value}.', '{P} only translation is into {value}.',
              'Besides the original there is a version in {value}.',
              'The language into which {name} was translated is...',
              'Into which language was {name} translated?', 'In what other language can one read {name}?')))

# ---- to prove on ----

SCHOLAR = Kind(
    'person', (('The scholar', "The scholar's"), ('She', 'Her'), ('He', 'His')),
    ('Professor {S} was known for great patience.', 'The name of {S} is found in old journals.',
     'Not much was written about {S}.'),
    (relation(words('a comet, a blue moss, a salt lake, a hot spring, a beetle, a lost alphabet, '
                    'a cave, a magnetic ore'),
              '{S} discovered {value}.', '{P} great find was {value}.',
              '{S} was the first to describe {value}.', 'What {name} discovered was...',
              'What did {name} discover?',
              'For which discovery do we remember {name}?'),
     relation('person', '{S} was taught by {value}.', '{P} teacher was {value}.',
              '{S} learned everything from {value}.',
              'The teacher of {name} was called...',
              'Who taught {name}?', 'Under whom did {name} study?'),
     relation('place', '{S} gave lectures in {value}.', '{P} college stood in {value}.',
              '{S} held a chair in {value}.',
              'In which city did {name} lecture?', 'The city where {name} taught is called...',
              'Where did {name} teach?'),
     relation('year', '{S} received a medal in {value}.', '{P} prize was awarded in {value}.',
              '{S} was honoured in {value}.',
              'In which year was {name} given an award?', 'The year in which {name} won a prize was...',
              'When did {name} win the prize?'),
     relation(words('thunder, spiders, deep water, the dark, horses, mirrors, heights, loud bells'),
              '{S} was afraid of {value}.', '{P} one fear was {value}.', '{S} could not bear {value}.',
              'The thing that {name} feared was...',
              'What frightened {name}?', 'What was {name} scared of?')))

SHIP = Kind(
    'work', (('The ship', "The ship's"), ('She', 'Her')),
    ('{S} was a ship with two masts.', '{S} sailed the northern seas.', 'Old sailors still talk of {S}.'),
    (relation('person', '{P} captain was {value}.', '{S} was commanded by {value}.',
              'On the bridge stood {value}.',
              'The captain of {name} was called...',
              'Who was in command of {name}?', 'Which captain steered {name}?'),
     relation(words('coal, silk, sugar, timber, oranges, iron, wool, tobacco, marble, tea'),
              '{S} carried {value}.', '{P} hold was full of {value}.', '{S} was loaded with {value}.',
              'The cargo of {name} was...',
              'What cargo did {name} transport?', 'Which goods were on board {name}?'),
     relation('place', '{S} was built in {value}.', '{P} shipyard was in {value}.',
              '{S} was launched at {value}.',
              'The place where {name} was built is called...',
              'Where was {name} constructed?', 'Which port made {name}?'),
     relation('year', '{S} sank in {value}.', '{P} last voyage was in {value}.',
              '{S} was wrecked in {value}.',
              'When did {name} go down?', 'The year in which {name} sank was...',
              'In what year was {name} lost?'),
     relation('number', '{P} crew counted {value} men.', '{S} had {value} men on board.',
              '{value} sailors served on her.',
              'How large was the crew of {name}?', 'The number of sailors on {name} was...',
              'How many sailors worked on {name}?')))

FARM = Kind(
    'place', (('The farm', "The farm's"), ('It', 'Its')),
    ('{S} is an estate by the sea.', '{S} is a farm with a long history.', 'A narrow road leads to {S}.'),
    (relation('person', '{S} belongs to {value}.', '{P} owner is {value}.', '{value} bought it long ago.',
              'The owner of {name} is called...',
              'Who owns {name}?', 'Whose property is {name}?'),
     relation(words('barley, lavender, tobacco, flax, rye, cotton, maize, mustard, rice, clover'),
              '{S} grows {value}.', '{P} fields are planted with {value}.',
              'Every summer {value} is harvested there.',
              'The crop that is grown at {name} is...',
              'Which crop is grown at {name}?', 'What do they cultivate on {name}?'),
     relation('place', '{P} nearest market is in {value}.', '{S} sends its carts to {value}.',
              'Its goods are sold in {value}.',
              'To which market town does {name} deliver?', 'The market town of {name} is...',
              'Where does {name} sell what it produces?'),
     relation('year', '{S} burned down in {value}.', '{P} great fire was in {value}.',
              '{S} was lost to the flames in {value}.',
              'The year of the fire at {name} was...',
              'When was the fire at {name}?', 'In which year did {name} burn?'),
     relation('number', '{S} has {value} sheep.', '{P} flock counts {value} animals.',
              '{value} sheep graze there.',
              'How many sheep does {name} keep?', 'The number of sheep at {name} is...',
              'How big is the flock of {name}?')))

WORLDS = {
    'choose': {
        'kinds': (PERSON, PLACE, WORK),
        'titles': words('The Road to, The Bells of, Winter in, The Widow of, Letters from, Farewell to'),
        'syllables': syllables(
            begin='Bel Cor Dra Fen Gal Hol Jar Kel Lom Mar Nev Or Pel Rud Sel Tam Ul Var Wen Yar Bro Cal Del '
                  'Fir Gor Hal Jun Kor Lis Mel',
            middle='a e i o u an el ir os un ad im or',
            given='ric dan mina lia vin tha bert ska nor das lene rik',
            person='stone mond wick ner dahl sen vari tosh lund berg man kov ster rell shaw',
            place='ville ford mere holm by burg ton haven dorf stad nia gard bach ness')},
    'prove': {
        'kinds': (SCHOLAR, SHIP, FARM),
        'titles': words('The Spirit of, The Star of, The Pride of, The Maid of, The Queen of'),
        'syllables': syllables(
            begin='Ach Bri Chi Dom Esk Flo Gri Hu Ib Jo Kni Lu Mo Nu Ost Pra Qui Ro Sa Tri Ush Vo Wi Xa Ye '
                  'Zo Sko Thu Ple Aru',
            middle='ba co di fu ga li mo pe ra su ta vo zi',
            given='ndra lio sha mar que tje nne fer xon las pia rda',
            person='zano rowicz llini chuk dze moto pulos ides ssen kara quist tti vsky grave nning',
            place='pur stan grad rosa lia poli varra nda cester minster loch kirk tino zee')}}
