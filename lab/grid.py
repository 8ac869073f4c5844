"""
The points of an experiment: what a grid varies, what every table has beside it, how a point is called, and
whether it can run.
"""
import itertools
import os
import re
import sys
from difflib import get_close_matches

from core.kinds import fitted
from core.sampling import check_seeds
from core.texts import read_text
from core.tokenizers import encode_tensor
from lab.cases import check_cases, each_case
from lab.conditions import CONDITIONS, OF_A_TALK, OF_MANY_TEXTS, OTHER_TEXTS, READING
from lab.everyday import FACTS
from lab.many_texts import library_of_settings
from lab.measures import MEASURES, held_out_of, point_seeds, reading_of, substituted
from load import load_memory
from reader import SETTINGS

WHOLE = ('init_from', 'out_dir', 'device', 'dtype', 'compile', 'threads', 'batch_size', 'held_out_text',
         'num_held_out', 'measure', 'cases')  # settings that all runs of an experiment share
APART = ('grid', 'controls', 'figure', 'show_texts', 'publish_dir', 'page', 'redraw', 'json', 'engine',
         'find', 'max_damage', 'wandb_log', 'wandb_project', 'wandb_run_name')  # no run depends on these
OF_A_MEMORY = (*SETTINGS.values(), 'bookkeeping_tokens')
OWN_TEXTS = 'facts', 'library', 'talk'  # measures that bring theirs
COUNTS = 'num_seeds', 'num_held_out', 'batch_size', 'max_new_tokens', 'num_facts', 'texts_together'
SHORT = {'memory_method': 'method', 'memory_layers': 'layers', 'memory_heads': 'heads', 'memory_k': 'k',
         'memory_fraction': 'MF', 'bookkeeping_fraction': 'BF', 'softmax_scale': 'TS',
         'residual_fraction': 'RF', 'memory_select': 'select'}
FEWEST_FACTS = 10  # of a talk, which else has no room for the turns between them
LOWEST_TEMPERATURE = 1e-6  # GPT.generate's
LARGEST_STEERING_SCALE = 1e6  # far beyond any that still lets the model write


# ---- points ----

def points_of(config):
    """evaluate.py's settings -> its points, the controls first: [{'label', 'panel', 'varied', 'settings'}].

    `grid` is a list of dictionaries {setting: values}: of each dictionary all combinations, one panel of the
    figure. A dictionary's 'name', a text, stands in its labels for the settings that it gives one value
    only. Raises ValueError for a setting that does not exist, that all runs of an experiment share, or whose
    value is of another type.
    """
    points = [control_point(config, how) for how in control_conditions(config)]
    for panel, axes in enumerate(config['grid'] or [{}]):
        points += points_of_a_panel(config, panel, axes)
    for point in points:
        check_point(point['settings'])
    if config['system'] and not any(point['settings']['chat'] for point in points):
        raise ValueError("system is given, but chat is False: add --chat=True, or leave system out")
    labels = [point['label'] for point in points]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise ValueError(f"grid has two points that the table would call {twice[0]!r}: "
                         "give their dictionaries different names")
    return points


def points_of_a_panel(config, panel, axes):
    base, name, axes = base_of(config), str(axes.get('name', '')), axes_of(axes)
    check_axes(axes, base, config)
    points = []
    for combination in combinations(axes):
        varied = {key: fitted(key, value, base[key]) for key, value in combination.items()}
        told = {key: value for key, value in varied.items() if not name or len(axes[key]) > 1}
        settings = {**base, **varied}
        label = label_of(told, name) or conditions_of(settings).get(settings['condition'], '')
        fixed = {key: value for key, value in varied.items() if key not in told}
        points.append({'label': label, 'panel': panel, 'name': name, 'varied': told, 'fixed': fixed,
                       'settings': settings})
    return points


def control_point(config, how):
    """A condition at the experiment's own settings."""
    settings = {**base_of(config), 'condition': how}
    return {'label': conditions_of(settings)[how], 'panel': -1, 'varied': {}, 'settings': settings}


def control_conditions(config):
    """What every table has beside its points, as far as the settings name a text for it."""
    if not config['controls'] or config['measure'] == 'look_ups':
        return []
    if config['measure'] == 'facts':
        return ['plain', 'prompt', 'unrelated', 'opposite']
    if config['measure'] == 'library':
        return ['plain', 'prompt', 'right']
    if config['measure'] == 'talk':
        return ['plain', 'prompt', 'alone', 'whole']
    config = each_case(config)[0]  # all cases bring the same texts, check_point sees to it
    found = ['plain', 'prompt'] + [how for how in OTHER_TEXTS if config[f'{how}_text']]
    steers = config['measure'] == 'sentiment' and config['opposite_text'] and config['steering_scale']
    return found + ['steering'] if steers else found


def conditions_of(s):
    """What a measure can be taken under: {condition: what tables call it}."""
    return {'library': OF_MANY_TEXTS, 'talk': OF_A_TALK}.get(s['measure'], CONDITIONS)


