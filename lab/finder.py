"""
Which layers, which heads, how strong? A search for the setting with the largest effect at bounded damage.

Each stage's candidates are points of an experiment: single layers; pairs of the best; the strengths, which are the config's grid; every
head alone, which is the map; the best heads together, one more each time; the strengths once more. What is found is then measured again
on seeds that the search has not seen, for the best of many is partly luck.
"""
import itertools

import numpy as np

from lab import experiment, stats
from load import seed_list

GOALS = {'positive': ('sentence_compound', 1), 'negative': ('sentence_compound', -1), 'answer': ('probability', 1)}
MEASURE = {'positive': 'sentiment', 'negative': 'sentiment', 'answer': 'recall'}
BEST_LAYERS = 3  # of which pairs are tried
WRITTEN = ('init_from', 'start', 'memory_text', 'memory_file', 'max_new_tokens', 'temperature', 'top_k', *experiment.OF_A_MEMORY)


class Search:
    """The points tried so far; each is measured once, and `max_damage` bounds which can be the best."""

    def __init__(self, config, results, done):
        self.config, self.results, self.done = config, results, done
        self.name, self.sign = GOALS[config['find']]
        self.weights = experiment.weights_of(experiment.model_of(config)[0])
        self.points, self.plain = {}, self.control('plain')

    def control(self, how, **changes):
        settings = {**experiment.base_of(self.config), 'memory_layers': self.config['memory_layers'] or (0,), 'condition': how, **changes}
        point = {'label': experiment.measures.CONDITIONS[how], 'panel': -1, 'varied': {}, 'settings': settings, 'stage': 'control'}
        experiment.run_all([point], self.config, self.results, self.done, 'control')
        return point

    def run(self, stage, candidates):
        """candidates: settings that differ from the base -> their points."""
        new = []
        for varied in candidates:
            point = {'label': experiment.label_of(varied), 'panel': 0, 'varied': varied,
                     'settings': {**experiment.base_of(self.config), **varied}, 'stage': stage}
            new.append(self.points.setdefault(experiment.run_id(point['settings'], self.weights), point))
        experiment.run_all(new, self.config, self.results, self.done, stage)
        return new

    def score(self, point):
        """The goal's score: the mean over texts of their sentences' compound, or the share of probability of the answer."""
        return self.sign * score_of(point['record'], self.name)

    def damage(self, point, plain=None):
        """Held-out perplexity, relative to the plain model's."""
        return damage_of(point['record'], (plain or self.plain)['record'])

    def ranked(self, points):
        """Best first: those within max_damage by their score, then the others by their damage."""
        def key(point):
            within = self.damage(point) <= self.config['max_damage']
            return (0, -self.score(point)) if within else (1, self.damage(point))
        return sorted(points, key=key)

    def best(self):
        """Of those as good as the first but for chance (one standard error, or 0.02 of probability), the one that damages least."""
        first = self.ranked(self.points.values())[0]
        samples = first['record']['samples'].get(self.name)
        margin = 0.02 if samples is None else float(np.std(samples)) / len(samples) ** 0.5
        alike = [point for point in self.points.values() if self.score(point) >= self.score(first) - margin]
        return min(alike, key=self.damage)


def score_of(record, name):
    """A number of the record, or the mean over its texts."""
    return float(record['numbers'].get(name, np.mean(record['samples'].get(name, 0))))


def damage_of(record, plain):
    """Held-out perplexity of one record over that of another."""
    return stats.perplexity(**record['held_out']) / stats.perplexity(**plain['held_out'])


