"""
Method 5: a few heads of the model find the texts that are meant, and all reading layers attend to their rows.

Letters as in model.py; n question tokens, P rows in front of a row's tokens.

Vote: each token of the question, in each index head, has a query; a text's score is that of its best row. A
text gets by how much it is above the score that few texts reach, or, where there are few, the header, added
up (late interaction, as in ColBERT, Khattab and Zaharia 2020, over keys that the model has anyway). Recall:
the best texts, or none. Read: their rows stand in front of what the cache keeps of the prompt, so that
writing is the plain model's, with a longer past.
"""
import functools
import itertools

import torch

from core.cache import Cache, padded_in_front, stand_in_front
from core.generation import write
from core.narrow import IndexRows
from core.rotary import turn
from core.votes import named_texts, votes_of
from core.windows import around
from extended import FarTexts

AS_GOOD = 10_000  # votes are told apart to so many parts of the best
LEAD_COUNTS = 2  # in the evidence: of XQuAD's questions, a tenth falsely, 0.79 recall; counted once 0.72
CLEAR = 0.35  # of the best text's votes: ahead by so much, it needs no reading beside others
ROWS_A_VOTE = 20  # an approximate index is asked for so many rows for each text that can get a vote
CANDIDATES = 512  # texts that it names for all heads to vote on
SAMPLED = 1024  # texts, drawn at random once, that tell the floor of all
SHARE_VOTED_FOR = 1 / 50  # of all texts, at least: a right one that a head half knows is not of its best 20


