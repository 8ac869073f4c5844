"""
Runs an experiment: settings, a grid of what is varied, a measure, over many seeds; with controls, figures.

$ python evaluate.py config/tinyworld_sentiment.py
$ python evaluate.py config/writeup/tinyworld_figure06.py
$ python evaluate.py config/find_layers.py
$ python evaluate.py --redraw=assets

Each run is one line of out/<name of the config>/results.jsonl; a second start skips what is there. Beside
it, summary.md, summary.json and figure.png. Prints five columns of the table and where the rest lies; with
--json=True, as its last line, one JSON object.
"""
import itertools
import os
import shlex
import sys
from json import dumps, loads

from configurator import configure, one_line_errors

# -----------------------------------------------------------------------------
measure = 'sentiment'  # or 'recall' of `answer`; 'facts' of tinyworld; 'library'; 'talk'; 'look_ups'
grid = []  # what is varied: [{setting: [values], ...}, ...], all combinations of each, a panel of the figure
controls = True  # also plain model, text in the prompt, memories of unrelated and opposite text, steering
condition = 'memory'  # or one of 'plain', 'prompt', 'unrelated', 'neutral', 'opposite', 'steering'
num_seeds = 100  # texts of each run; facts: draws a question
num_held_out = 60  # documents on other subjects, to measure perplexity on
held_out_text = ''  # those, 'FILE:path' with blank lines between; '' is texts of data/tinyworld's grammar
unrelated_text = ''  # a control remembers this
neutral_text = ''  # another control remembers this, on the same subject but neither kind nor unkind
opposite_text = ''  # another control remembers this; steering goes from it to the remembered text
steering_layer = 3  # after this layer the steering vector is added
steering_scale = 0.0  # times this; 0 leaves steering out of the controls
cases = []  # many prompts, each with its texts: [{'name': 'cats', 'start': '\nCats are', ...}, ...]
answer = ''  # recall: what should follow the prompt, e.g. ' Vancouver'
substitute = ''  # recall: stands in the answer's place in the remembered text, and is scored too
substitute_at = ()  # at these of its occurrences, from 0; () is all
num_facts = 100  # facts: paragraphs, each with one question; library, talk: questions
texts_together = 1  # facts, library: paragraphs in one memory
squad_file = ''  # library: questions of this file in SQuAD's format, or dataset 'squad'; '' makes them up
pass_keys = False  # library: asks for keys that are hidden in texts; beside them those of memory_file, if any
everyday = False  # library: forty facts that somebody tells, a sentence each
tinyworld = False  # library: made up by data/tinyworld's grammar, for models that know no English
sentence_only = False  # facts: only the sentence with the answer is remembered
distance = 0  # facts: tokens of other text between the fact and its question
context_turns = 1  # talk: as in chat.py
# boxes, bars, lines, cases, scatter, shares, look_ups, first_tokens, library, recalled, haystack, abstaining
figure = 'auto'  # '' for none
show_texts = 0  # so many texts of each row in the summary
publish_dir = ''  # a folder that gets a copy of figure, numbers and summary, named like the config
page = ''  # an HTML file of what the text drew from memory, where the grid is one point, and num_seeds 1
redraw = ''  # a folder: no experiment, but each of its figures drawn again from the JSON beside it
json = False  # the last line printed is a JSON object
engine = 'process'  # or 'ray', a task a run: of this machine, or of the cluster at RAY_ADDRESS
threads = 0  # of torch in a run, 0 is torch's own choice; the same number gives the same numbers
# a search: 'positive', 'negative' (sentiment), 'answer' (recall), 'index_heads', 'index_heads_by_half' (of
find = ''  # squad_file's articles), 'reading_layers'
max_damage = 1.1  # find: the largest held-out perplexity, relative to the plain model's
wandb_log = False
wandb_project = 'memory'
wandb_run_name = ''  # '' is the name of the config
batch_size = 100  # texts written at once
init_from = 'gpt2'  # from here on as in sample.py
out_dir = 'out'
start = '\n'
chat = False
system = ''
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
memory_positions = ''
memory_distance = 512
index_heads = ()
recall_texts = 1
recall_votes = 40
recall_threshold = 0.0
recall_every = 0
recall_candidates = 1
recall_neighbours = 0
memory_index = ''
bookkeeping_tokens = 1
device = 'auto'
dtype = 'float32'
compile = False  # torch.compile, on a GPU
# -----------------------------------------------------------------------------
config = configure(globals())

