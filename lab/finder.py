"""
Which layers, which heads, how strong? A search for the setting with the largest effect at bounded damage.

Each stage's candidates are points of an experiment: single layers; pairs of the best; the strengths, which
are the config's grid; every head alone, which is the map; the best heads together, one more each time; the
strengths once more. What is found is then measured again on seeds that the search has not seen, for the best
of many is partly luck.
"""
import itertools

import numpy as np

from core.sampling import seed_list
from lab import stats
from lab.grid import OF_A_MEMORY, axes_of, base_of, combinations, control_conditions, control_point, label_of
from lab.measures import point_seeds
from lab.runs import model_of, run_all, run_id, weights_of

GOALS = {'positive': ('sentence_compound', 1), 'negative': ('sentence_compound', -1),
         'answer': ('probability', 1)}  # what is looked at, and whether more or less of it is better
MEASURE = {'positive': 'sentiment', 'negative': 'sentiment', 'answer': 'recall'}
BEST_LAYERS = 3  # of which pairs are tried
ALIKE_PROBABILITY = 0.02  # a difference of two settings' probability that is no reason to do more damage
WRITTEN = ('init_from', 'start', 'chat', 'system', 'memory_text', 'memory_file', 'max_new_tokens',
           'temperature', 'top_k', *OF_A_MEMORY)


class Search:
    """The points tried so far; each is measured once, and `max_damage` bounds which can be the best."""

    def __init__(self, config, results, done):
        self.config, self.results, self.done = config, results, done
        self.name, self.sign = GOALS[config['find']]
        self.weights = weights_of(model_of(config)[0])
        self.points, self.plain = {}, self.control('plain', {})

    def control(self, how, changes):
        """A condition, measured at the config's settings but for `changes`."""
        settings = {**self.config, 'memory_layers': self.config['memory_layers'] or (0,), **changes}
        point = {**control_point(settings, how), 'stage': 'control'}
        run_all([point], self.config, self.results, self.done, 'control')
        return point

    def run(self, stage, candidates):
        """candidates: settings that differ from the base -> their points."""
        points = []
        for varied in candidates:
            point = {'label': label_of(varied), 'panel': 0, 'varied': varied,
                     'settings': {**base_of(self.config), **varied}, 'stage': stage}
            points.append(self.points.setdefault(run_id(point['settings'], self.weights), point))
        run_all(points, self.config, self.results, self.done, stage)
        return points

    def score(self, point):
        """The goal's score: the mean of the texts' sentence compound, or the probability of the answer."""
        return self.sign * score_of(point['record'], self.name)

    def damage(self, point):
        """Held-out perplexity, relative to the plain model's."""
        return damage_of(point['record'], self.plain['record'])

    def ranked(self):
        """All points, best first: those within max_damage by their score, the others by their damage."""
        def key(point):
            within = self.damage(point) <= self.config['max_damage']
            return (0, -self.score(point)) if within else (1, self.damage(point))
        return sorted(self.points.values(), key=key)

    def best(self):
        """Of those as good as the first but for chance, one standard error, the one that damages least."""
        first = self.ranked()[0]
        samples = first['record']['samples'].get(self.name)
        margin = ALIKE_PROBABILITY if samples is None else float(np.std(samples)) / len(samples) ** 0.5
        alike = [point for point in self.points.values() if self.score(point) >= self.score(first) - margin]
        return min(alike, key=self.damage)


def score_of(record, name):
    """A number of the record, or the mean over its texts."""
    return float(record['numbers'].get(name, np.mean(record['samples'].get(name, 0))))


def damage_of(record, plain):
    """Held-out perplexity of one record over that of another."""
    return stats.perplexity(**record['held_out']) / stats.perplexity(**plain['held_out'])


# ---- the search ----

