"""
A talk of everyday things: facts that somebody tells and asks about later, and small talk.

Nobody's life: made up for the measure 'talk'. The answers are words that no model guesses from the question.
"""
from typing import NamedTuple


class Fact(NamedTuple):
    """What the user says, the question on it, and words of which the answer has one, lower case."""
    told: str
    asked: str
    answers: tuple


FACTS = tuple(Fact(told, asked, tuple(answers.split('|'))) for told, asked, answers in (
    ('My sister Lena lives in Oporto.', 'Where does my sister Lena live?', 'oporto'),
    ('Our dog is called Biscuit.', 'What is our dog called?', 'biscuit'),
    ('My brother Tom works as a baker.', 'What does my brother Tom work as?', 'baker'),
    ('The code of my bicycle lock is 4829.', 'What is the code of my bicycle lock?', '4829'),
    ('My daughter Ines plays the cello.', 'Which instrument does my daughter Ines play?', 'cello'),
    ('I am allergic to strawberries.', 'What am I allergic to?', 'strawberr'),
    ('My boss is called Mrs Okafor.', 'What is my boss called?', 'okafor'),
    ('Our neighbour Henrik keeps seven ducks.', 'How many ducks does our neighbour Henrik keep?', 'seven|7'),
    ('My wife Clara studies geology.', 'What does my wife Clara study?', 'geology'),
    ('This summer we travel to Slovenia.', 'Where do we travel this summer?', 'slovenia'),
    ('My dentist is Dr Varga.', 'Who is my dentist?', 'varga'),
    ('The spare key lies under the blue flowerpot.', 'Where does the spare key lie?', 'flowerpot|flower pot'),
    ('My son Jonas collects fossils.', 'What does my son Jonas collect?', 'fossil'),
    ('I paid 130 euros for the red armchair.', 'How much did I pay for the red armchair?', '130'),
    ('The plumber comes on Thursday.', 'On which day does the plumber come?', 'thursday'),
    ('My grandmother was born in Tampere.', 'Where was my grandmother born?', 'tampere'),
    ('My favourite tea is rooibos.', 'What is my favourite tea?', 'rooibos'),
    ('Our boat is painted yellow.', 'What colour is our boat painted?', 'yellow'),
    ('My uncle Bertil drives a tram.', 'What does my uncle Bertil drive?', 'tram'),
    ('The choir rehearses in the old fire station.', 'Where does the choir rehearse?', 'fire station'),
    ('My cat Minou is eleven years old.', 'How old is my cat Minou?', 'eleven|11'),
    ('My friend Aiko comes from Sapporo.', 'Where does my friend Aiko come from?', 'sapporo'),
    ('I left my umbrella in the library.', 'Where did I leave my umbrella?', 'library'),
    ('My landlord is called Mr Petrov.', 'What is my landlord called?', 'petrov'),
    ('My train to the coast leaves from platform nine.',
     'From which platform does my train to the coast leave?', 'nine|9'),
    ('My cousin Rosa married a beekeeper.', 'Whom did my cousin Rosa marry?', 'beekeeper'),
    ('I keep my passport in the piano stool.', 'Where do I keep my passport?', 'piano'),
    ('Our wedding was in a lighthouse.', 'Where was our wedding?', 'lighthouse'),
    ('My password hint is the word walrus.', 'Which word is my password hint?', 'walrus'),
    ('My aunt Greta breeds alpacas.', 'What does my aunt Greta breed?', 'alpaca'),
    ('The bakery closes at half past four.', 'When does the bakery close?', 'half past four|4:30'),
    ('My school was in Ljungby.', 'Where was my school?', 'ljungby'),
    ('I broke my left wrist skating.', 'How did I break my left wrist?', 'skat'),
    ('My doctor told me to eat more lentils.', 'What did my doctor tell me to eat more of?', 'lentil'),
    ('Our car is a green Skoda.', 'Which make is our car?', 'skoda'),
    ('My colleague Farid speaks Welsh.', 'Which language does my colleague Farid speak?', 'welsh'),
    ('The birthday present for Nora is a kite.', 'What is the birthday present for Nora?', 'kite'),
    ('My father repairs clocks.', 'What does my father repair?', 'clock'),
    ('Our house number is 58.', 'What is our house number?', '58'),
    ('My first job was in a glass factory.', 'Where was my first job?', 'glass factory'),
))

SMALL_TALK = (
    'Good morning!', 'It is raining again today.', 'Tell me a joke.', 'What is the capital of France?',
    'I feel a bit tired.', 'How do I boil an egg?', 'Thanks, that helps.', 'What can I cook tonight?',
    'Name three colours.', 'Why is the sky blue?', 'I like long walks.', 'Write a short rhyme about the sea.',
    'What is a comet?', 'How are you?', 'Give me a tip for sleeping better.', 'The bus was late today.',
    'What is 12 times 12?', 'Tell me something about whales.', 'I think I will read a book.',
    'Recommend me a film.', 'Do you like music?', 'Explain what a bicycle is.', 'My coffee has gone cold.',
    'How far away is the moon?', 'What can I do on a rainy Sunday?', 'That is interesting.',
    'Who wrote Hamlet?', 'Describe a forest in one sentence.', 'I have a lot of work this week.',
    'How do I get wax out of a tablecloth?', 'What does the word serene mean?', 'Talk about the weather.',
    'Name a vegetable that grows in winter.', 'Why do cats purr?', 'I am looking forward to the weekend.',
    'What is the largest ocean?', 'Tell me a fact about bees.', 'How do I sharpen a knife?', 'Never mind.',
    'Give me a word that rhymes with light.', 'What is the difference between jam and jelly?',
    'The neighbours are very loud tonight.', 'How long does tea have to brew?', 'What makes bread rise?',
    'I went for a swim.', 'Is a tomato a fruit?', 'What is a good present for a child?', 'Cheer me up.',
    'How do magnets work?', 'I cannot find my glasses.', 'What is the fastest animal?', 'Say something wise.',
    'How do I fold a paper plane?', 'The sunset was beautiful yesterday.', 'What do owls eat?',
    'Which planet has rings?', 'I should exercise more.', 'How is glass made?', 'Good night for now.',
    'Name a river in Africa.')