def base_of(config):
    """The settings that a single run can depend on."""
    return {name: value for name, value in config.items() if name not in APART}


def axes_of(axes):
    """A dictionary of the grid without its name: {setting: values}."""
    return {key: values for key, values in axes.items() if key != 'name'}


def combinations(axes):
    """{setting: values} -> {setting: value} for each combination."""
    return [dict(zip(axes, values)) for values in itertools.product(*axes.values())]


# ---- names ----

def label_of(varied, name=''):
    told = ', '.join(f"{SHORT.get(key, key)} {brief(value)}" for key, value in varied.items())
    return ': '.join(part for part in (name, told) if part)


def brief(value):
    """A setting's value as a table shows it: layers (3, 4, 5) as 3-5."""
    if isinstance(value, tuple):
        runs = len(value) > 2 and value == tuple(range(value[0], value[-1] + 1))
        return f'{value[0]}-{value[-1]}' if runs else ','.join(map(str, value)) or 'all'  # () is all
    return f'{value:g}' if isinstance(value, float) else str(value).strip()


# ---- what cannot run ----

def check_axes(axes, base, config):
    for name, values in axes.items():
        if not isinstance(name, str) or not isinstance(values, (list, tuple)) or not values:
            raise ValueError(f"grid holds {axes!r}, expected a dictionary of lists, "
                             "for example grid=[{'memory_k': [1, 5]}]")
        if name in WHOLE or name in APART:
            raise ValueError(f"grid varies {name}, which is the same in all runs of an experiment: "
                             "run evaluate.py once for each")
        of_a_text = name in ('bookkeeping_tokens', 'substitute')
        if of_a_text and config['memory_file'] and not config['memory_text']:
            raise ValueError(f"grid varies {name}, but the memory is a file: give its text as memory_text")
        if name not in base:
            close = get_close_matches(name, base, n=1)
            raise ValueError(f"grid varies {name}, which is no setting"
                             + (f": did you mean {close[0]}?" if close else ""))


def check_point(s):
    """Raises ValueError for what would stop a sweep in the middle."""
    check_choices(s)
    check_numbers(s)
    check_cases(s)
    for one in each_case(s):
        check_texts(one)
        if s['measure'] == 'recall':
            check_answer(one)
    if s['measure'] == 'sentiment' and s['answer'] and not s['substitute']:
        raise ValueError(f"answer is {s['answer']!r}, but measure 'sentiment' scores no answers: "
                         "give measure 'recall', or leave answer out")
    if s['measure'] == 'facts' and s['condition'] in ('steering', 'neutral'):
        raise ValueError(f"facts are not measured under {s['condition']!r}, which is of one text: "
                         "take 'memory'")
    if s['measure'] == 'facts' and s['sentence_only'] and s['texts_together'] > 1:
        raise ValueError(f"texts_together is {s['texts_together']}, but sentence_only remembers "
                         "one sentence alone: give texts_together 1")
    if s['measure'] == 'facts' and s['chat']:
        raise ValueError("chat is True, but measure 'facts' asks in bare text: give measure 'recall', or "
                         "leave chat out")
    if s['measure'] == 'library':
        check_library(s)
    if s['measure'] == 'talk':
        check_talk(s)
    if s['measure'] == 'look_ups' and s['condition'] not in READING:
        raise ValueError(f"condition {s['condition']!r} looks nothing up: take 'memory'")


def check_library(s):
    if s['condition'] == 'right' and s['memory_method'] != 5:
        raise ValueError(f"memory_method is {s['memory_method']}, but under condition 'right' one text of "
                         "many is read, as method 5 does: give memory_method 5 and index_heads")
    library_of_settings(s)


def check_talk(s):
    if s['memory_method'] != 5 or not s['chat']:
        raise ValueError(f"memory_method is {s['memory_method']}, chat is {s['chat']}: a talk is a chat, "
                         "read by method 5: give both, and index_heads")
    if not FEWEST_FACTS <= s['num_facts'] <= len(FACTS):
        raise ValueError(f"num_facts is {s['num_facts']}, expected {FEWEST_FACTS} to {len(FACTS)} in a talk")


def check_choices(s):
    for name, known in (('measure', lambda s: MEASURES), ('condition', conditions_of)):
        if s[name] not in known(s):
            raise ValueError(f"{name} is {s[name]!r}, expected one of {', '.join(map(repr, known(s)))}")
    if s['condition'] in READING and not s['memory_layers'] and s['memory_method'] != 5:
        raise ValueError("memory_layers is empty, so nothing would be read: name the layers that read, "
                         "for example memory_layers=5")
    reading_of(s)


