"""
bench.py measures what it says; how fast is not tested.

$ python -m pytest tests/test_bench.py
"""
import json
import os

import pytest
from conftest import ROOT

SMALL = ['--stored_tokens=20,30', '--contexts=16,40', '--curve_tokens=10,30', '--repeats=2', '--memory_fraction=5.0',
         "--workloads=[{'rows': 1, 'prompt': 16, 'new': 3}, {'rows': 3, 'prompt': 20, 'new': 2}, {'rows': 1, 'prompt': 900, 'new': 1}]"]


def test_every_part_is_measured_printed_and_published(run, folder, tmp_path):
    code, out, err = run('bench.py', f'--models={folder}', f'--publish_dir={tmp_path}', *SMALL, init_from=None)
    assert code == 0, err
    result = json.loads(out.splitlines()[-1])
    name = os.path.basename(folder)
    with open(tmp_path / f'{name}.json') as f:
        assert json.load(f) == result
    assert sorted(os.listdir(tmp_path)) == [f'{name}.json', f'{name}_curves.png', f'{name}_write.png']
    assert {'device', 'torch_threads', 'torch', 'faiss', 'transformers'} < result['machine'].keys()
    model = result['models'][0]
    assert model['layers'] == [0, 1]
    assert [work['prompt'] for work in model['write']] == [16, 20], 'a prompt that is longer than the context is left out'
    names = {row['name']: row for row in model['write'][0]['table']}
    assert {'Hugging Face', 'everything again', 'plain', 'plain, bfloat16', 'each, method 1, 20', 'each, method 3, 30',
            'last, method 3, 20', 'last, method 2, one layer, 30', 'method 4, 20', 'each, method 3, 20, bfloat16'} < names.keys()
    assert all(0 < row['ms'][1] <= row['ms'][0] <= row['ms'][2] for row in names.values())
    assert names['plain']['of_plain'] == names['Hugging Face']['of_hugging_face'] == 1
    assert names['plain']['searches'] == 0 < names['each, method 3, 20']['searches']
    assert 'Hugging Face' not in {row['name'] for row in model['write'][1]['table']}
    for rows in model['curves'].values():
        assert all(row['searches']['method 4'] == model['n_head'] for row in rows)
        assert all(0 < row['searches']['each, method 3'] <= 2 * model['n_head'] for row in rows)
    assert [row['stored_tokens'] for row in model['load']['table']] == [90, 20, 30]
    assert model['load']['peak_mb']['plain'] > 100
    assert model['build']['plain forward']['of_plain'] == 1
    assert [(row['stored_tokens'], row['rows']) for row in model['search']] == [(20, 1), (20, 3), (30, 1), (30, 3)]


@pytest.mark.parametrize(('wrong', 'message'), [
    ('--parts=write,nothing', 'parts names nothing, expected some of build,load,search,curves,write'),
    ("--workloads=[{'rows': 1}]", 'is not like'),
    ("--workloads=[{'rows': 0, 'prompt': 16, 'new': 1}]", 'with numbers from 1 on'),
    ('--workloads=[]', 'no workload or no context fits'),
    ("--workloads=[{'rows': 'a', 'prompt': 16, 'new': 1}]", 'with numbers from 1 on'),
    ('--repeats=0', 'must be 1 or more'),
    ('--memory_layers=()', 'at least one layer'),
    ('--threads=-1', 'nothing below 0'),
    ('--models=assets/tinyworld;--contexts=5000', 'no context fits the model'),
    ('--models=nowhere', 'nowhere')])
def test_wrong_settings_are_one_line(run, wrong, message):
    code, _, err = run('bench.py', *wrong.replace('assets', os.path.join(ROOT, 'assets')).split(';'), init_from=None)
    assert code == 1
    assert message in err
    assert len(err.strip().splitlines()) == 1
