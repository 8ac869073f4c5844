"""
Runs an experiment: settings, a grid of what is varied, a measure, over many seeds; with controls, intervals, damage and figures.

$ python evaluate.py config/tinyworld_sentiment.py
$ python evaluate.py config/writeup/tinyworld_figure06.py
$ python evaluate.py config/find_layers.py

Each run is one line of out/<name of the config>/results.jsonl; a second start skips what is there. Beside it, summary.md, summary.json
and figure.png. Prints the table, and as its last line one JSON object.
"""
import itertools
import json
import os
import shlex
import sys

from configurator import configure, one_line_errors

# -----------------------------------------------------------------------------
measure = 'sentiment'  # 'sentiment': VADER's scores; 'recall': of `answer`; 'facts': of data/tinyworld's grammar; 'look_ups' of one step
grid = []  # what is varied: [{setting: [values], ...}, ...], of each dictionary all combinations; of one, a panel of the figure
controls = True  # also plain model, text in the prompt, memories of the unrelated and the opposite text, and steering
condition = 'memory'  # or one of 'plain', 'prompt', 'unrelated', 'opposite', 'steering' in its place
num_seeds = 100  # texts of each run; facts: draws a question
num_held_out = 60  # documents on other subjects, to measure perplexity on
held_out_text = ''  # those documents, 'FILE:path' with blank lines between; '' is documents of data/tinyworld's grammar
unrelated_text = ''  # a control remembers this
opposite_text = ''  # another control remembers this; steering goes from it to the remembered text
steering_layer = 3  # after this layer the steering vector is added
steering_scale = 0.0  # times this; 0 leaves steering out of the controls
answer = ''  # recall: what should follow the prompt, e.g. ' Vancouver'
substitute = ''  # recall: stands in the answer's place in the remembered text, and is scored too
substitute_at = ()  # at these of its occurrences, from 0; () is all
num_facts = 100  # facts: paragraphs, each with one question
texts_together = 1  # facts: paragraphs in one memory
sentence_only = False  # facts: only the sentence with the answer is remembered
distance = 0  # facts: tokens of other text between the fact and its question
figure = 'auto'  # 'boxes', 'bars', 'lines', 'scatter', 'shares', 'look_ups', 'first_tokens'; 'auto' suits the measure, '' is none
show_texts = 0  # so many texts of each row in the summary
publish_dir = ''  # a folder that gets a copy of the figure, the numbers and the summary, named like the config
engine = 'process'  # or 'ray', a task a run: of this machine, or of the cluster at RAY_ADDRESS
threads = 0  # of torch in a run, 0 is torch's own choice; the same number gives the same numbers
find = ''  # search for layers, heads and strengths in place of a grid: 'positive', 'negative' (sentiment) or 'answer' (recall)
max_damage = 1.1  # find: the largest held-out perplexity, relative to the plain model's
wandb_log = False
wandb_project = 'memory'
wandb_run_name = ''  # '' is the name of the config
batch_size = 100  # texts written at once
init_from = 'gpt2'  # from here on as in sample.py
out_dir = 'out'
start = '\n'
max_new_tokens = 50
temperature = 0.8
top_k = 200
seed = 1337
seeds = ()  # in place of seed and num_seeds
memory_file = ''
memory_text = ''
memory_layers = (9,)
memory_heads = ()
memory_k = 5
memory_method = 2
memory_fraction = 0.0
bookkeeping_fraction = 0.9
softmax_scale = 1000.0
residual_fraction = 0.1
memory_select = 'last'
bookkeeping_tokens = 1
device = 'auto'
dtype = 'float32'
compile = False  # torch.compile, on a GPU
# -----------------------------------------------------------------------------
config = configure(globals())

from core.wandb_run import start_wandb  # noqa: E402, settings are checked before the slow imports
from lab import finder, report  # noqa: E402
from lab.experiment import ENGINES, Results, check_layers, check_point, model_of, points_of, run_all  # noqa: E402
from lab.figures import FIGURES, maps, png  # noqa: E402
from lab.stats import perplexity  # noqa: E402


def config_files():
    return [argument for argument in sys.argv[1:] if not argument.startswith('--')]


def experiment_name():
    """Of the last config file named."""
    return os.path.splitext(os.path.basename(config_files()[-1]))[0] if config_files() else 'evaluate'


def docs():
    """The comment at the top of the config file, its commands left out."""
    if not config_files():
        return ''
    with open(config_files()[-1], encoding='utf-8') as f:
        lines = [line[1:].strip() for line in itertools.takewhile(lambda line: line.startswith('#'), f)]
    return '\n'.join(line for line in lines if line and not line.startswith('$') and not line.endswith(':'))