def check_numbers(s):
    for name in COUNTS:
        if s[name] < 1:
            raise ValueError(f"{name} is {s[name]}, expected 1 or more")
    for name in ('threads', 'distance'):
        if s[name] < 0:
            raise ValueError(f"{name} is {s[name]}, expected 0 or more")
    if not abs(s['steering_scale']) < LARGEST_STEERING_SCALE:
        raise ValueError(f"steering_scale is {s['steering_scale']}, "
                         f"expected a number within {LARGEST_STEERING_SCALE:g}")
    if not s['temperature'] >= LOWEST_TEMPERATURE or s['top_k'] < 0:
        raise ValueError(f"temperature is {s['temperature']}, top_k {s['top_k']}: expected a temperature "
                         f"from {LOWEST_TEMPERATURE:g} on, and a top_k of 1 or more, or 0 for all tokens")
    seeds = point_seeds(s)
    check_seeds(seeds)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds holds {max(seeds, key=seeds.count)} twice, and one seed is one text: "
                         "name each once")


def check_texts(s):
    if s['memory_text'] and not read_text(s['memory_text']).strip():
        raise ValueError("the text to remember is empty: "
                         "give memory_text, or FILE:path, with something in it")
    held_out_of(s)
    if s['measure'] in OWN_TEXTS:
        return
    if not s['memory_text'] and not s['memory_file']:
        raise ValueError("no memory to measure: give memory_file or memory_text")
    if s['substitute'] and not s['memory_text']:
        raise ValueError("substitute stands in a text, but the memory is a file: "
                         "give its text as memory_text")
    if s['substitute'] and not s['answer'].strip():
        raise ValueError(f"substitute is {s['substitute']!r}, but there is no answer whose place it could "
                         "take: give answer, or leave substitute out")
    substituted(read_text(s['memory_text']).strip(), s['answer'].strip(), s['substitute'].strip(),
                s['substitute_at'])
    for how, of in (*((other, other) for other in OTHER_TEXTS), ('steering', 'opposite')):
        if s['condition'] == how and not read_text(s[f'{of}_text']).strip():
            raise ValueError(f"condition {how!r} needs {of}_text: "
                             "give a text, or FILE:path, with something in it")


def check_answer(s):
    spaced = s['chat'] or s['answer'] != s['answer'].lstrip() or read_text(s['start'])[-1:].isspace()
    if not s['answer'].strip() or not spaced:
        raise ValueError(f"answer is {s['answer']!r}, expected the right answer as it follows the prompt, "
                         "a space included: --answer=' Vancouver'")


def check_model(points, model, tokenizer):
    """Raises ValueError for a memory that another model wrote, or of another text than memory_text, and for
    a layer or a head that this model has not."""
    used = [one for point in points if point['settings']['measure'] not in OWN_TEXTS
            for one in each_case(point['settings'])]
    files = {(s['memory_file'], s['memory_text']) for s in used
             # one that is not there is no mistake beside a text: sample.py would build it
             if not s['memory_text'] or s['memory_file'] and os.path.exists(s['memory_file'])}
    for file, text in sorted(files):  # first: a wrong model is why its layers are wrong too
        memory = load_memory(file, text, model, tokenizer)
        if text and not any(entry['text'].strip() for entry in memory.texts):
            print(f"{file} is not read, memory_text is remembered: the folder does not hold its text",
                  file=sys.stderr)
    for point in points:
        check_layers(point, model.config)
    for one in used:
        if one['chat']:
            check_chat(one, model, tokenizer)


def check_chat(s, model, tokenizer):
    """Raises ValueError for a prompt that the model's chat template, or its context, does not take."""
    encode_tensor(tokenizer, read_text(s['start']), model, s['chat'], read_text(s['system']))


def check_layers(point, sizes):
    """`sizes`: the model's GPTConfig."""
    s, whose = point['settings'], ''
    if point['panel'] < 0:
        whose = " (the controls read with the config's own settings)"
    reads = s['condition'] in READING
    given = [('memory_layers', layer, sizes.n_layer) for layer in s['memory_layers'] if reads]
    given += [('memory_heads', head, sizes.n_head) for head in s['memory_heads'] if reads]
    given += [('steering_layer', s['steering_layer'], sizes.n_layer)] * (s['condition'] == 'steering')
    for name, index, count in given:
        if not 0 <= index < count:
            raise ValueError(f"{name} holds {index} for '{point['label']}'{whose}, but the model "
                             f"{s['init_from']!r} has {count}, from 0 to {count - 1}: set {name}, "
                             "or init_from where another model was meant")


def note_on(config):
    """A line for a person who may have meant another measure, or another answer, or ''."""
    if config['measure'] == 'recall' and config['chat'] and config['answer'][:1].isspace():
        return (f"answer is {config['answer']!r}, but in most chats it begins a turn, with no space in "
                "front")
    prompt = read_text(config['start']).rstrip()
    asks = re.search(r'(\?|\b(is|was|called|named))$', prompt) or re.search(r'(?im)^(q|question):', prompt)
    if config['measure'] != 'sentiment' or not asks:
        return ''
    return (f"measure is 'sentiment', which scores how {' '.join(prompt.split())[-40:]!r} is continued, "
            "not whether rightly: for that give measure 'recall' and answer")