def search(config, results, done):
    """-> the controls and every point tried, best first, with records; and the best setting as the text of a config file."""
    model = experiment.model_of(config)[0]
    layers = config['memory_layers'] or tuple(range(model.config.n_layer))
    s = Search(config, results, done)
    single = s.run('layer', [{'memory_layers': (layer,)} for layer in layers])
    best = [point['varied']['memory_layers'][0] for point in sorted(single, key=s.score, reverse=True)[:BEST_LAYERS]]
    s.run('pair', [{'memory_layers': tuple(sorted(pair))} for pair in itertools.combinations(best, 2)])
    s.run('strength', strengths(config, {'memory_layers': (best[0],)}))
    s.run('strength', strengths(config, s.best()['varied']))
    heads = s.run('head', [{'memory_layers': (layer,), 'memory_heads': (head,)} for layer in layers for head in range(model.config.n_head)])
    s.run('heads', best_heads_first(s, heads))
    s.run('strength', strengths(config, s.best()['varied']))
    return finish(s)


def strengths(config, chosen):
    """The grid's combinations, where the best so far reads."""
    where = {name: chosen[name] for name in ('memory_layers', 'memory_heads') if name in chosen}
    return [{**where, **strength} for axes in config['grid'] for strength in experiment.combinations(experiment.axes_of(axes))]


def best_heads_first(s, heads):
    """In the best layers at the best strength: the head that does most alone, the two that do, and so on."""
    chosen = s.best()['varied']
    gain = {}
    for point in heads:
        if point['varied']['memory_layers'][0] in chosen['memory_layers']:
            head = point['varied']['memory_heads'][0]
            gain[head] = gain.get(head, 0) + s.score(point)
    order = sorted(gain, key=gain.get, reverse=True)
    return [{**chosen, 'memory_heads': tuple(sorted(order[:n]))} for n in range(1, len(order))]


def finish(s):
    """Controls at the best setting, and the best once more on fresh seeds."""
    best = s.best()
    best['chosen'] = True  # the table and the map mark it
    s.config = {**s.config, **best['varied']}
    controls = [s.plain, *(s.control(how) for how in experiment.control_conditions(s.config)[1:])]
    return [*controls, *s.ranked(s.points.values())], config_text(s, best)


def config_text(s, best):
    """A file for sample.py, with what was measured as its comment."""
    settings = best['settings']
    fresh = {'seeds': tuple(seed_list(settings['seed'], 2 * settings['num_seeds'])[settings['num_seeds']:]), 'seed': settings['seed'] + 1}
    plain, again = s.control('plain', **fresh), s.control('memory', **fresh)
    measured = (f"# Found by evaluate.py for the goal {s.config['find']!r} among {len(s.points)} settings. On {len(fresh['seeds'])} fresh "
                f"seeds and other held-out text:\n# {outcome(s, plain)} plain, {outcome(s, again)} with memory; held-out perplexity "
                f"{100 * (s.damage(again, plain) - 1):+.1f} % (bound {100 * (s.config['max_damage'] - 1):+.1f} %).\n")
    if s.config['find'] == 'answer':
        measured += "# One question was searched for: whether it holds for others is for measure 'facts', or more questions, to say.\n"
    if s.damage(best) > s.config['max_damage']:
        measured += "# No setting stayed within the bound: this one does the least damage.\n"
    return measured + ''.join(f'{name} = {settings[name]!r}\n' for name in WRITTEN)


def outcome(s, point):
    """What a person would count: the mean score, or the right answers."""
    right = point['record']['samples'].get('right')
    return f'{s.name} {s.sign * s.score(point):+.3f}' if right is None else f'{sum(right)} of {len(right)} right'


def maps(points, find, n_layer, n_head):
    """-> effect of each head alone and its damage, both (n_layer, n_head + 1), the last column all heads; NaN where not tried."""
    plain = points[0]['record']
    effect, damage = np.full((n_layer, n_head + 1), np.nan), np.full((n_layer, n_head + 1), np.nan)
    name = GOALS[find][0]
    for point in points:
        if point['stage'] in ('layer', 'head'):
            at = point['varied']['memory_layers'][0], point['varied'].get('memory_heads', (n_head,))[0]
            effect[at] = score_of(point['record'], name) - score_of(plain, name)
            damage[at] = 100 * (damage_of(point['record'], plain) - 1)
    return effect, damage
