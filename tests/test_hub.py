"""
Models by name: only what is needed is fetched, the cache needs no network, and each failure is told apart.

$ python -m pytest tests/test_hub.py
"""
import os
import shutil

import huggingface_hub
import pytest
import torch
from conftest import ROOT
from test_weights import IDX, SHAPES, hugging_face, in_shards, refusal

from load import load_model
from model import GPT


def response(status):
    import httpx
    return httpx.Response(status, request=httpx.Request('GET', 'https://hub'))


@pytest.mark.parametrize(('error', 'message'), [
    (lambda e: e.RepositoryNotFoundError('404\nlong', response=response(404)), 'no such model on the hub'),
    (lambda e: e.GatedRepoError('403\nlong', response=response(403)), 'accept the terms'),
    (lambda e: e.OfflineModeIsEnabled('offline'), 'HF_HUB_OFFLINE'),
    (lambda e: e.HfHubHTTPError('500', response=response(500)), 'the hub cannot be reached'),
    (lambda e: ConnectionError('no route'), 'the hub cannot be reached'),
    (lambda e: TimeoutError('slow'), "take 'smollm2' or assets/tinyworld, which need none"),
])
def test_no_network_no_such_model_and_no_consent_are_told_apart(monkeypatch, error, message, tmp_path):
    def answer(*_, **__):
        raise error(huggingface_hub.errors)

    monkeypatch.setattr(huggingface_hub.HfApi, 'model_info', answer)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    told = refusal('models/mine')
    assert message in told
    assert "no model could be loaded from 'models/mine'" in told


def hub_with(monkeypatch, tmp_path, files):
    """A hub that holds one model, of which everything has to be fetched; -> the names that were."""
    fetched = []

    class Info:
        siblings = [huggingface_hub.hf_api.RepoSibling(rfilename=name) for name in os.listdir(files)]

    def download(name, file, revision=None):
        fetched.append(file)
        os.makedirs(tmp_path / 'abc', exist_ok=True)
        return shutil.copy(files / file, tmp_path / 'abc')

    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(huggingface_hub.HfApi, 'model_info', lambda *_, **__: Info)
    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', download)
    return fetched


def test_of_a_hub_model_only_what_is_needed_is_fetched(tmp_path, monkeypatch):
    hf = hugging_face(**SHAPES[1])
    in_shards(hf, tmp_path / 'files')
    parts = [name for name in os.listdir(tmp_path / 'files') if name.startswith('model')]
    (tmp_path / 'files' / 'tf_model.h5').write_text('large')
    fetched = hub_with(monkeypatch, tmp_path, tmp_path / 'files')
    torch.testing.assert_close(GPT.from_pretrained('some/one')(IDX)[0], hf(IDX).logits[:, -1:], atol=1e-4,
                               rtol=0)
    assert sorted(set(fetched)) == sorted(['config.json', *parts])


def test_an_adapter_on_the_hub_is_named(tmp_path, monkeypatch):
    os.makedirs(tmp_path / 'files')
    (tmp_path / 'files' / 'adapter_config.json').write_text('{"base_model_name_or_path": "gpt2"}')
    hub_with(monkeypatch, tmp_path, tmp_path / 'files')
    assert 'a PEFT adapter' in refusal('some/one')


def in_the_cache(tmp_path, monkeypatch, name):
    """-> where to put the files of a model that the hub's cache shall hold."""
    repository = tmp_path / f'models--{name.replace("/", "--")}'
    os.makedirs(repository / 'refs')
    (repository / 'refs' / 'main').write_text('abc')
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    return repository / 'snapshots' / 'abc'


def test_a_model_in_the_hubs_cache_loads_by_its_name_without_a_network(tmp_path, monkeypatch):
    hf = hugging_face(**SHAPES[0])
    hf.save_pretrained(in_the_cache(tmp_path, monkeypatch, 'gpt2-of-mine'))
    model = GPT.from_pretrained('gpt2-of-mine')
    assert model.config.name == 'gpt2-of-mine'
    torch.testing.assert_close(model(IDX)[0], hf(IDX).logits[:, -1:], atol=1e-4, rtol=0)


def test_a_hub_model_with_a_tokenizer_of_its_own_gets_that_one(tmp_path, monkeypatch):
    folder = in_the_cache(tmp_path, monkeypatch, 'someone/gpt2')
    hugging_face(**{**SHAPES[0], 'vocab_size': 2048}).save_pretrained(folder)
    shutil.copy(os.path.join(ROOT, 'assets', 'tinyworld', 'tokenizer.json'), folder)
    assert load_model('someone/gpt2')[1].encode('\n') == [198]


def test_a_hub_models_chat_template_and_end_tokens_are_fetched_with_its_tokenizer(tmp_path, monkeypatch):
    hf = hugging_face(**{**SHAPES[0], 'vocab_size': 2048})
    hf.generation_config.eos_token_id = [7, 8]
    hf.save_pretrained(tmp_path / 'files')
    shutil.copy(os.path.join(ROOT, 'assets', 'tinyworld', 'tokenizer.json'), tmp_path / 'files')
    (tmp_path / 'files' / 'chat_template.jinja').write_text('{{ messages[0].content }}')
    fetched = hub_with(monkeypatch, tmp_path, tmp_path / 'files')
    chat = load_model('some/one')[1].chat
    assert chat.template == '{{ messages[0].content }}' and {7, 8} <= set(chat.end_ids)
    assert 'chat_template.jinja' in fetched


def test_gpt2s_encoding_never_takes_the_place_of_a_tokenizer_that_could_not_be_fetched(tmp_path,
                                                                                       monkeypatch):
    def no_network(*_, **__):
        raise ConnectionError

    folder = in_the_cache(tmp_path, monkeypatch, 'someone/gpt2')
    hugging_face(**{**SHAPES[0], 'vocab_size': 50257}).save_pretrained(folder)
    monkeypatch.setattr(huggingface_hub.HfApi, 'model_info', no_network)
    with pytest.raises(FileNotFoundError, match="no tokenizer could be loaded from 'someone/gpt2'"):
        load_model('someone/gpt2')


def test_the_repositorys_own_model_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_model('assets/tinyworld')[1].encode('\n') == [198]
