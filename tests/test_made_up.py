"""
Made-up texts and questions, and what is read from a file of them: that only its own text answers a question.

$ python -m pytest tests/test_made_up.py
"""
import re

import pytest

from lab.made_up import Question, bare, stories
from lab.worlds import WORLDS


def named(words):
    """The names in a question, without its first word, which is capitalised as in any sentence."""
    return re.findall(r'[A-Z][a-z]+', words.split(' ', 1)[1])


@pytest.mark.parametrize('world', WORLDS)
def test_a_question_names_what_one_text_alone_tells_of_and_that_text_holds_the_answer(world):
    told = stories(world, 5, 300)
    for n, story in enumerate(told):
        assert len(story.questions) >= 4
        for question in story.questions:
            assert all(answer in story.text for answer in question.answers)
            subject = named(question.words)[-1]
            assert [i for i, other in enumerate(told)
                    if re.search(rf'\b{subject}\b', other.text.split('.')[0])] == [n]


@pytest.mark.parametrize('world', WORLDS)
def test_the_words_of_a_question_are_not_those_of_its_text(world):
    for story in stories(world, 5, 60):
        for question in story.questions:
            assert question.words.rstrip('?') not in story.text


def test_a_world_is_the_same_for_a_seed_and_another_for_another():
    assert stories('choose', 7, 20) == stories('choose', 7, 40)[:20]
    assert not {story.text for story in stories('choose', 7, 40)} & {
        story.text for story in stories('choose', 8, 40)}


def test_the_two_worlds_share_neither_syllables_nor_relations():
    one, other = (WORLDS[name] for name in ('choose', 'prove'))
    for part in ('begin', 'given', 'person', 'place'):
        assert not {*one['syllables'][part]} & {*other['syllables'][part]}
    said = [{form for kind in world['kinds'] for relation in kind.relations
             for form in relation.says + relation.asks} for world in (one, other)]
    assert not said[0] & said[1]


def test_thousands_of_texts_can_be_made_up_and_more_than_there_are_names_are_refused(monkeypatch):
    assert len({story.text for story in stories('prove', 1, 3000)}) == 3000
    monkeypatch.setitem(WORLDS['prove'], 'syllables', dict.fromkeys(
        WORLDS['prove']['syllables'], ('ba', 'bo')))
    with pytest.raises(ValueError, match='names run out after .*: ask for fewer texts'):
        stories('prove', 1, 3000)


@pytest.mark.parametrize('world', WORLDS)
def test_texts_have_the_length_of_a_short_paragraph(world):
    lengths = [len(re.findall(r'\w+', story.text)) for story in stories(world, 5, 300)]
    assert min(lengths) >= 18
    assert max(lengths) <= 75


@pytest.mark.parametrize('world', WORLDS)
def test_the_sentence_to_complete_asks_about_the_same_subject(world):
    for story in stories(world, 5, 60):
        for question in story.questions:
            assert named(question.begins)[-1] == named(question.words)[-1]
            assert question.begins not in story.text
            assert bare(question) == ('\n', question.begins, '')


def test_a_question_without_such_a_sentence_is_asked_as_one():
    assert ''.join(bare(Question('Who?', ('Ida',)))) == '\nQuestion: Who?\nAnswer:'
    assert ''.join(bare(Question('Who?', ('Ida',)), '\nIda bakes.')) == (
        '\nIda bakes.\nQuestion: Who?\nAnswer:')