def search(config, results, done):
    """-> the controls and every point tried, best first, with records; the best as a config file's text."""
    fresh = fresh_seeds(config)  # now: hours later is too late to find that there are none
    s, n_head = Search(config, results, done), model_of(config)[0].config.n_head
    layers = config['memory_layers'] or tuple(range(model_of(config)[0].config.n_layer))
    single = s.run('layer', [{'memory_layers': (layer,)} for layer in layers])
    single = sorted(single, key=s.score, reverse=True)[:BEST_LAYERS]
    best = [point['varied']['memory_layers'][0] for point in single]
    s.run('pair', [{'memory_layers': tuple(sorted(pair))} for pair in itertools.combinations(best, 2)])
    s.run('strength', strengths(config, {'memory_layers': (best[0],)}))
    s.run('strength', strengths(config, s.best()['varied']))
    heads = s.run('head', [{'memory_layers': (layer,), 'memory_heads': (head,)}
                           for layer in layers for head in range(n_head)])
    s.run('heads', best_heads_first(s, heads))
    s.run('strength', strengths(config, s.best()['varied']))
    chosen = s.best()
    chosen['chosen'] = True  # the table and the map mark it
    controls = [s.plain, *(s.control(how, chosen['varied']) for how in control_conditions(config)[1:])]
    return [*controls, *s.ranked()], config_text(s, chosen, fresh)


def strengths(config, chosen):
    """The grid's combinations, where the best so far reads."""
    where = {name: chosen[name] for name in ('memory_layers', 'memory_heads') if name in chosen}
    return [{**where, **strength} for axes in config['grid'] for strength in combinations(axes_of(axes))]


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


# ---- what was found ----

def fresh_seeds(config):
    """As many seeds as the search has, none of them its own."""
    seen = point_seeds(config)
    return tuple(seed for seed in seed_list(config['seed'], 2 * len(seen)) if seed not in seen)[:len(seen)]


def config_text(s, best, fresh):
    """A file for sample.py. Its comment says what fresh seeds, and other held-out text, gave."""
    settings = best['settings']
    once_more = {**best['varied'], 'seeds': fresh, 'seed': settings['seed'] + 1}
    plain, again = s.control('plain', once_more), s.control('memory', once_more)
    damage = damage_of(again['record'], plain['record'])
    measured = (f"# Found by evaluate.py for the goal {s.config['find']!r} among {len(s.points)} settings. "
                f"On {len(fresh)} fresh seeds and other held-out text:\n"
                f"# {outcome(s, plain)} plain, {outcome(s, again)} with memory; held-out perplexity "
                f"{100 * (damage - 1):+.1f} % (bound {100 * (s.config['max_damage'] - 1):+.1f} %).\n")
    if s.config['find'] == 'answer':
        measured += ("# One question was searched for: whether it holds for others is for measure 'facts', "
                     "or more questions, to say.\n")
    if s.damage(best) > s.config['max_damage']:
        measured += "# No setting stayed within the bound: this one does the least damage.\n"
    return measured + ''.join(f'{name} = {settings[name]!r}\n' for name in WRITTEN)


def outcome(s, point):
    """What a person would count: the mean score, or the right answers."""
    right = point['record']['samples'].get('right')
    if right is None:
        return f'{s.name} {s.sign * s.score(point):+.3f}'
    return f'{sum(right)} of {len(right)} right'


def maps(points, find, n_layer, n_head):
    """-> {'effect', 'damage'} of each head alone, [n_layer][n_head + 1]: the last column is all heads, None
    is what was not tried."""
    plain, name = points[0]['record'], GOALS[find][0]
    effect, damage = ([[None] * (n_head + 1) for _ in range(n_layer)] for _ in range(2))
    for point in points:
        if point['stage'] in ('layer', 'head'):
            varied, record = point['varied'], point['record']
            layer, head = varied['memory_layers'][0], varied.get('memory_heads', (n_head,))[0]
            effect[layer][head] = score_of(record, name) - score_of(plain, name)
            damage[layer][head] = 100 * (damage_of(record, plain) - 1)
    return {'effect': effect, 'damage': damage}