def checked_points():
    """-> the points of the grid, none where a search finds its own. Raises ValueError for settings that cannot run."""
    known_figures = ['auto', '', *FIGURES.get(measure, [])]
    for name, given, known in (('engine', engine, ENGINES), ('figure', figure, known_figures), ('find', find, ['', *finder.GOALS])):
        if given not in known:
            raise ValueError(f"{name} is {given!r}, expected one of {', '.join(map(repr, known))}"
                             + (f" for measure {measure!r}" if name == 'figure' else ''))
    settings = {**config, 'memory_layers': memory_layers or (0,)} if find else config
    check_point(settings)
    if find and measure != finder.MEASURE[find]:
        raise ValueError(f"find is {find!r}, which goes with measure {finder.MEASURE[find]!r}, not {measure!r}")
    points = points_of(settings)
    return [] if find else points


def start_log():
    """-> a function that logs; one that does nothing where wandb_log is off."""
    if not wandb_log:
        return lambda values: None
    return start_wandb(wandb_project, wandb_run_name or experiment_name(), config).log


def log_run(log):
    """-> what run_all calls for each new record."""
    def done(record):
        means = {name: sum(values) / len(values) for name, values in record['samples'].items()}
        damage = {'held_out_perplexity': perplexity(**record['held_out'])} if 'held_out' in record else {}
        log({**means, **record['numbers'], **damage})
    return done


def log_report(log, rows, picture):
    """The table and the figure."""
    if not wandb_log:
        return
    import wandb
    columns = report.COLUMNS.get(measure, {})
    table = wandb.Table(columns=['row', *columns], data=[[row['label'], *(cell(row) for cell in columns.values())] for row in rows])
    log({'table': table} | ({'figure': wandb.Image(picture)} if picture else {}))
    wandb.finish()


def draw(points, rows):
    """The bytes of the figure, or none."""
    if find:
        sizes = model_of(config)[0].config
        return png(maps(*finder.maps(points, find, sizes.n_layer, sizes.n_head), finder.GOALS[find][0]))
    kind = next(iter(FIGURES[measure])) if figure == 'auto' else figure
    return png(FIGURES[measure][kind](points, rows, measure)) if kind else b''


def write_report(folder, name, points, rows, more=''):
    """summary.md, summary.json and figure.png into the folder, and as name.* into publish_dir. -> path of the figure, or ''."""
    command = 'python evaluate.py ' + shlex.join(a for a in sys.argv[1:] if not a.startswith('--publish_dir='))
    picture = draw(points, rows)
    numbers = report.as_json(rows, config, command, points)
    for place, text, stem in ((folder, 'summary', 'figure'), (publish_dir, name, name)):
        if place:
            head = report.heading(name, command, points, docs(), f'{stem}.png' if picture else '')
            files = {f'{text}.md': report.summary(points, rows, config, head) + more, f'{text}.json': numbers, f'{stem}.png': picture}
            report.write_files(place, {file: content for file, content in files.items() if content})
    return os.path.join(folder, 'figure.png') if picture else ''


def main():
    points = checked_points()
    log = start_log()  # before the model: it loads for a while, and a missing key is known at once
    name = experiment_name()
    folder = os.path.join(out_dir, name)
    check_layers(points, model_of(config)[0].config)  # what cannot run leaves no folder
    results = Results(os.path.join(folder, 'results.jsonl'))
    more = ''
    if find:
        points, more = finder.search(config, results, log_run(log))
        report.write_files(folder, {'best.py': more})
        more = f"\n## The best, as a config file\n\n```python\n{more}```\n"
    else:
        run_all(points, config, results, log_run(log))
    rows = report.rows_of(points)
    picture = write_report(folder, name, points, rows, more)
    log_report(log, rows, picture)
    print(report.main_table(rows, measure) if measure != 'look_ups' else '\n\n'.join(map(report.look_ups_table, points)))
    print(more)
    runs = len({point['record']['id'] for point in points})
    print(f"{runs} runs: {', '.join(os.path.join(folder, file) for file in ('summary.md', 'summary.json', 'results.jsonl'))}"
          + (f", {picture}" if picture else ''))
    print(json.dumps({'name': name, 'measure': measure, 'rows': {row['label']: report.brief(row) for row in rows}}))


if __name__ == '__main__':
    with one_line_errors():
        main()
