# Finetunes the embedded model on more text: its second run, on documents whose lines alternate.
#
# $ python data/tinyworld/prepare.py --train_documents=30000 --out=data/tinyworld_more \
#     --tokenizer_file=assets/tinyworld/tokenizer.json
# $ python train.py config/finetune_tinyworld.py
#
# Expect minutes on two cores, and the losses that stand at the end of assets/tinyworld/train_log.txt where
# init_from is the first run's model.
init_from = 'assets/tinyworld'
out_dir = 'out-finetune'
export_dir = 'out-finetune/model'
dataset = 'tinyworld_more'
start_tokens = (198, 198)
restart_positions = 0.2

block_size = 256
batch_size = 16
learning_rate = 6e-4
min_lr = 3e-5
warmup_iters = 20
max_iters = 450
lr_decay_iters = 450
beta2 = 0.99
eval_interval = 150
eval_iters = 10
