# How much of what is there is recalled, where a tenth of questions recall something falsely whose paragraph
# is taken out? One question a paragraph; the evidence of each stands in results.jsonl.
#
# $ python evaluate.py config/study/smollm2_library_abstaining.py --squad_file=dev.json
from config.study.smollm2_library_paragraphs import *  # noqa: F403

figure = 'abstaining'
num_facts = 120
grid = [{'texts_together': [120], 'condition': ['memory'], 'recall_threshold': [1.0]}]
controls = False
