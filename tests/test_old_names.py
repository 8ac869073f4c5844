"""
Names of the original project, in config files and on the command line.

    $ pytest tests/test_old_names.py
"""
import os

import pytest
from conftest import changed

from core.other_names import OLD_NAMES, translate

NEW_NAMES_OF_MEMORY = {name for names in OLD_NAMES.values() for name in names}


@pytest.mark.parametrize('text, expected', [
    ('mem_frac = 0.5', {'memory_fraction': 0.5}), ('bookkeeping_frac = 1', {'bookkeeping_fraction': 1.0}),
    ('knn_softmax_influence = 10', {'softmax_scale': 10.0}),
    ('remove_bookkeeping_token_mem_size = 3', {'bookkeeping_tokens': 3}),
    ('memory = "Cats."', {'memory_text': 'Cats.'}),
    ('unadulterated_gpt = False', {'compare_plain': False}), ('method_text = "x"', {'method_text': 'x'}),
    # which layers read, and how many neighbours
    ('knn_num = [0, 7, 0, 7]', {'memory_layers': (1, 3), 'memory_k': 7}),
    ('knn_num = (7,)', {'memory_layers': (0,), 'memory_k': 7}),
    ('knn_num = [0, 0]', {'memory_layers': ()}), ('knn_num = []', {'memory_layers': ()}),
    ('knn_num = 12 * [0]\nknn_num[9] = 3', {'memory_k': 3}),
    ('knn_num = {3: 7, 1: 7}', {'memory_layers': (1, 3), 'memory_k': 7}),
    ('knn_num = {3: 7, 1: 0}', {'memory_layers': (3,), 'memory_k': 7}),
    ('knn_num = [[0, 0], [7, 7]]', {'memory_layers': (1,), 'memory_k': 7}),
    ('knn_num = {2: [7, 7]}', {'memory_layers': (2,), 'memory_k': 7}),
    ('knn_num = [0, [7, 7]]', {'memory_layers': (1,), 'memory_k': 7}),
    # how the found values are blended; 2 is the default of the script
    ('resid_only = True', {}), ('resid_only = True\nresid_frac = 0.3', {'residual_fraction': 0.3}),
    ('resid_only = False\nresid_frac = 0.3', {'memory_method': 3, 'residual_fraction': 0.3}),
    ('resid_only = False\nresid_frac = 0.0', {'memory_method': 1, 'residual_fraction': 0.0}),
    ('resid_only = False', {'memory_method': 1}),
    ('resid_frac = 0.3', {'memory_method': 3, 'residual_fraction': 0.3}),
    ('resid_frac = 0', {'memory_method': 1, 'residual_fraction': 0.0}),
    # where the memory is kept
    ('load_mem_store = True\nmem_store = "stores/cats"', {'memory_file': 'stores/cats'}),
    ('store_mem = True\nmem_store = "stores/cats"', {'memory_file': 'stores/cats.safetensors'}),
    ('store_mem = True\nmem_store = "stores/cats/"\nmemory = "Cats."',
     {'memory_file': 'stores/cats.safetensors', 'memory_text': 'Cats.'}),
    ('load_mem_store = True\nmem_store = "stores/cats"\nmemory = "Cats."', {'memory_file': 'stores/cats'}),
    ('load_mem_store = store_mem = True\nmem_store = "stores/cats"', {'memory_file': 'stores/cats'}),
    ('load_mem_store = False\nstore_mem = False\nmem_store = "stores/cats"', {'memory_file': ''}),
    ('load_mem_store = False', {'memory_file': ''}), ('mem_store = "stores/cats"', {'memory_file': ''})])
def test_an_old_name_in_a_config_file_becomes_its_setting(script, text, expected):
    assert changed(script, script.config, text) == expected


def test_a_setting_wins_over_an_old_name_in_its_file_even_where_it_repeats_the_default(script):
    assert script.config('knn_num = [0, 7]\nmemory_k = 5')['memory_k'] == 5


def test_loading_an_old_store_forgets_the_text_that_an_earlier_source_gave(script):
    config = script.run('--memory_text=Cats.', '--load_mem_store=True', '--mem_store=stores/cats')
    assert (config['memory_file'], config['memory_text']) == ('stores/cats', '')