from core.atomic import write_files  # noqa: E402, settings are checked before the slow imports
from core.places import found  # noqa: E402
from core.wandb_run import start_wandb  # noqa: E402
from lab import finder, heads_by_half, index_finder, one_page, reading_layers, report, rows  # noqa: E402
from lab.figures import FIGURES  # noqa: E402
from lab.grid import check_model, check_point, note_on, points_of  # noqa: E402
from lab.redraw import draw_all, picture_of  # noqa: E402
from lab.runs import ENGINES, Results, model_of, run_all  # noqa: E402
from lab.stats import perplexity  # noqa: E402
from page.files import check_file, page_of, write_told  # noqa: E402

SEARCHES = {'index_heads': index_finder, 'index_heads_by_half': heads_by_half,
            'reading_layers': reading_layers}  # that need no runs


def config_files():
    return [argument for argument in sys.argv[1:] if not argument.startswith('--')]


def experiment_name():
    """Of the last config file named."""
    return os.path.splitext(os.path.basename(config_files()[-1]))[0] if config_files() else 'evaluate'


def docs():
    """The comment at the top of the config file, its commands left out."""
    if not config_files():
        return ''
    with open(found(config_files()[-1]), encoding='utf-8-sig') as f:
        lines = [line[1:].strip() for line in itertools.takewhile(lambda line: line.startswith('#'), f)]
    return '\n'.join(line for line in lines if line and not line.startswith('$') and not line.endswith(':'))


def check_choices():
    """Raises ValueError for a text that is none of those known."""
    figures = ['auto', '', *(name for name in FIGURES.get(measure, []) if cases or name != 'cases')]
    for name, given, known in (('engine', engine, ENGINES), ('figure', figure, figures),
                               ('find', find, ['', *finder.GOALS, *SEARCHES])):
        if given not in known:
            raise ValueError(f"{name} is {given!r}, expected one of {', '.join(map(repr, known))}"
                             + (f" for measure {measure!r}" if name == 'figure' else ''))


def checked_points():
    """-> the points of the grid. Raises ValueError for settings that cannot run."""
    settings = {**config, 'memory_layers': memory_layers or (0,)} if find else config
    check_point(settings)
    if find and measure != finder.MEASURE[find]:
        wanted = finder.MEASURE[find]
        raise ValueError(f"find is {find!r}, which goes with measure {wanted!r}, not {measure!r}")
    return points_of(settings)


# ---- logging ----

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


def log_report(log, table, picture):
    """The table, every column of it, and the figure."""
    if not wandb_log:
        return
    import wandb
    columns = report.COLUMNS.get(measure, {})
    cells = [[row['label'], *(cell(row) for cell in columns.values())] for row in table]
    logged = {'table': wandb.Table(columns=['row', *columns], data=cells)}
    log(logged | ({'figure': wandb.Image(picture)} if picture else {}))
    wandb.finish()


# ---- files and screen ----

def numbers_of(points, table):
    """What the JSON holds, a text; a search has its maps there too."""
    sizes = model_of(config)[0].config
    maps = finder.maps(points, find, sizes.n_layer, sizes.n_head) if find else {}
    return report.as_json(table, config, command(), points, maps)


def command():
    """The one that makes this again, without what only says where to put a copy or what to print."""
    left_out = '--publish_dir=', '--json=', '--page='
    kept = [argument for argument in sys.argv[1:] if not argument.startswith(left_out)]
    return f'python evaluate.py {shlex.join(kept)}'


