# Does praise turn unkind prompts on other subjects than cats, and does any other text? Twenty subjects on
# SmolLM2, each with a memory of its own, and with one of Vancouver.
#
# $ python evaluate.py config/study/smollm2_subjects.py
#
# Read as the template reads, whose settings were chosen on cats alone. The unit is the subject.
from config.study.smollm2_sentiment import *  # noqa: F403
from lab.subjects import UNKIND_PROMPTS as cases  # noqa: F401

memory_text = opposite_text = ''  # each subject has its own
num_seeds = 8
max_new_tokens = 30
num_held_out = 1  # a subject
steering_scale = 0.0  # the vector is measured on cats, by smollm2_sentiment.py
controls = False
figure = 'cases'
grid = [{'name': 'plain model', 'condition': ['plain']},
        {'name': 'memory of a text on something else', 'condition': ['unrelated']},
        {'name': 'memory of praise'}]
