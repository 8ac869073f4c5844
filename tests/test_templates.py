"""
Config files as the original project's are written: helpers, f-strings over them, its names for the settings.

$ python -m pytest tests/test_templates.py
"""
import re

import pytest

TOP = '''
import tiktoken
init_from = 'gpt2'
num_samples = 1
max_new_tokens = 3
temperature = 0.8
top_k = 200
seed = 1337
device = 'cpu'
dtype = 'float32'
compile = False
out_dir = 'out'
bookkeeping_token = "\\n"
enc = tiktoken.get_encoding("gpt2")
encode = lambda s: enc.encode(s, allowed_special={"<|endoftext|>"})
decode = lambda l: enc.decode(l)
remove_bookkeeping_token_mem_size = len(encode(bookkeeping_token))
'''
SENTIMENT = TOP + '''
method_text = 'method 3'
start = f"{bookkeeping_token}Trains are slow"
memory = f"{bookkeeping_token}Trains are a joy. Everybody loves a train."
knn_num = [0, 0, 0, 0, 0, 0, 5, 5, 5, 0, 0, 0]
mem_frac = 5.0
bookkeeping_frac = 0.9
knn_softmax_influence = 0.01
resid_only = False
resid_frac = 0.33
unadulterated_gpt = True
'''
RECALL = TOP + '''
method_text = 'method 2'
substitute = "Lisbon"
start = f"{bookkeeping_token}The ship sailed from"
memory = f"{bookkeeping_token}The harbour of {substitute} is old. Ships sail from {substitute} at noon."
knn_num = {9: 5}
mem_frac = 0.0
bookkeeping_frac = 0.0
knn_softmax_influence = 1000
resid_only = True
resid_frac = 0.1
unadulterated_gpt = True
mem_store = "stores/ship"
load_mem_store = False
store_mem = False
'''
STORE = RECALL.replace('store_mem = False', 'store_mem = True')


@pytest.fixture
def template(run, gpt2, tmp_path, monkeypatch):
    """template(text, ...) -> exit code, stdout, stderr of sample.py with it, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def template(text, *options):
        (tmp_path / 'template.py').write_text(text)
        code, out, err = run('sample.py', 'template.py', *options, init_from=gpt2)
        # of the folder that stands for GPT-2, which OpenAI's own is not told of
        return code, out, re.sub('note: no tokenizer beside .*\n', '', err)
    return template


@pytest.mark.parametrize('text, reading', [
    (SENTIMENT, 'reading in layers 6, 7, 8: method 3, k 5, TS 0.01, MF 5, BF 0.9, RF 0.33'),
    (RECALL, 'reading in layers 9: method 2, k 5, TS 1000, MF 0, BF 0, RF 0.1')])
def test_a_template_of_the_original_project_runs(template, tmp_path, text, reading):
    code, out, err = template(text)
    assert (code, err) == (0, '')
    assert reading in out
    assert re.search(r'^ *plain +(Trains are slow|The ship sailed from)', out, re.MULTILINE)
    assert re.search(r'^ *method [23] +(Trains are slow|The ship sailed from)', out, re.MULTILINE)
    assert [path.name for path in tmp_path.iterdir()] == ['template.py'], 'no store is asked for'


def test_a_store_that_a_template_makes_is_loaded_by_its_name_whoever_says_so(template, tmp_path):
    _, made, err = template(STORE)
    assert err == ''
    assert 'memory  stores/ship.safetensors: ' in made
    assert (tmp_path / 'stores' / 'ship.safetensors').exists()
    code, loaded, err = template(RECALL, '--load_mem_store=True')
    assert (code, err) == (0, '')
    assert loaded.splitlines()[:-1] == made.splitlines()[:-1], 'the last line is the speed'
    elsewhere = RECALL.replace('stores/ship', 'none'), '--load_mem_store=True', '--mem_store=stores/ship'
    assert template(*elsewhere)[1].splitlines()[:-1] == made.splitlines()[:-1]


def test_a_store_that_is_not_there_is_one_line(template):
    code, _, err = template(RECALL, '--load_mem_store=True', '--mem_store=stores/none')
    assert (code, err.count('\n')) == (1, 1)
    assert "no memory 'stores/none'" in err


def test_a_template_in_which_no_layer_reads_says_that_no_memory_is_read(template):
    code, out, err = template(SENTIMENT, '--knn_num=[0,0]')
    assert (code, err.count('\n')) == (0, 1)
    assert 'no memory is read: memory_layers is ()' in err
    assert 'memory  none' in out


def test_a_helper_called_like_a_setting_of_an_experiment_is_not_used(run, gpt2, tmp_path):
    (tmp_path / 'template.py').write_text(RECALL.replace('bookkeeping_frac = 0.0', 'bookkeeping_frac = 0.9'))
    short = '--num_seeds=1', '--num_held_out=1', '--controls=False', '--figure=', f'--out_dir={tmp_path}/out'
    code, _, err = run('evaluate.py', str(tmp_path / 'template.py'), *short, init_from=gpt2)
    assert code == 0, err
    assert err.count('substitute is taken for a helper and not used') == 1
    code, _, err = run('evaluate.py', str(tmp_path / 'template.py'), *short, '--measure=recall',
                       '--answer= Lisbon', '--substitute= Porto', init_from=gpt2)
    assert code == 0, err
    with open(tmp_path / 'out' / 'template' / 'results.jsonl') as f:
        assert '"substitute":" Porto"' in f.readlines()[-1]