def write_report(folder, points, table, more=''):
    """summary.md, summary.json, figure.png into the folder, as name.* into publish_dir. -> its path."""
    numbers, name = numbers_of(points, table), experiment_name()
    picture = picture_of(loads(numbers))
    for place, text, stem in ((folder, 'summary', 'figure'), (publish_dir, name, name)):
        if place:
            head = report.heading(name, command(), points, docs(), f'{stem}.png' if picture else '')
            files = {f'{text}.md': report.summary(points, table, config, head) + more,
                     f'{text}.json': numbers, f'{stem}.png': picture}
            write_files(place, {file: content for file, content in files.items() if content})
    return os.path.join(folder, 'figure.png') if picture else ''


def search(folder, results, log):
    """-> the points that the finder tried, and its choice as Markdown, which stands in best.py too."""
    points, best = finder.search(config, results, log_run(log))
    write_files(folder, {'best.py': best})
    return points, f"\n## The best, as a config file\n\n```python\n{best}```\n"


def search_at_once(folder, way):
    """A search of its own kind, without runs: way is one of SEARCHES."""
    model, tokenizer = model_of(config)
    found = way.find(model, tokenizer, config, print)
    name, best = experiment_name(), way.config_text(found, config)
    numbers = dumps(way.as_numbers(found)) + '\n'
    picture = picture_of(loads(numbers))
    for place, text, stem in ((folder, 'summary', 'figure'), (publish_dir, name, name)):
        if place:
            told = way.summary(found, name, f'{stem}.png', command(), config)
            write_files(place, {f'{text}.md': told, f'{text}.json': numbers, f'{stem}.png': picture})
    write_files(folder, {'best.py': best})
    print(f"\n{best}\nAs a config file, and as a picture: best.py and figure.png in {folder}")


def results_file(folder):
    return os.path.join(folder, 'results.jsonl')


def print_report(folder, points, table, more, picture):
    """Five columns, the finder's choice, and where everything else is."""
    print(report.screen(points, table, measure))
    print(more)
    runs = len({point['record']['id'] for point in points})
    print(f"{runs} run{'s' * (runs > 1)}. Every column: {os.path.join(folder, 'summary.md')}\n"
          f"The same as numbers: {os.path.join(folder, 'summary.json')}, and by run: {results_file(folder)}"
          + (f"\nFigure: {picture}" if picture else ''))
    if json:
        print(report.json_line(experiment_name(), measure, table))


def draw_again():
    drawn, left = draw_all(redraw)
    print(f"{len(drawn)} figure{'s' * (len(drawn) != 1)} drawn again: {', '.join(drawn)}")
    for picture in left:
        print(f"{picture} is left as it is: the numbers beside it were published before it could be drawn "
              "from them; the command on its page runs it again", file=sys.stderr)


def checked_page(points):
    """-> the settings of the text that the page shows, None where none is wanted. Raises ValueError."""
    check_file('page', page)
    return one_page.point_shown(points) if page else None


def main():
    check_choices()
    if page and (redraw or find):
        raise ValueError("page is of a text that is written, not of redraw or find: leave page out")
    if redraw:
        draw_again()
    elif find in SEARCHES:
        search_at_once(os.path.join(out_dir, experiment_name()), SEARCHES[find])
    else:
        run_experiment()


def run_experiment():
    points, more = checked_points(), ''
    shown = checked_page(points)
    if note_on(config):
        print('note:', note_on(config), file=sys.stderr)
    log = start_log()  # before the model: it loads for a while, and a missing key is known at once
    folder = os.path.join(out_dir, experiment_name())
    check_model(points, *model_of(config))  # before there is a folder: what cannot run leaves none
    results = Results(results_file(folder))
    if find:
        points, more = search(folder, results, log)
    else:
        run_all(points, config, results, log_run(log))
    table = rows.rows_of(points)
    picture = write_report(folder, points, table, more)
    log_report(log, table, picture)
    print_report(folder, points, table, more, picture)
    if shown:
        write_told(page, 'page', page_of, one_page.trace_of_point(*model_of(config), shown))


if __name__ == '__main__':
    with one_line_errors('run again to go on'):
        main()
