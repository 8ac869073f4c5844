"""
The index: one layer's stored rows, and the search for a query's nearest among them, exactly.

nh heads, M stored rows, hs head size, N look-ups, K neighbours.

What finds candidates works in float32, and a distance taken as |q|^2 - 2 q.k + |k|^2 is a small difference
of large numbers: among keys that nearly repeat each other it finds half of the nearest. So where two scores
are closer than rounding can have moved them, more candidates are taken and ranked by their true scores in
float64, and more again until nothing that was left out can be nearer.
"""
import contextlib
import math

import faiss
import numpy as np
import torch
from torch.nn import functional as F

# beside the K wanted, where scores are too close to tell: 20 copies of a text are then ranked in one pass
SPARE_CANDIDATES = 27
# beyond, only the set of the K is exact, their order as float32 tells it: no method asks for more. For the
# order of 128 among 1,000 to 20,000 random keys 0.9 to 1.0 of the searches would be ranked again, for the
# set 0.01 to 0.37
ORDERED_UP_TO_K = 32
EPSILON = 2.0**-24  # of float32, half a unit in the last place
# of one head; from there on FAISS takes the product (its distance_compute_blas_threshold)
DIRECT_BELOW_QUERIES = 20
# one product for all heads is taken from so many query-row pairs of all heads on, below which FAISS, a head
# at a time, is up to three times as fast, and below so many look-ups a head, from which on they are alike and
# FAISS needs less memory; between, it is 1.4 to 4 times as fast (12 heads, 141 to 50,000 rows, 2 cores)
STACKED_FROM_PAIRS, STACKED_BELOW_QUERIES = 150_000, 2_000
SCORES_A_BLOCK = {'cpu': 2**23, 'gpu': 2**28}  # of one product, 4 bytes each: 32 MiB and 1 GiB
NUMBERS_A_RANKING = 2**22  # of candidates, 8 bytes each: 32 MiB


class Table:
    """Rows (nh, M, hs) float32 that never change, as one table of nh * M rows with a device and dtype.

    Conversions are kept.
    """

    def __init__(self, rows):
        self.rows, self._kept = rows, {}

    @torch.inference_mode(False)  # what is kept outlasts the call that first asked for it
    def like(self, x):
        """-> (nh * M, hs) with the device and dtype of x."""
        key = x.device, x.dtype
        if key not in self._kept:
            self._kept[key] = self.rows.flatten(0, 1).to(x.device, x.dtype)
        return self._kept[key]

    def places(self, heads, ids):
        """heads (N,), ids (N, K) -> places (N, K) in the table.

        A missing id becomes some row, whose weight must be 0.
        """
        return heads[:, None] * self.rows.size(1) + ids.clamp(min=0)


