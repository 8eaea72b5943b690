"""Both protocols of VOC 2007 by one call, as tasks of a probing config, and by the command."""

import importlib.util
import json
from pathlib import Path

import pytest
from narrow_resnet import narrow_resnets
from short_runs import run
from voc_quarters import SMALL, Quarters
from voc_tree import write_voc

from clear.core.errors import ConfigError
from clear.evaluation import voc07_classification
from clear.evaluation.image.voc07 import probing_config


@pytest.fixture(scope='module', autouse=True)
def narrow():
    with narrow_resnets():
        yield


@pytest.fixture(scope='module')
def base(tmp_path_factory):
    return write_voc(tmp_path_factory.mktemp('voc'))


def test_one_call_for_both_protocols(base, tmp_path):
    svm = voc07_classification(Quarters(), base, protocol='svm', bank_root=tmp_path, costs=[1.0, 10.0])
    clsa = voc07_classification(Quarters(), base, protocol='clsa', epochs=10, t_max=10, **SMALL)
    assert svm.value > 0.5 and clsa.value > 0.5, 'twenty colours; chance is about 0.07'
    assert (svm.extras['protocol'], clsa.extras['protocol']) == ('svm', 'clsa')
    for options, says in ((dict(protocol='knn'), "protocol is 'knn'"), (dict(protocol='clsa', costs=[1]), "no key 'co"),
                          (dict(protocol='svm', epochs=3), "no key 'epochs'"), (dict(protocol='clsa', lr=0), 'lr is 0'),
                          (dict(protocol='clsa', resize=3), 'resize is 3'), (dict(costs=[0.0]), 'cs is 0.0')):
        with pytest.raises(ConfigError, match=says):
            voc07_classification(Quarters(), base, **options)


def test_machines_as_a_task_of_a_probing_config(base, tmp_path):
    from clear.engine.probing.runner import ProbeRunner

    source = dict(type='ImageFolder', root=str(base / 'JPEGImages'))
    config = dict(
        runner_type='ProbeRunner', banks=dict(root=str(tmp_path / 'banks')), device='cpu',
        encoders=dict(random=dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=32, crop=32))),
        tasks=[dict(type='VOC07SVM', data_root=str(base), costs=[1.0], data=dict(train=source, test=source))])
    results = ProbeRunner(config).run()
    found = results.extras['jobs']['random--VOC07SVM']
    assert found['state'] == 'done' and found['result']['metric'] == 'map' and found['result']['value'] > 0.2
    assert len(list((tmp_path / 'banks').iterdir())) == 1, 'one bank serves both splits'


def test_linear_layer_as_a_task_of_a_probing_config(base, tmp_path):
    from clear.engine.probing.runner import ProbeRunner

    source = dict(type='ImageFolder', root=str(base / 'JPEGImages'))
    options = dict(epochs=1, image_size=32, resize=34, seed=2019)
    encoder = dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=32, crop=32))
    config = dict(
        runner_type='ProbeRunner', banks=dict(root=str(tmp_path / 'banks')), device='cpu',
        encoders=dict(random=encoder),
        tasks=[dict(type='VOC07Linear', data_root=str(base), data=dict(train=source, test=source), **options)])
    results = ProbeRunner(config).run()
    wanted = voc07_classification(encoder, base, protocol='clsa', **options)
    assert results.extras['jobs']['random--VOC07Linear']['result'] == wanted.to_dict()
    assert not (tmp_path / 'banks').exists(), 'images, no bank'


@pytest.mark.parametrize('task', [dict(type='VOC07SVM', costs=[1.0]),
                                  dict(type='VOC07Linear', epochs=1, image_size=32, resize=34)], ids=['svm', 'linear'])
def test_lists_of_voc_serve_as_the_folder_of_its_images_does(task, base, tmp_path):
    from clear.engine.probing.runner import ProbeRunner

    folder = dict(type='ImageFolder', root=str(base / 'JPEGImages'))
    lists = [dict(type='VOC2007', root=str(base), split=name) for name in ('trainval', 'test')]
    found = []
    for name, (train, test) in dict(folder=(folder, folder), lists=lists).items():
        results = ProbeRunner(dict(
            encoders=dict(random=dict(type='TorchvisionEncoder', arch='resnet18',
                                      preprocess=dict(resize=32, crop=32))),
            tasks=[dict(task, data_root=str(base), data=dict(train=train, test=test))], device='cpu',
            banks=dict(root=str(tmp_path / name), dtype='float32'))).run()
        found.append(results.extras['jobs'][f"random--{task['type']}"]['result'])
    assert found[0]['value'] == pytest.approx(found[1]['value'], abs=1e-6)
    assert found[0]['extras']['unreadable'] == found[1]['extras']['unreadable'] and not any(
        found[1]['extras']['unreadable'].values())


