"""
Real paragraphs with questions by people, from a file in SQuAD's format (Rajpurkar et al. 2016): SQuAD itself,
XQuAD, and whatever else is kept so.
"""
import json
import os
import re
import string
import sys

from core.texts import read_file
from lab.made_up import Question, Story

FORMAT = 'data[].paragraphs[] with context and qas[] of question and answers[].text'


def read_squad(path):
    """-> [Story], a paragraph each with its questions. A paragraph that comes twice is one.

    path: a .json file, or what a dataset of this format is called on the hub, such as 'squad'. Questions
    without an answer (SQuAD 2 has them) are left out, with a line on stderr. Raises FileNotFoundError,
    OSError where a dataset cannot be fetched, ValueError for a file of another kind.
    """
    paragraphs, unanswered = {}, 0
    for context, qas in (paragraphs_of(path) if is_file(path) else rows_of_dataset(path)):
        questions = paragraphs.setdefault(context, [])
        for question, answers in qas:
            unanswered += not answers
            questions += [Question(question, answers)] * bool(answers)
    if not any(paragraphs.values()):
        raise ValueError(f"{path} has no question with an answer: expected SQuAD's format, {FORMAT}")
    if unanswered:
        print(f"{path}: {unanswered} questions have no answer and are left out", file=sys.stderr)
    return [Story(context, tuple(questions)) for context, questions in paragraphs.items()]


def read_articles(path):
    """-> [[Story]], of each article of a file its paragraphs, as read_squad has them; one that comes twice is
    the first article's. Raises what read_squad does, and ValueError for a dataset, which is told of no
    articles here."""
    if not is_file(path):
        raise ValueError(f"squad_file {path!r} is no file: articles are read of a .json file alone")
    told = {story.text: story for story in read_squad(path)}
    articles = [[told.pop(text) for text in (one['context'].strip() for one in article['paragraphs'])
                 if text in told] for article in json.loads(read_file(path))['data']]
    return [article for article in articles if article]


def is_file(path):
    return os.path.exists(path) or path.endswith('.json')


def rows_of_dataset(name):
    """The questions that a dataset on the hub keeps to validate with -> [(context, [(question, answers)])],
    one of each. Raises OSError where the library, the network or the dataset is missing."""
    try:
        import datasets  # here: who has a file needs no such library
    except ImportError:
        raise FileNotFoundError(f"squad_file {name!r} is no file, and there is no library to fetch a dataset "
                                "with: name a .json file, or pip install datasets") from None
    try:
        rows = datasets.load_dataset(name, split='validation')
        return [(row['context'].strip(), [(row['question'].strip(), different(row['answers']['text']))])
                for row in rows]
    except (OSError, ValueError) as error:
        told = ' '.join(str(error).split())
        raise OSError(f"squad_file {name!r} is no file, and no such dataset could be fetched ({told}): "
                      "name a .json file, or connect to a network") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the dataset {name!r} is not in SQuAD's format ({type(error).__name__}: {error}): "
                         "expected context, question and answers['text'] in each row") from None


def paragraphs_of(path):
    """-> [(context, [(question, answers)])]. Raises ValueError where the file is built otherwise."""
    try:
        paragraphs = [one for article in json.loads(read_file(path))['data'] for one in article['paragraphs']]
        found = [(one['context'].strip(), [(qa['question'].strip(), answers_of(qa)) for qa in one['qas']])
                 for one in paragraphs]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}): expected SQuAD's format, {FORMAT}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not in SQuAD's format ({type(error).__name__}: {error}): "
                         f"expected {FORMAT}") from None
    return found


def answers_of(qa):
    return different(answer['text'] for answer in qa['answers'])


def different(answers):
    """The different answers that people gave, the first first."""
    return tuple(dict.fromkeys(answer.strip() for answer in answers))


# ---- right or wrong ----

def contains_answer(text, answers):
    """Whether a text holds one of the answers, both as SQuAD's own evaluation compares them: in lower case,
    without punctuation and articles; and as whole words."""
    words = f' {normalized(text)} '
    return any(f' {normalized(answer)} ' in words for answer in answers)


def normalized(text):
    plain = text.lower().translate(str.maketrans('', '', string.punctuation + '’‘“”'))
    return ' '.join(re.sub(r'\b(a|an|the)\b', ' ', plain).split())
