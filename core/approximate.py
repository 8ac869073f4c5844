"""
An approximate index of one head's keys, for memories whose every row takes too long to look at.

Made by FAISS from the rows that a memory holds, each time it is opened: an index file is never read. M stored
rows, hs head size, N look-ups, K neighbours.
"""
import math

import faiss
import numpy as np
import torch

from core.index import one_thread

TRAIN_ROWS = 50_000  # of which lists are made: more is slower and hardly better
PROBED = 1 / 32  # of an inverted file's lists are looked through
NEWER = 1 / 16  # of its rows may come later, which are looked at one by one: then it is worth making again
ASKED, NEAREST = 200, 10  # stored rows whose nearest are looked for, both ways, to say how many are found


class Approximate:
    """
    Keys (M, hs) float32 by FAISS's factory string, such as 'IVF1024,Flat', 'IVF1024,SQ8' or 'HNSW32'.

    `recall`: the share of the ten nearest rows of 200 stored rows that it finds. Raises ValueError for a
    string that FAISS does not know, or one that wants more rows.
    """

    def __init__(self, keys, factory):
        rows, self.size = np.ascontiguousarray(keys.numpy()), len(keys)
        try:
            self.index = faiss.index_factory(rows.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
            if not self.index.is_trained:
                some = np.random.default_rng(0).permutation(len(rows))[:TRAIN_ROWS]
                self.index.train(rows[np.sort(some)])
            self.index.add(rows)
            if isinstance(self.index, faiss.IndexIVF):
                self.index.nprobe = math.ceil(PROBED * self.index.nlist)
            elif isinstance(self.index, faiss.IndexHNSW):
                self.index.hnsw.efSearch = 512
            self.recall = self.measured(rows)
        except RuntimeError as error:
            raise ValueError(f"memory_index is {factory!r}, which FAISS cannot make of {len(rows)} rows "
                             f"({str(error).splitlines()[-1].strip()}): leave it out for exact search, or "
                             "take one like 'IVF256,Flat'") from None

    def misses_many_of(self, rows):
        """Whether so many of these, an IndexRows, came after those that it was made of."""
        return len(rows) - self.size > NEWER * self.size

    def search(self, queries, k, rows=None):
        """queries (N, hs) -> scores (N, k) float32, best first, and rows (N, k) int64, -1 for none.

        rows: an IndexRows, those that it was made of and perhaps some behind them, which it looks at exactly.
        """
        with one_thread():
            found = self.index.search(np.ascontiguousarray(queries.numpy()), k)
        scores, ids = map(torch.from_numpy, found)
        if rows is None or len(rows) == self.size:
            return scores, ids
        newer = rows.products(queries, self.size, len(rows)).topk(min(k, len(rows) - self.size), dim=1)
        scores, best = torch.cat((scores, newer.values), dim=1).topk(k, dim=1)
        return scores, torch.cat((ids, self.size + newer.indices), dim=1).gather(1, best)

    def measured(self, rows):
        asked = rows[np.linspace(0, len(rows) - 1, min(ASKED, len(rows))).astype(int)]
        k = min(NEAREST, len(rows))
        with one_thread():
            _, exact = faiss.knn(asked, rows, k, metric=faiss.METRIC_INNER_PRODUCT)
        _, found = self.search(torch.from_numpy(asked), k)
        return float(np.mean([len({*a} & {*b}) / k for a, b in zip(exact.tolist(), found.tolist())]))