@pytest.mark.parametrize('arguments, expected', [
    (['--mem_frac=1'], {'memory_fraction': 1.0}), ([r'--memory=\nCats=fun'], {'memory_text': '\nCats=fun'}),
    (['--memory=5'], {'memory_text': '5'}), (['--unadulterated_gpt=false'], {'compare_plain': False}),
    (['--knn_num=[0,7]'], {'memory_layers': (1,), 'memory_k': 7}),
    (['--knn_num={3:7}'], {'memory_layers': (3,), 'memory_k': 7}),
    (['--resid_frac=0.3', '--top_k=1', '--resid_only=false'],
     {'residual_fraction': 0.3, 'top_k': 1, 'memory_method': 3}),
    (['--mem_store=5', '--store_mem=1'], {'memory_file': '5.safetensors'})])
def test_an_old_name_on_the_command_line_becomes_its_setting(script, arguments, expected):
    assert changed(script, script.run, *arguments) == expected


@pytest.mark.parametrize('arguments, fraction', [
    (['old.py', '--memory_fraction=0.2'], 0.2), (['--memory_fraction=0.2', 'old.py'], 0.5),
    (['old.py', 'new.py'], 0.3),
    (['--mem_frac=0.1', '--memory_fraction=0.2'], 0.2), (['--memory_fraction=0.2', '--mem_frac=0.1'], 0.1),
    (['both.py'], 0.3),
    (['--mem_frac=0.1', '--memory_fraction=0.2', '--mem_frac=0.3'], 0.3)])
def test_old_and_new_names_keep_the_order_in_which_they_are_given(script, arguments, fraction):
    script.write('mem_frac = 0.5', 'old.py')
    script.write('memory_fraction = 0.3', 'new.py')
    script.write('memory_fraction = 0.3\nmem_frac = 0.5', 'both.py')
    assert script.run(*arguments)['memory_fraction'] == fraction


def test_old_names_of_all_sources_decide_together_and_the_later_value_of_a_name_wins(script):
    script.write('resid_only = True\nresid_frac = 0.2', 'old.py')
    file_first = script.run('old.py', '--resid_frac=0.3')
    assert file_first == script.run('--resid_frac=0.3', 'old.py') | {'residual_fraction': 0.3}
    assert script.settings['memory_method'] == 2
    assert script.run('old.py', '--resid_only=False', '--resid_frac=0.3')['memory_method'] == 3


@pytest.mark.parametrize('file, options, memory_file', [
    ('load_mem_store = True', ['--mem_store=stores/cats'], 'stores/cats'),
    ('load_mem_store = True\nmem_store = "stores/dogs"', ['--mem_store=stores/cats'], 'stores/cats'),
    ('mem_store = "stores/cats"', ['--load_mem_store=True'], 'stores/cats'),
    ('store_mem = True', ['--mem_store=stores/cats'], 'stores/cats.safetensors'),
    ('mem_store = "stores/cats"\nstore_mem = True', ['--store_mem=False', '--load_mem_store=True'],
     'stores/cats'),
    ('load_mem_store = True\nmem_store = "stores/dogs"', ['--memory_file=m'], 'm'),
    ('memory_file = "m"', ['--load_mem_store=True', '--mem_store=stores/cats'], 'stores/cats')])
def test_a_store_is_the_one_that_file_and_options_name_together(script, file, options, memory_file):
    assert script.run(script.write(file), *options)['memory_file'] == memory_file


def test_a_store_that_was_made_here_is_loaded_by_the_same_name_unless_there_is_a_folder(script):
    script.write('', 'stores/cats.safetensors')
    load = '--load_mem_store=True', '--mem_store=stores/cats'
    assert script.run(*load)['memory_file'] == 'stores/cats.safetensors'
    os.mkdir('stores/cats')
    assert script.run(*load)['memory_file'] == 'stores/cats'


def test_a_text_given_after_a_store_is_not_forgotten_for_a_switch_that_is_off(script):
    script.write('memory = "Cats."', 'old.py')
    assert script.run('old.py', '--memory_text=Dogs.', '--load_mem_store=False')['memory_text'] == 'Dogs.'


def test_a_config_file_sees_what_the_old_names_before_it_decided(script):
    script.write('memory_fraction = 2 * memory_fraction', 'new.py')
    assert script.run('--mem_frac=0.25', 'new.py')['memory_fraction'] == 0.5


def test_a_store_that_is_read_but_named_nowhere_is_an_error_of_the_file_that_reads_it(script, error_of):
    assert error_of(script.run, script.write('load_mem_store = True', 'old.py'), '--top_k=3') == (
        'old.py: load_mem_store and store_mem need a folder, for example mem_store=stores/cats beside them')


@pytest.mark.parametrize('file, is_told', [
    ('', True), ('load_mem_store = False', True), ('memory = "Cats."', True),
    ('load_mem_store = True', False),
    ('store_mem = True', False)])