def load_tool():
    path = Path(__file__).resolve().parents[2] / 'tools' / 'analysis_tools' / 'voc07_classification.py'
    spec = importlib.util.spec_from_file_location('voc07_classification', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_shipped_config_gives_the_numbers_of_the_program(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('clear.visualization.probing.probe_figures', lambda results: {})
    folder = Path(__file__).resolve().parents[2] / 'configs'
    small = ['arch=resnet18', 'weights=None', 'preprocess.resize=32', 'preprocess.crop=32']
    linear = ['epochs=1', 'image_size=32', 'resize=34']
    done = run('train', folder / 'probing/moco_resnet50_voc07.py', '--work-dir', 'probe', '--device', 'cpu',
               '--cfg-options', *(f'encoders.moco_v2.{option}' for option in small),
               *(f'data.{split}.root={base}/JPEGImages' for split in ('train', 'test')),
               *(f'tasks.{task}.data_root={base}' for task in (0, 1)), 'tasks.0.costs=[1.0]',
               *(f'tasks.1.{option}' for option in linear))
    assert done.code == 0, done.err
    found = json.loads(Path('probe/results.json').read_text())['extras']['jobs']
    for protocol, task, options in (('svm', 'svm', ['costs=[1.0]']), ('clsa', 'linear', linear)):
        done = run('analysis_tools/voc07_classification', folder / f'selfsup/voc07/{protocol}_resnet50_voc07.py',
                   '--device', 'cpu', '--work-dir', protocol, '--cfg-options', f'data_root={base}',
                   *(f'encoder.{option}' for option in small), *(f'options.{option}' for option in options))
        assert done.code == 0, done.err
        alone = json.loads(Path(protocol, 'results.json').read_text())['extras']['jobs'][f'encoder--{protocol}']
        assert alone['result'] == found[f'moco_v2--{task}']['result']
        assert (alone['state'], alone['banks']) == ('done', found[f'moco_v2--{task}']['banks'])


@pytest.mark.parametrize('protocol', ['svm', 'clsa'])
def test_program(base, tmp_path, capsys, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    arguments = [str(Path(__file__).resolve().parents[2] / 'configs' / 'selfsup' / 'voc07'
                     / f'{protocol}_resnet50_voc07.py'), '--cfg-options', f'data_root={base}', 'encoder.arch=resnet18',
                 'encoder.weights=None', 'encoder.preprocess.resize=32', 'encoder.preprocess.crop=32']
    arguments += ['options.costs=[1.0]'] if protocol == 'svm' else ['options.epochs=1', 'options.image_size=32',
                                                                    'options.resize=34']
    tool = load_tool()
    assert tool.main([*arguments, '--work-dir', str(tmp_path / 'run'), '--dry-run']) == 0
    assert not (tmp_path / 'run').exists()
    assert tool.main([*arguments, '--work-dir', str(tmp_path / 'run')]) == 0
    results = json.loads((tmp_path / 'run' / 'results.json').read_text())
    value = results['metrics'][f'encoder/{protocol}/map']
    assert (results['runner'], results['protocol']) == ('ProbeRunner', 'clear/probe/v1') and 0 < value < 1
    assert results['seeds'] == dict(train=dict(svm=0, clsa=2019)[protocol]), "the protocol's own"
    assert f'map {value:.3f}' in capsys.readouterr().out
    assert tool.main([*arguments, '--work-dir', str(tmp_path / 'run')]) == 2
    assert 'already holds finished jobs' in capsys.readouterr().err
    assert tool.main([*arguments, '--work-dir', str(tmp_path / 'run'), '--resume']) == 0
    assert 'resumed: 1 of 1 jobs are finished' in capsys.readouterr().out
    assert tool.main([arguments[0], '--cfg-options', 'dataroot=x']) == 2
    assert "Did you mean 'data_root'" in capsys.readouterr().err


def test_program_finds_missing_annotations_before_anything_is_encoded(tmp_path, capsys):
    base = write_voc(tmp_path, (1, 1, 1))
    (base / 'Annotations' / '000050.xml').unlink()
    cfg = dict(protocol='svm', encoder=dict(type='TorchvisionEncoder', arch='resnet18'), data_root=str(base))
    (tmp_path / 'voc.json').write_text(json.dumps(cfg))
    assert load_tool().main([str(tmp_path / 'voc.json'), '--work-dir', str(tmp_path / 'run')]) == 2
    assert '000050.xml does not exist' in capsys.readouterr().err and not (tmp_path / 'run').exists()


def test_probing_config_of_the_short_form(base):
    encoder = dict(type='TorchvisionEncoder', arch='resnet18')
    found = probing_config('clsa', encoder, str(base.parent), dict(epochs=2, seed=7))
    images = dict(type='ImageFolder', root=str(base / 'JPEGImages'))
    assert found == dict(
        runner_type='ProbeRunner', seed=7, encoders=dict(encoder=encoder), data=dict(train=images, test=images),
        tasks=[dict(type='VOC07Linear', name='clsa', data_root=str(base.parent), epochs=2, seed=7)])
    assert probing_config('clsa', encoder, str(base))['seed'] == 2019 and 'seed' not in probing_config(
        'svm', encoder, str(base))['tasks'][0]


@pytest.mark.parametrize(('changes', 'says'), [
    (dict(protocol=['svm']), 'protocol is'), (dict(protocol='vote'), "there are 'clsa'"),
    (dict(data_root=None), 'data_root is None'), (dict(data_root='a\0b'), 'no file name can hold'),
    (dict(options=[1]), 'options is [1]'), (dict(options=3.5), 'options is 3.5'),
    (dict(protocol='clsa', options=dict(lr=None)), 'lr is None'),
    (dict(options=dict(cost=[1])), "Did you mean 'costs'"), (dict(data_root='nowhere'), 'nowhere holds no VOC 2007')])
def test_program_refuses_wrong_values_in_words(changes, says, tmp_path, capsys):
    cfg = {**dict(protocol='svm', encoder=dict(type='TorchvisionEncoder', arch='resnet18'), data_root='x'), **changes}
    (tmp_path / 'voc.json').write_text(json.dumps(cfg))
    assert load_tool().main([str(tmp_path / 'voc.json'), '--work-dir', str(tmp_path / 'run'), '--dry-run']) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and error.count('\n') == 1 and says in error