class Index:
    """Searches the keys (nh, M, hs) float32 of one layer.

    Made once and never changed, so that a search and an append do not meet.
    """

    def __init__(self, keys):
        self.table, self.n_head, self.head_size = Table(keys), keys.size(0), keys.size(2)
        self._lengths = {}

    def __len__(self):
        return self.table.rows.size(1)

    def search(self, heads, queries, k, metric='l2'):
        """The k stored keys of each look-up's head that are nearest to its query: those of brute force in
        float64, up to ties.

        heads (N,) int64 in any order, queries (N, hs); metric 'l2', squared Euclidean distance, least first,
        or 'product', inner product, greatest first. -> scores (N, k) float32 and ids (N, k) int64, rows of
        the index, on the device of `queries`. Where fewer than k are stored, the rest of ids is -1 and of
        scores inf, or -inf for 'product'.
        """
        if metric not in ('l2', 'product'):
            raise ValueError(f"metric is {metric!r}, expected 'l2' or 'product'")
        if not are_sorted(heads):  # candidates are found head by head
            order = heads.argsort(stable=True)
            back = order.argsort()
            return tuple(found[back] for found in self.search(heads[order], queries[order], k, metric))
        held, queries = min(k, len(self)), queries.detach().float()
        if held == 0 or len(heads) == 0:
            scores, ids = queries.new_empty(len(heads), 0), heads.new_empty(len(heads), 0)
        else:
            scores, ids = self._search(heads, queries, held, metric)
        missing, worst = (0, k - ids.size(1)), math.inf if metric == 'l2' else -math.inf
        if missing[1] == 0:
            return scores, ids
        return F.pad(scores, missing, value=worst), F.pad(ids, missing, value=-1)

    def _search(self, heads, queries, k, metric):
        """As `search`, of sorted heads and k <= M."""
        rough, ids, error = self._candidates(heads, queries, min(k + 1, len(self)), metric)
        first = 0 if k <= ORDERED_UP_TO_K else k - 1  # of the gaps that count, to the next key the last
        unclear = too_close(*(as_array(x) for x in (rough[:, first:], error)))
        scores, ids = rough[:, :k], ids[:, :k]
        if unclear.any():
            unclear = torch.as_tensor(unclear)
            again = heads[unclear], queries[unclear]
            true, ids[unclear] = self._ranked(*again, k, metric, k + SPARE_CANDIDATES)
            scores[unclear] = true.float()
        return scores, ids

    def _ranked(self, heads, queries, k, metric, count):
        """As `_search`, the best of `count` candidates by their true scores in float64, of more where these
        prove too few."""
        count = min(count, len(self))
        rough, candidates, error = self._candidates(heads, queries, count, metric)
        scores, ids = self._rank(heads, queries, candidates, k, metric)
        if count < len(self):
            # of what was found, and the best that what was left out can seem to be
            last, beyond = scores[:, -1], rough[:, -1]
            unproven = last > beyond - error if metric == 'l2' else last < beyond + error
            if unproven.any():
                again = heads[unproven], queries[unproven]
                scores[unproven], ids[unproven] = self._ranked(*again, k, metric, 4 * count)
        return scores, ids

    def _candidates(self, heads, queries, count, metric):
        """-> scores (N, count) float32, best first, their ids, and (N,) by how much rounding can have moved
        any score."""
        counts = heads.bincount(minlength=self.n_head)
        busiest, pairs = counts.max().item(), len(heads) * len(self)
        balanced = busiest * self.n_head < 2 * len(heads)  # the product is as wide as the busiest head
        in_range = pairs >= STACKED_FROM_PAIRS and busiest < STACKED_BELOW_QUERIES
        if queries.device.type != 'cpu' or balanced and in_range:
            rough, ids = self._stacked(counts, busiest, queries, count, metric)
        else:
            rough, ids = self._faiss(counts, queries, count, metric)
            # true differences: the error is one of the distance itself
            if metric == 'l2' and busiest < DIRECT_BELOW_QUERIES:
                return rough, ids, (self.head_size + 3) * EPSILON * rough[:, -1]
        reach = queries.norm(dim=1) + self._longest(queries)[heads]  # |q| + |k| bounds each term of the sums
        return rough, ids, (self.head_size + 3) * EPSILON * reach.square() * (1 if metric == 'l2' else 0.5)

    def _rank(self, heads, queries, candidates, k, metric):
        """The best k of each query's candidates (N, count), by scores in float64: scores and ids (N, k). Of
        equal ones the first, as in core/kernel_reading.h."""
        found, table, candidates = [], self.table.like(queries), candidates.sort(dim=1).values
        block = max(1, NUMBERS_A_RANKING // (candidates.size(1) * self.head_size))
        for h, q, ids in zip(heads.split(block), queries.split(block), candidates.split(block)):
            keys = table[self.table.places(h, ids)].double()  # (n, count, hs)
            q = q.double()[:, None]  # (n, 1, hs)
            scores = (keys - q).square_().sum(-1) if metric == 'l2' else (keys @ q.transpose(1, 2))[..., 0]
            scores, at = scores.sort(dim=1, descending=metric == 'product', stable=True)
            found.append((scores[:, :k], ids.gather(1, at[:, :k])))
        return tuple(torch.cat(column) for column in zip(*found)) if len(found) > 1 else found[0]

    def _faiss(self, counts, queries, count, metric):
        """Candidates of counts (nh,) look-ups in each head.

        FAISS goes through the rows where they lie, one head after the other. A flat index would be a copy of
        them.
        """
        rows, flat = self.table.rows.numpy(), np.ascontiguousarray(queries.numpy())
        found = np.empty((len(flat), count), dtype=np.float32)
        ids = np.empty((len(flat), count), dtype=np.int64)
        kind, end = faiss.METRIC_L2 if metric == 'l2' else faiss.METRIC_INNER_PRODUCT, 0
        with one_thread():
            for head, n in enumerate(counts.tolist()):
                if n > 0:
                    start, end = end, end + n
                    near = faiss.knn(flat[start:end], rows[head], count, metric=kind)
                    found[start:end], ids[start:end] = near
        return torch.from_numpy(found), torch.from_numpy(ids)

    def _stacked(self, counts, busiest, queries, count, metric):
        """As `_faiss`, on any device: one product for all heads, as wide as the busiest; blocks of queries,
        so that rows are read once."""
        keys = self.table.like(queries).view(self.n_head, len(self), self.head_size)
        asked = (torch.arange(busiest, device=queries.device) < counts[:, None]).nonzero(as_tuple=True)
        padded = queries.new_zeros(self.n_head, busiest, self.head_size)
        padded[asked] = queries
        found = []
        scores_a_block = SCORES_A_BLOCK['cpu' if queries.device.type == 'cpu' else 'gpu']
        for block in padded.split(max(1, scores_a_block // (self.n_head * len(self))), dim=1):
            if metric == 'l2':  # the nearest has the greatest 2 q.k - |k|^2
                squares = self._squares(queries)[:, None]
                scores = torch.baddbmm(squares, block, keys.transpose(1, 2), beta=-1, alpha=2)
            else:
                scores = block @ keys.transpose(1, 2)  # (nh, n, M)
            found.append(scores.topk(count))
        best, ids = (torch.cat(column, dim=1)[asked] for column in zip(*found))
        return (queries.square().sum(-1, keepdim=True) - best if metric == 'l2' else best), ids

    @torch.inference_mode(False)
    def _squares(self, like):
        """|k|^2 of the keys, (nh, M), on the device of `like`."""
        if like.device not in self._lengths:
            self._lengths[like.device] = self.table.rows.square().sum(-1).to(like.device)
        return self._lengths[like.device]

    @torch.inference_mode(False)
    def _longest(self, like):
        """|k| of each head's longest key, (nh,)."""
        key = 'longest', like.device
        if key not in self._lengths:
            self._lengths[key] = self._squares(like).amax(1).sqrt()
        return self._lengths[key]


def as_array(x):
    """A tensor on the CPU as NumPy's view of it, whose small steps cost a fraction of torch's."""
    return x.numpy() if x.device.type == 'cpu' else x


def are_sorted(heads):
    heads = as_array(heads)
    return len(heads) < 2 or bool((heads[1:] >= heads[:-1]).all())


def too_close(scores, error):
    """(N,), True where two of scores (N, n) in a row are closer than error (N,) lets them be told."""
    return (abs(scores[:, 1:] - scores[:, :-1]) <= 2 * error[:, None]).any(1)


@contextlib.contextmanager
def one_thread():
    """A search is microseconds of work, waking a second thread for it can take a thousand times that.

    torch shares the setting.
    """
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
