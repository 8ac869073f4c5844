# Is it the memory's content that turns a text, or any disturbance? Twenty subjects on SmolLM2, each with an
# unkind prompt: a memory of praise, of blame, of a neutral text on it, and of a text on something else.
#
# $ python evaluate.py config/study/smollm2_subjects_controls.py
#
# As the template reads.
from config.study.smollm2_subjects import *  # noqa: F403

controls = True
grid = [{'name': 'memory of praise'}]
