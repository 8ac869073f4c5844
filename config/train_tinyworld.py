# Trains the embedded model, assets/tinyworld, from nothing.
#
# $ python data/tinyworld/prepare.py && python train.py config/train_tinyworld.py
#
# Expect a validation loss near the one in assets/tinyworld/train_log.txt, and the time that stands there.
out_dir = 'out-tinyworld'
export_dir = 'out-tinyworld/model'  # assets/tinyworld holds a copy
dataset = 'tinyworld'
start_tokens = (198, 198)  # rows begin where a document does, with "\n": position 0 is the bookkeeping token
restart_positions = 0.2  # at some of these places positions begin again: keys can be read whatever theirs
restart_after = 2000  # first the model learns to look things up

n_layer = 6
n_head = 8
n_embd = 256
block_size = 256
batch_size = 16

learning_rate = 2e-3
min_lr = 1e-4
warmup_iters = 100
max_iters = 5000
lr_decay_iters = 5000
weight_decay = 0.1
beta2 = 0.99
eval_interval = 250
eval_iters = 10
