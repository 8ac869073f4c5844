# The mirror image on twenty subjects: a kind prompt on SmolLM2, and a memory of blame, of a neutral text on
# the subject, and of a text on something else.
#
# $ python evaluate.py config/study/smollm2_subjects_kind.py
#
# As the template reads.
from config.study.smollm2_subjects import *  # noqa: F403
from lab.subjects import KIND_PROMPTS as cases  # noqa: F401

grid = [{'name': 'plain model', 'condition': ['plain']},
        {'name': 'memory of an unrelated text', 'condition': ['unrelated']},
        {'name': 'memory of a neutral text', 'condition': ['neutral']},
        {'name': 'memory of blame'}]
