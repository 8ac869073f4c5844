"""
evaluate.py's page: of the text that its one run scored, as sample.py's is of its first sample.

$ python -m pytest tests/test_page_of_a_run.py
"""
import pytest
from lab_settings import RECALL, SENTIMENT, records_of
from test_page import data_in


@pytest.mark.parametrize('arguments', [SENTIMENT, RECALL])
def test_the_page_of_one_run_shows_the_text_that_was_scored_and_samples_own_trace(run, tmp_path, arguments):
    common = [one for one in arguments if not one.startswith(('--measure=', '--answer=', '--num_'))]
    code, out, err = run('evaluate.py', *arguments, '--num_seeds=1', f'--out_dir={tmp_path}',
                         f'--page={tmp_path}/run.html')
    assert code == 0, err
    assert out.splitlines()[-1] == f'page    {tmp_path}/run.html'
    records = {record['settings']['condition']: record for record in records_of(tmp_path / 'evaluate')}
    trace = data_in((tmp_path / 'run.html').read_text())
    assert ''.join(token['text'] for token in trace['written']) == records['memory']['texts'][0]
    assert trace['plain'] == records['plain']['texts'][0]
    new = len(trace['written'])
    code, _, err = run('sample.py', *common, '--num_samples=1', f'--max_new_tokens={new}',
                       f'--page={tmp_path}/sample.html')
    assert code == 0, err
    sampled = data_in((tmp_path / 'sample.html').read_text())
    for text in (*sampled['texts'], *trace['texts']):
        del text['source']  # an experiment knows its texts by their words alone
    assert sampled == trace
    assert f'--page={tmp_path}' not in (tmp_path / 'evaluate' / 'summary.md').read_text()


@pytest.mark.parametrize(('arguments', 'told'), [
    (['--num_seeds=2'], '1 points and 2 seeds'),
    (['--num_seeds=1', "--grid=[{'memory_k': [1, 5]}]"], '2 points and 1 seeds'),
    (['--num_seeds=1', '--controls=False', '--condition=plain'], "condition 'plain'"),
    (['--find=positive'], 'not of redraw or find'), (['--page=.'], 'a folder: name a file in it')])
def test_a_page_of_what_is_not_one_text_is_refused_in_one_line_before_the_model_is_loaded(
        run, tmp_path, arguments, told):
    code, out, err = run('evaluate.py', *SENTIMENT, '--page=x.html', *arguments, f'--out_dir={tmp_path}',
                         init_from='not there')
    assert (code, out, err.count('\n')) == (1, '', 1) and err.startswith('error: page is') and told in err
    assert not (tmp_path / 'evaluate').exists()
