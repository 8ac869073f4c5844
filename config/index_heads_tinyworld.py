# Index heads of the embedded model, as the search picked them: python evaluate.py config/find_index_heads.py
# --init_from=assets/tinyworld --chat=False --tinyworld=True --texts_together=200 --recall_votes=40
#
# Share of questions that find their text: 0.520 (the facts that chose; 200 questions, 200 texts), 0.795 in
# the best five; 0.440 (fresh facts), 0.735 in the best five; of these the model chooses with
# recall_candidates=5.
init_from = 'assets/tinyworld'
memory_method = 5
memory_layers = ()
recall_votes = 40
recall_candidates = 5
index_heads = ((5, 1), (5, 2), (5, 3), (5, 5))