class Recaller:
    """The way of method 5 to a memory, fixed while it is attached; what a call recalls is in its Cache."""

    def __init__(self, memory, reading, model_config, rotary=None):
        self.memory, self.reading, self.rotary, self.config = memory, reading, rotary, model_config
        self.layers = reading.layers or memory.layers or tuple(range(model_config.n_layer))
        self.where = '' if rotary is None else reading.positions or 'insert'
        self.index_layers = sorted({layer for layer, _ in reading.index_heads})

    # ---- vote ----

    def votes(self, model, idx, held, question=None):
        """The evidence for each text: idx (B, T) -> (B, texts) float32, and how many token-heads voted.

        Texts are those that are not forgotten, in their order. question: (first, end) of the tokens that
        vote, None is all behind the header.
        """
        first, end = self.voters(idx, question)
        asked = self.asked(model, idx[:, :end], first)
        if self.are_few(held):
            votes = self.by_header(model, held, asked)
        else:
            votes = self.by_candidates(held, asked) if self.reading.index else self.by_all(held, asked)
        return votes, (end - first) * len(self.reading.index_heads)

    def voters(self, idx, question):
        """(first, end) of the tokens of idx (B, T) that vote."""
        first, end = question or (self.header_of(idx), idx.size(1))
        if not 0 <= first < end <= idx.size(1):
            raise ValueError(f"question is {question}, expected (first, end) of 1 to {idx.size(1)} tokens")
        return first, end

    def far(self, queries):
        """Turned to where rotary attention sees an unturned key far away."""
        if self.rotary is None:
            return queries
        return turn(queries, self.rotary.at_one(self.reading.distance, queries.device))

    def asked(self, model, idx, first):
        """What the tokens of idx (B, T) from `first` on look for: {(layer, key head): (B, look-ups, hs)}."""
        heads, found = model.heads_of(idx, self.index_layers), {}
        for layer, head in self.reading.index_heads:
            place = layer, head // (self.config.n_head // self.memory.n_head)
            found.setdefault(place, []).append(self.far(heads[layer][0][:, head, first:]).float().cpu())
        return {place: torch.cat(queries, dim=1) for place, queries in found.items()}

    def by_all(self, held, asked):
        """-> (B, texts): every row is looked at."""
        count = self.voted_for(len(held.live))
        return sum(votes_of(queries, self.memory.index(held, *place), held.lengths, held.live, count)
                   for place, queries in asked.items())

    def are_few(self, held):
        """Whether each text can get votes, so that the weakest says nothing of what one that is not meant
        scores, and there is a header, which does: it tells nothing. An index is for many."""
        few = len(held.live) < self.reading.recall_votes
        return few and len(self.memory.header) > 1 and not self.reading.index

    def by_header(self, model, held, asked):
        """As by_all, of few texts: the floor is what the header scores, but for its attention sink."""
        device = model.transformer.wte.weight.device
        header = model.heads_of(torch.tensor([self.memory.header], device=device), self.index_layers)
        votes = 0
        for (layer, head), queries in asked.items():
            told = header[layer][1][0, head, 1:].float().cpu()  # each row as if it were a text
            votes += votes_of(queries, self.memory.index(held, layer, head), held.lengths, held.live, 1,
                              (IndexRows(told), torch.ones(len(told), dtype=torch.int64)))
        return votes

    def voted_for(self, texts):
        """How many of so many texts a token and head can vote for."""
        return max(self.reading.recall_votes, int(SHARE_VOTED_FOR * texts))

    def by_candidates(self, held, asked):
        """As by_all, of those texts alone that an approximate index names; others get none.

        It is one of the rows of one key head, that of most look-ups, the deepest of such.
        """
        place = max(asked, key=lambda one: (asked[one].size(1), one))
        rows = self.memory.index(held, *place)
        index = held.approximate(*place, self.reading.index, rows)
        votes, texts = torch.zeros(len(asked[place]), len(held.live)), len(held.live)
        count = round(self.voted_for(texts) * SAMPLED / max(SAMPLED, texts))
        k = min(ROWS_A_VOTE * self.reading.recall_votes, len(held.tokens))
        for b, asking in enumerate(asked[place]):
            found = index.search(asking, k, rows)
            named = named_texts(*found, torch.from_numpy(held.ends), held.live, CANDIDATES)
            ids, lengths = held.ids_of(held.live[named]), held.lengths[held.live[named]]
            for of, queries in asked.items():
                own = self.memory.index(held, *of)
                votes[b, named] += votes_of(queries[b, None], own[ids], lengths, slice(None), count,
                                            held.sample(*of, own, SAMPLED))[0]
        return votes

    # ---- recall ----

    def recalled(self, model, idx, held, question=None):
        """For each row of idx (B, T) what is recalled: [((text numbers), (votes))], () for nothing.

        Rows with the same tokens vote once.
        """
        if len(held.live) == 0:
            return [((), ())] * len(idx)
        unique, back = idx.unique(dim=0, return_inverse=True)
        chosen = {}
        for rows in self.of_like_header(unique):
            votes, voters = self.votes(model, unique[rows], held, question)
            for at, own in zip(rows, votes):
                span = self.voters(unique[at, None], question)
                chosen[at] = self.choose(model, unique[at, None], held, span, own, voters)
        return [chosen[i] for i in back.tolist()]

    def choose(self, model, idx, held, span, votes, voters):
        """-> the numbers and votes of `best`, or none where the evidence is below recall_threshold."""
        numbers, best, evidence = self.best(model, idx, held, span, votes, voters)
        least = self.reading.recall_threshold
        return ((), ()) if least > 0 and evidence() < least else (numbers, best)

    def best(self, model, idx, held, span, votes, voters):
        """votes (texts,) of voters token-heads for the tokens span of idx (1, T) -> the best texts' numbers
        and votes, and a function of the evidence for the first."""
        (numbers, best), known, alone = self.ahead(votes, held.live), {}, self.by_itself(idx, span)

        def log_p(runs):
            new = [run for run in runs if run not in known]
            known.update(zip(new, self.likelihoods(model, *alone, held, new)) if new else ())
            return [known[run] for run in runs]

        numbers, best = self.fitting(idx, held, numbers, best)
        if len(numbers) > self.reading.recall_texts:
            numbers, best = self.likeliest(log_p([(number,) for number in numbers]), numbers, best)

        def evidence():
            after, without = log_p([numbers[:1], ()])
            others = votes[torch.isin(held.live, torch.tensor(numbers), invert=True)].tolist()
            led = LEAD_COUNTS * (best[0] - max(others, default=0)) / voters
            gain = (after - without) / (span[1] - span[0])
            return gain + (min(led, gain) if self.are_few(held) else led)  # few: it leads for want of others
        return numbers, best, evidence

    def by_itself(self, idx, span):
        """idx (1, T) without what stands between its header and the question, the tokens of span -> (1, n),
        and its span there: after the same question, asked before, no text makes it likelier."""
        (first, end), h = span, self.header_of(idx)
        h = h if h == len(self.memory.header) <= first else first
        return torch.cat((idx[:, :h], idx[:, first:end]), dim=1), (h, h + end - first)

    def ahead(self, votes, numbers):
        """votes (texts,) for texts of these numbers -> the numbers and votes of those recalled, or of more
        where none leads clearly over the first not recalled."""
        wanted, among = self.reading.recall_texts, self.reading.recall_candidates
        # of texts as good but for rounding, such as one that is stored twice, the first
        at = (votes * (AS_GOOD / votes.max().clamp(min=1e-9))).round().argsort(descending=True, stable=True)
        best = votes[at[:max(wanted + 1, among)]]
        lead = best[0] - (best[wanted] if len(best) > wanted else 0)
        count = wanted if lead >= CLEAR * best[0] else max(wanted, among)
        return tuple(numbers[at[:count]].tolist()), tuple(best[:count].tolist())

    def fitting(self, idx, held, numbers, votes):
        """Of more texts than are recalled those that can be read beside idx (1, T), if they are enough."""
        room = self.config.block_size - (idx.size(1) if self.where == 'insert' else 0)
        fits = [place for place, number in enumerate(numbers) if held.texts[number]['rows'] < room]
        if len(fits) < self.reading.recall_texts:
            return numbers[:self.reading.recall_texts], votes[:self.reading.recall_texts]
        return tuple(numbers[place] for place in fits), tuple(votes[place] for place in fits)

    def likeliest(self, log_p, numbers, votes):
        """Of more texts than are recalled the best: those that make the question's tokens likely, log_p of
        each in nats (Sachan et al. 2022), and have votes, of a head in nats too since it is a logit."""
        heads = len(self.reading.index_heads)
        found = [(likely + own / heads, -place, number, own)
                 for place, (likely, number, own) in enumerate(zip(log_p, numbers, votes))]
        best = sorted(found, reverse=True)[:self.reading.recall_texts]
        return tuple(number for *_, number, _ in best), tuple(own for *_, own in best)

    def likelihoods(self, model, idx, span, held, recalled):
        """log p of span's tokens of idx (1, T) after each of `recalled`, numbers of texts or () for a header
        alone, side by side: [nats]. But for 'far', what follows a header is told by that, without a text."""
        first, end = span
        cache, idx = Cache(end), idx[:, :end].expand(len(recalled), -1)
        cache.readers = {}
        before = self.fill(model, idx, recalled, cache, held, alone=True).expand(len(idx), -1, -1)
        x = torch.cat((before, model.hidden(idx[:, before.size(1):], cache)), dim=1)
        first = max(1, first)  # the first token of all follows none
        # row by row: those of a long question are as many numbers as the vocabulary for each of its tokens
        log_p = (model.lm_head(row).float().log_softmax(-1) for row in x[:, first - 1:-1])
        return [one.gather(-1, idx[0, first:, None]).sum().item() for one in log_p]

    def recall(self, model, idx, cache):
        """The prompt idx (B, T) is complete: recalls into an empty cache -> as `fill`; None where nothing is
        recalled."""
        held = self.memory.held  # as it is now, whatever others add or forget meanwhile
        recalled = self.recalled(model, idx, held)
        cache.counts.recalled = [[(0, *one)] for one in recalled]
        self.count(cache, idx)
        if not any(numbers for numbers, _ in recalled):
            return None
        if self.where != 'far' and len(self.of_like_header(idx)) > 1:
            raise ValueError("the rows of the batch begin with different parts of what the memory's texts "
                             "stand behind: give those that begin alike together, or call generate")
        return self.fill(model, idx, [numbers for numbers, _ in recalled], cache, held)

    def count(self, cache, idx, question=None):
        unique, tokens = idx.unique(dim=0), 0
        for rows in self.of_like_header(unique):
            first, end = self.voters(unique[rows], question)
            tokens += len(rows) * (end - first)
        for layer in self.index_layers:
            heads = sum(of == layer for of, _ in self.reading.index_heads)
            cache.counts.add(layer, searches=heads * tokens)

    # ---- write ----

    def write(self, model, cache, idx, writing, question):
        """As core/generation.py's write, after a recall, and with more of them every recall_every tokens.

        Rows that recall nothing are written on their own: they are the plain model's, bit for bit.
        """
        held = self.memory.held
        recalled = self.recalled(model, idx, held, question)
        self.count(cache, idx, question)
        cache.counts.recalled, parts = [[(0, *one)] for one in recalled], {}
        for reads, group in itertools.product((False, True), self.of_like_header(idx)):
            rows = [b for b in group if bool(recalled[b][0]) == reads]
            if rows:
                own = cache.empty()
                own.counts, own.readers = cache.counts, {}
                if reads:
                    self.fill(model, idx[rows], [recalled[b][0] for b in rows], own, held)
                renew = functools.partial(self.renew, model, rows, cache, question)
                written = write(model.newest_logits, own, idx[rows], writing.of(rows),
                                renew if self.reading.recall_every else None)
                parts.update(zip(rows, written))
        # rows that ended sooner than others are filled up with the token that ended them
        longest = max(map(len, parts.values()))
        filled = [torch.cat((row, row[-1:].expand(longest - len(row)))) for _, row in sorted(parts.items())]
        return torch.stack(filled)

    def renew(self, model, rows, first, question, idx, step):
        """A cache with what is recalled at this step; None where it is not one of recall_every."""
        if step == 0 or step % self.reading.recall_every:
            return None
        held = self.memory.held
        idx, since = self.within_reach(idx, held, question)
        recalled, cache = self.recalled(model, idx, held, since), first.empty()
        for row, one in zip(rows, recalled):
            first.counts.recalled[row].append((step, *one))
        cache.counts, cache.readers = first.counts, {}
        self.count(cache, idx, since)
        if any(numbers for numbers, _ in recalled):
            self.fill(model, idx, [numbers for numbers, _ in recalled], cache, held)
        return cache

    def within_reach(self, idx, held, question):
        """Of what is written by now, idx (B, T), the header and the newest tokens that any text can be read
        beside; and the span in it that votes: what was written does so too."""
        h, longest = self.header_of(idx), max((text['rows'] for text in held.texts), default=0)
        first, _ = self.voters(idx, question)
        gone = idx.size(1) - max(h + 1, self.config.block_size - longest)
        if gone > 0:
            idx, first = torch.cat((idx[:, :h], idx[:, h + gone:]), dim=1), max(h, first - gone)
        return idx, (first, idx.size(1))

    # ---- read ----

    def header_of(self, idx):
        """How many of the first tokens every row shares with what the memory's texts were written behind."""
        header = idx.new_tensor(self.memory.header)[:idx.size(1) - 1]
        same = (idx[:, :len(header)] == header).all(0).long()
        return int(same.cumprod(0).sum())

    def of_like_header(self, idx):
        """The rows of idx (B, T) by how much of the header each has -> [[number, ...], ...]."""
        groups = {}
        for b in range(len(idx)):
            groups.setdefault(self.header_of(idx[b, None]), []).append(b)
        return list(groups.values())

    def fill(self, model, idx, recalled, cache, held, alone=False):
        """An empty cache gets what is recalled, [(numbers of a row), ...], before the tokens of idx (B, T).

        It then goes on at cache.offset, behind the header. alone: without neighbours. -> what the model made
        of the header (1, h, C).
        """
        if all(row == recalled[0] for row in recalled):
            recalled = recalled[:1]  # stands for all
        room = 0 if alone else self.room_beside(idx, cache)
        runs = [self.runs(held, row, room) for row in recalled]
        rows = self.memory.rows_of(model, held, list(itertools.chain.from_iterable(runs)), self.layers)
        texts = [[rows[run] for run in row] for row in runs]
        if self.where == 'far':
            cache.readers = {layer: self.far_texts(layer, texts, idx.device) for layer in self.layers}
            return self.read_header(model, idx[:1, :0])[0]
        h = self.header_of(idx)
        x, header = self.read_header(model, idx[:1, :h])
        for layer in range(self.config.n_layer):
            read = texts if layer in self.layers else [[]] * len(texts)
            rows = [self.front(header[layer], [text[layer] for text in row]) for row in read]
            stand_in_front(cache, layer, rows, idx.device)
        longest = max((rows[self.layers[0]][0].size(1) for row in texts for rows in row), default=0)
        self.make_room(cache, idx.size(1), h, longest)
        return x

    def room_beside(self, idx, cache):
        """Tokens that a text can take with its neighbours, which take none from what is yet to be written."""
        return self.config.block_size - max(cache.size, idx.size(1))

    def runs(self, held, numbers, room):
        """What is read as one text: of each recalled one its number, and those of its neighbours."""
        runs, read = [], set(held.forgotten)
        for number in numbers:
            if number not in read:
                runs.append(around(held.texts, number, self.reading.recall_neighbours, room, read))
                read.update(runs[-1])
        return runs

    def make_room(self, cache, T, h, longest):
        """Header, recalled text and tokens must fit the model's context."""
        room = self.config.block_size - h - (longest if self.where == 'insert' else 0)
        if T - h > room:
            raise ValueError(f"the recalled text has {longest} tokens and the prompt {T}, the model's "
                             f"context is {self.config.block_size}: shorten the prompt, or remember in "
                             "shorter texts")
        cache.offset, cache.size = h, min(cache.size - h, room)

    def read_header(self, model, idx):
        """idx (1, h) -> what the model makes of them (1, h, C), and {layer: (keys, values)} (nkv, h, hs)."""
        C, nkv, hs = self.config.n_embd, self.config.n_kv_head, self.config.head_size
        if idx.size(1) == 0:
            wte = model.transformer.wte.weight
            nothing = wte.new_zeros(nkv, 0, hs)
            return wte.new_zeros(1, 0, C), dict.fromkeys(range(self.config.n_layer), (nothing, nothing))
        cache = Cache(idx.size(1))
        cache.readers, cache.kept_layers = {}, range(self.config.n_layer)
        x = model.hidden(idx, cache)
        return x, {layer: (keys[0], values[0]) for layer, (_, keys, values) in cache.kept.items()}

    def front(self, header, texts):
        """Rows of one layer at their places: header and texts, each (keys, values) -> (2 nkv, P, hs).

        Inserted, each text ends where the prompt goes on behind its header, and the header stands before the
        longest; else header and texts stand where they were written.
        """
        h, lengths = header[0].size(1), [keys.size(1) for keys, _ in texts]
        if self.where == 'insert':
            places = [torch.arange(h) - max(lengths, default=0), *(torch.arange(n) + h - n for n in lengths)]
        else:
            written = len(self.memory.header)
            places = [torch.arange(h), *(torch.arange(n) + written for n in lengths)]
        like = header[0]
        keys, values = (torch.cat([part.to(like) for part in parts], dim=1) for parts in zip(header, *texts))
        if self.rotary is not None:
            keys = turn(keys, self.rotary.at(torch.cat(places).to(keys.device)))
        return torch.cat((keys, values))

    def far_texts(self, layer, texts, device):
        """texts: for each row of the batch the rows of its texts, {layer: (keys, values)}."""
        nothing = 2 * (torch.zeros(self.memory.n_head, 0, self.memory.head_size),)  # of a row that abstains
        joined = [[torch.cat(parts, dim=1) for parts in zip(nothing, *(text[layer] for text in row))]
                  for row in texts]
        kv, seen = padded_in_front([torch.cat(pair) for pair in joined])
        return FarTexts(*kv.to(device).chunk(2, dim=1), seen, self)