def test_a_store_that_is_typed_but_not_read_is_told(script, capsys, file, is_told):
    script.settings['memory_file'] = ''
    script.run(script.write(file), '--mem_store=stores/cats')
    err = capsys.readouterr().err
    assert err.count('\n') == is_told
    assert ("mem_store 'stores/cats' is not read" in err) == is_told


@pytest.mark.parametrize('file, is_told',
                         [('', True), ('memory = "Cats."', False), ('load_mem_store = True', False)])
def test_a_store_in_a_file_that_is_not_read_is_told_where_nothing_is_read(script, capsys, file, is_told):
    script.settings['memory_file'] = ''
    script.config(f'mem_store = "stores/cats"\n{file}')
    err = capsys.readouterr().err
    assert err.count('\n') == is_told
    assert ("mem_store 'stores/cats' is not read" in err) == is_told


@pytest.mark.parametrize('name', ['bookkeeping_token', 'enc', 'encode', 'decode', 'substitute'])
def test_the_helpers_of_the_original_templates_are_no_typos(script, name):
    assert changed(script, script.config, f'{name} = "x"\nstart = {name} * 2') == {'start': 'xx'}


EXAMPLES = {'mem_frac': 0.5, 'bookkeeping_frac': 0.5, 'knn_softmax_influence': 0.5, 'resid_frac': 0.5,
            'memory': 'x',
            'remove_bookkeeping_token_mem_size': 3, 'unadulterated_gpt': True, 'resid_only': True,
            'knn_num': [1],
            'mem_store': 'x', 'load_mem_store': False, 'store_mem': False}


@pytest.mark.parametrize('name', OLD_NAMES)
def test_an_old_name_translates_into_no_other_settings_than_the_table_says(name):
    decided = translate({name: EXAMPLES[name]}).keys()
    assert decided and decided <= OLD_NAMES[name]


@pytest.mark.parametrize('name', OLD_NAMES)
def test_an_old_name_is_a_helper_in_a_script_without_the_new_setting(script, name):
    script.without(*NEW_NAMES_OF_MEMORY)
    assert changed(script, script.config, f'{name} = None') == {}


@pytest.mark.parametrize('name', OLD_NAMES)
def test_an_old_name_is_unknown_on_the_command_line_of_a_script_without_the_setting(script, error_of, name):
    script.without(*NEW_NAMES_OF_MEMORY)
    assert error_of(script.run, f'--{name}=1').startswith(f'unknown setting --{name}, ')


def test_a_setting_that_is_called_like_an_old_name_is_not_translated(script):
    script.settings['memory'] = 1
    assert changed(script, script.config, 'memory = 2') == {'memory': 2}


@pytest.mark.parametrize('text, start', [
    ('mem_frac = "half"', "memory_fraction (from mem_frac) was given 'half' (str), expected a float"),
    ('memory = 5', 'memory_text (from memory) was given 5 (int), expected a str'),
    ('unadulterated_gpt = 2', 'compare_plain (from unadulterated_gpt) was given 2 (int), expected a bool'),
    ('remove_bookkeeping_token_mem_size = 1.0',
     'bookkeeping_tokens (from remove_bookkeeping_token_mem_size) was given 1.0'),
    ('resid_only = "False"', "resid_only was given 'False' (str), expected a bool"),
    ('resid_frac = "x"', "resid_frac was given 'x' (str), expected a float"),
    ('mem_store = 5', 'mem_store was given 5 (int), expected a str'),
    ('store_mem = 5', 'store_mem was given 5 (int), expected a bool'),
    ('load_mem_store = "yes"', "load_mem_store was given 'yes' (str), expected a bool"),
    ('load_mem_store = True',
     'load_mem_store and store_mem need a folder, for example mem_store=stores/cats beside them'),
    ('store_mem = True\nmem_store = ""', 'load_mem_store and store_mem need a folder'),
    ('knn_num = [5, 6]', 'knn_num was given [5, 6], but one k for all layers and heads is supported'),
    ('knn_num = {1: 5, 2: 6}', 'knn_num was given {1: 5, 2: 6}, but one k for all layers'),
    ('knn_num = [[5, 0], [0, 0]]', 'knn_num was given [[5, 0], [0, 0]], but one k for all layers'),
    *[(f'knn_num = {value}',
       f'knn_num was given {value}, expected an int a layer, for example knn_num=[0,5]')
      for value in ('5', 'None', "'5'", '[5.0]', '[True]', "{'a': 5}", '[[[5]]]', '[None]')]])
def test_an_old_name_with_a_value_that_has_no_translation_is_an_error(script, error_of, text, start):
    assert error_of(script.config, text).startswith(f'cats.py: {start}')
