"""
What people would search with: BM25 (Robertson, Zaragoza 2009), by the library bm25s.
"""
import numpy as np


def bm25_scores(texts, questions):
    """-> (questions, texts) float32: how well each text fits each question's words, English ones without
    its commonest. All are 0 where no text holds any of a question's words."""
    return bm25_of(texts)(questions)


def bm25_of(texts):
    """-> bm25_scores of these texts, whose words are counted once."""
    import bm25s
    words = bm25s.tokenize(texts, stopwords='en', show_progress=False)
    index = bm25s.BM25()
    index.index(words, show_progress=False)

    def scores(questions):
        asked = bm25s.tokenize(questions, stopwords='en', return_ids=False, show_progress=False)
        known = [[word for word in one if word in words.vocab] for one in asked]
        return np.stack([index.get_scores(one) if one else np.zeros(len(texts), np.float32) for one in known])
    return scores
