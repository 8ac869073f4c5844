# When does recall break? 1 to 1334 paragraphs in one memory, 72 to 96,139 stored tokens; and the answer's
# sentence alone, 13 tokens.
#
# $ python evaluate.py config/study/stored_tokens.py
#
# All but one paragraph are distractors, facts of the same kinds about other names. Method 4, the k stored
# keys nearest to each query.
from config.study.methods_facts import *  # noqa: F403

figure = 'lines'
memory_select = 'each'
softmax_scale = 1.0
_texts = {'texts_together': [1, 2, 4, 8, 16, 32, 128, 1334]}
grid = [{**_texts, 'memory_k': [32, 128]}, {'name': 'the sentence alone', 'sentence_only': [True]}]
