"""Every registry of `clear`, in one place.

Each registry is a child of mmpretrain's registry of the same name (whose parent is mmengine's), in scope
`clear`: a bare `type='ResNet'` resolves `clear`, then mmpretrain, then mmengine. Libraries without a registry
(torchvision, Avalanche, torch.optim) are asked for a name when something is built, never registered at import.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.registry import Registry as MMRegistry
from mmpretrain import registry as mmpretrain_registry

from clear.core.compat import patch_libraries
from clear.core.errors import RegistryError

_UNEXPECTED = re.compile(r'(\w+)\.__init__\(\) got an unexpected keyword argument')
# Names of ours that hide one of mmpretrain, mmengine or a library on purpose, with the reason. A test compares
# this list with what is registered.
SHADOWED: dict[str, str] = {
    'AETraining': "Avalanche's has no autoencoder for features and logs to the console",
    'AGEM': 'takes a reservoir over the stream as its memory (reservoir=True)',
    'AGEMPlugin': 'takes a reservoir over the stream as its memory, and survives more experiences than samples',
    'AR1': "Avalanche's downloads its own network and mixes up labels of replayed latents",
    'BYOL': "mmpretrain's leaves its momentum's schedule to the runner's message hub; its momentum is 1 - m",
    'BarlowTwins': "mmpretrain's standardises each process's batch by itself",
    'AmpOptimWrapper': "mmengine's refuses CPUs, and scales losses of bfloat16",
    'BiC': "Avalanche's asks torch for an argument that is gone",
    'BiCPlugin': "Avalanche's asks torch for an argument that is gone",
    'CLEAR': "Avalanche's reader gives every experience the samples of all buckets in one of the two layouts",
    'CSVLogger': 'writes into the work_dir unless told otherwise',
    'CWRStar': "Avalanche's keeps its memory where no checkpoint finds it",
    'CWRStarPlugin': "Avalanche's keeps its memory where no checkpoint finds it",
    'CheckpointHook': "mmengine's pickles objects, and cannot save inside an epoch",
    'ClassBalancedBuffer': "Avalanche's loses the places that a small class cannot fill",
    'CoPE': "classifies by the model itself, not only in Avalanche's evaluation",
    'CoPEPlugin': "classifies by the model itself, not only in Avalanche's evaluation",
    'DER': "Avalanche's replays nothing while its memory is smaller than a batch, and knows cross-entropy only",
    'ER_ACE': "Avalanche's replays nothing while its memory is smaller than a batch",
    'ER_AML': "Avalanche's waits for ever where a class has few memories; takes our model",
    'EWC': "also has the Fisher information of single samples (fisher='sample')",
    'EWCPlugin': 'the same numbers, without loading samples one by one for a linear layer',
    'EarlyStoppingPlugin': "Avalanche's never stops where its metric is not computed",
    'EpochBasedTrainLoop': "mmengine's begins at epochs only",
    'ExpertGateStrategy': "Avalanche's is tied to AlexNet and its download",
    'ExperienceBalancedBuffer': "Avalanche's loses the places that a small experience cannot fill",
    'FeCAMOracle': "Avalanche's averages means and covariances with those by earlier encoders",
    'FeatureDistillationPlugin': "Avalanche's fails for 'mse' and trains its teacher's statistics",
    'FeatureReplay': 'takes our model, and a memory that a checkpoint holds',
    'GDumb': 'takes any memory, and can keep its weights (reset=False)',
    'GDumbPlugin': "Avalanche's loses the places that a small class cannot fill",
    'GEM': 'looks for its solver at construction, not in the middle of a run',
    'GSS_greedy': "Avalanche's fails on small memories and adds foreign gradients to the update",
    'GSS_greedyPlugin': "Avalanche's fails on small memories and adds foreign gradients to the update",
    'GenerativeReplay': 'trains its generator where a checkpoint holds it, on samples of any shape',
    'GenerativeReplayPlugin': 'trains its generator where a checkpoint holds it, on samples of any shape',
    'ICaRL': 'takes our model, refuses streams that it is not for, never predicts unseen classes',
    'IterBasedTrainLoop': "mmengine's reads again all that it skips",
    'LFL': "Avalanche's leaves the model in eval mode; takes our model",
    'LFLPlugin': "Avalanche's leaves the model in eval mode; takes our model",
    'LearningToPrompt': "Avalanche's builds its network through a part of timm that has changed",
    'LwF': "Avalanche's leaves its teacher in train mode",
    'LwFPlugin': "Avalanche's leaves its teacher in train mode",
    'MAS': "Avalanche's stops at a loss of exactly 0",
    'MASPlugin': "Avalanche's stops at a loss of exactly 0",
    'MER': "Avalanche's, quiet, and with a memory that a checkpoint holds",
    'MIR': "Avalanche's leaves the classes of the last batch out of its memory",
    'MIRPlugin': "Avalanche's leaves the classes of the last batch out of its memory",
    'MemoryFeCAMUpdate': "Avalanche's averages means and covariances with those by earlier encoders",
    'MemoryNCMUpdate': "Avalanche's memory loses the places that a small class cannot fill",
    'MoCo': "mmpretrain's copies buffers to the key encoder and has no wrap-around queue; its momentum is 1 - m",
    'PNNStrategy': 'makes its network from the config and answers without task labels',
    'PackNet': "Avalanche's loses its plugins and lets weight decay move frozen weights; takes our model",
    'ParametricBuffer': "Avalanche's loses places of small groups, and chooses again when one shrinks",
    'ParamSchedulerHook': 'lets groups keep their learning rate (fix_lr)',
    'RARPlugin': "Avalanche's aims at the farthest sample and cuts features to 0 ... 1",
    'RWalkPlugin': "Avalanche's gives NaN on short experiences and leaves the model in eval mode",
    'Replay': 'takes any memory (storage_policy)',
    'ReplayPlugin': "Avalanche's loses the places that a small experience cannot fill",
    'ReservoirSamplingBuffer': "Avalanche's nests one level deeper at every update; legacy=True gives it back",
    'Runner': "mmengine's cannot resume exactly, or train CPU processes",
    'RuntimeInfoHook': "mmengine's waits for the GPU at every iteration",
    'SCR': 'takes our model, and augmentations from a config',
    'SimCLR': "mmpretrain's is tied to its own neck and head; ours takes any encoder",
    'SimSiam': "mmpretrain's is tied to its own neck and head; ours takes any encoder",
    'StreamingLDA': "writes its solution into the model's head, and takes whole batches at once",
    'SwAV': "mmpretrain's keeps its queue in files beside the checkpoint, and Sinkhorn sums go wrong over processes",
    'SwAVHook': "mmpretrain's keeps the queue in a file, which a stop in an epoch leaves behind and a new run reads",
    'SwAVLoss': "mmpretrain's sums over processes only where a prototype is unused; ours takes scores",
    'SynapticIntelligence': "Avalanche's does nothing on a CPU; legacy=True gives it back",
    'SynapticIntelligencePlugin': "Avalanche's does nothing on a CPU",
    'TensorboardLogger': 'writes into the work_dir unless told otherwise',
    'TextLogger': 'takes the name of a file, which a config can hold; without one the file is named by time',
    'VAETraining': "Avalanche's generator knows MNIST's mean only, and logs to the console",
    'WandBLogger': 'runs offline without a key, and works with the wandb of today',
}

# Strategies of Avalanche that a config may ask for and nobody can train, with the reason.
LEFT_OUT_STRATEGIES = {
    'ObjectDetectionTemplate': 'detects objects: its batches are no (input, target) and it predicts no class, so a run '
                               'has no accuracy to measure'}


class Registry(MMRegistry):
    """An mmengine registry that can also look names up in a plain library.

    Args:
        name: as in mmengine.
        library: `library(name)` returns the object of that name or None. Asked only when neither this registry
            nor its parents know the name.
        library_names: returns the names that `library` knows, for suggestions.
        library_title: how messages call the library.
        left_out: names that are not there on purpose, with the reason that `require` gives.
        readers: 'module:function' that makes of the name of a reader what this registry holds, or None; asked after
            our own names, and before parents and library.
    """

    def __init__(self, name: str, *, readers: str | None = None,
                 library: Callable[[str], Callable[..., object] | None] | None = None,
                 library_names: Callable[[], Iterable[str]] = tuple, library_title: str = '',
                 left_out: dict[str, str] | None = None, **kwargs):
        super().__init__(name, scope='clear', **kwargs)
        self._left_out = dict(left_out or {})
        self._readers = readers
        self._library = library
        self._library_names = library_names
        self._library_title = library_title

    def get(self, key: str) -> Callable[..., object] | None:
        """The object registered under `key`, else the library's, else None."""
        if not isinstance(key, str):
            raise TypeError(f'{self.name}: a type is a name, not {key!r}.')
        if self._readers is not None and self.get_own(key.removeprefix('clear.')) is None:
            found = self._of_reader(key.removeprefix('clear.'))
            if found is not None:
                return found
        if self.parent is not None and self.get_own(key) is None:
            self._import_parents()
        found = super().get(key)
        # mmengine takes a key that nobody registered for the path of something to import. Of such, classes alone: a
        # name in a config must not call any function there is.
        if found is not None and not inspect.isclass(found) and not self._is_registered(found):
            found = None
        if found is None and self._library is not None and '.' not in key:
            found = self._library(key)
        return found

    def _of_reader(self, key: str) -> Callable[..., object] | None:
        module, function = self._readers.split(':')
        return getattr(importlib.import_module(module), function)(key)

    def _is_registered(self, obj: object) -> bool:
        chain = [self, *self._import_parents()]
        return any(obj is item for registry in chain for item in registry.module_dict.values())

    def hidden_by(self, key: str) -> str | None:
        """The full name of what our `key` hides in mmpretrain or mmengine, None if it hides nothing."""
        if self.get_own(key) is None and (self._readers is None or self._of_reader(key) is None):
            return None
        return next((f'{registry.scope}.{key}' for registry in self._import_parents() if key in registry.module_dict),
                    None)

    def get_own(self, key: str) -> Callable[..., object] | None:
        """The object that `clear` itself registered under `key`, parents and libraries left out, else None."""
        self.import_from_location()
        return self.module_dict.get(key)

    def require(self, key: str) -> Any:
        """Like `get`, but an unknown name is an error.

        Raises:
            RegistryError: naming the three nearest names and where they come from, or why the name is left out.
        """
        if not isinstance(key, str):
            raise RegistryError(f'{self.name}: a type is a name, not {key!r}.')
        found = self.get(key)
        if found is None and key in self._left_out:
            raise RegistryError(f"{self.name}: '{key}' is left out. It {self._left_out[key]}.")
        if found is None and '.' in key:
            raise RegistryError(f"{self.name}: '{key}' is neither registered under that name nor a class that can be "
                                'imported.')
        if found is None:
            raise RegistryError(f"{self.name}: no type '{key}' is registered. {self._suggest(key)}")
        return found

    def build(self, cfg: dict | Config, *args, **kwargs) -> Any:
        """Build the object that `cfg['type']` names from the other keys; `cfg` is not changed.

        Raises:
            RegistryError: if the type is unknown.
            TypeError: if `cfg` is no dict or has no `type`; for an argument that is meant for a class that one of ours
                hides, it names that.
        """
        cfg = cfg._cfg_dict if isinstance(cfg, Config) else cfg
        if not isinstance(cfg, dict):
            raise TypeError(f'{self.name}: expected a dict with a type, got {cfg!r}.')
        if isinstance(cfg.get('type'), str) and '/' not in cfg['type']:
            self.require(cfg['type'])
        try:
            with self._scope_of(cfg.get('type')):
                return super().build(copy.deepcopy(cfg), *args, **kwargs)
        except TypeError as error:
            hint = self._hidden_one(str(error))
            if not hint:
                raise
            raise TypeError(f'{error}. {hint}') from error

    def _scope_of(self, key: object) -> AbstractContextManager:
        """Where a name is looked up that only we have: with us, also where a program has set another library's scope,
        as `mmpretrain.get_model` does for the rest of the process. Names of both mean what that scope says.
        """
        scope = DefaultScope.get_current_instance()
        if scope is None or scope.scope_name == 'clear' or not isinstance(key, str) or \
                self.get_own(key) is None or self.hidden_by(key) is not None:
            return nullcontext()
        return DefaultScope.overwrite_default_scope('clear')

    def _hidden_one(self, message: str) -> str | None:
        """How to name the class that the one of ours hides which did not know an argument."""
        found = _UNEXPECTED.search(message)
        name = found[1] if found and found[1] in SHADOWED and 'The class that ours hides' not in message else None
        hidden = next((parent for parent in self._import_parents() if name in parent.module_dict), None)
        return hidden and f"The class that ours hides is type='{hidden.scope}.{name}'."

    def known_names(self) -> dict[str, str]:
        """Every name that resolves here, with the place it comes from."""
        names = dict.fromkeys(self._library_names(), self._library_title)
        self.import_from_location()
        for registry in reversed([self, *self._import_parents()]):
            names.update(dict.fromkeys(registry.module_dict, registry.scope))
        return names | (READERS.known_names() if self._readers is not None else {})

    def _import_parents(self) -> list[MMRegistry]:
        """The parents, nearest first, with all they register imported; mmengine imports only those it asks first."""
        patch_libraries()
        parents = []
        registry = self.parent
        while registry is not None:
            registry.import_from_location()
            parents.append(registry)
            registry = registry.parent
        return parents

    def _suggest(self, key: str) -> str:
        names = self.known_names()
        by_lower = {name.lower(): name for name in names}
        close = difflib.get_close_matches(key.lower(), by_lower, n=3, cutoff=0.0)
        return 'Nearest: ' + ', '.join(f"'{by_lower[name]}' ({names[by_lower[name]]})" for name in close) + '.'

    def _register_module(self, module, module_name=None, force: bool = False) -> None:
        names = [module_name] if isinstance(module_name, str) else module_name or [module.__name__]
        for name in names:
            old = self.module_dict.get(name)
            if old is not None and not force:
                raise RegistryError(f"{self.name}: '{name}' is defined twice, in {_place(old)} and in "
                                    f'{_place(module)}.')
        super()._register_module(module, module_name, force)


def _place(obj: object) -> str:
    try:
        return f'{inspect.getsourcefile(obj)}:{inspect.getsourcelines(obj)[1]}'
    except (TypeError, OSError):
        return repr(obj)


def _attribute_of(module_name: str, accepts: Callable[[str, object], bool]) -> dict:
    """Keyword arguments of `Registry` that look names up in a module, imported when first asked."""

    def library(name: str) -> Callable[..., object] | None:
        obj = getattr(importlib.import_module(module_name), name, None)
        return obj if obj is not None and accepts(name, obj) else None

    def names() -> list[str]:
        module = importlib.import_module(module_name)
        return [name for name in dir(module) if not name.startswith('_') and accepts(name, getattr(module, name))]

    return dict(library=library, library_names=names, library_title=module_name)


def _is_class(_: str, obj: object) -> bool:
    return inspect.isclass(obj)


def _is_public_callable(name: str, obj: object) -> bool:
    return not name.startswith('_') and callable(obj)


def _is_metric_factory(name: str, obj: object) -> bool:
    return name.endswith('_metrics') and callable(obj)


def _timm_optimizer(name: str) -> Callable[..., object] | None:
    return importlib.import_module('clear.engine.training.timm_optimizers').timm_optimizer(name)


def _timm_optimizer_names() -> list[str]:
    return importlib.import_module('clear.engine.training.timm_optimizers').timm_names()


def _child(name: str, locations: Iterable[str] = (), **kwargs) -> Registry:
    parent = getattr(mmpretrain_registry, name)
    return Registry(parent.name, parent=parent, locations=list(locations), **kwargs)


MODELS = _child('MODELS', ['clear.models'])
DATASETS = _child('DATASETS', ['clear.datasets'], readers='clear.datasets.loaders.of_readers:dataset_of')
TRANSFORMS = _child('TRANSFORMS', ['clear.datasets.transforms'])
DATA_SAMPLERS = _child('DATA_SAMPLERS', ['clear.datasets'])
RUNNERS = _child('RUNNERS', ['clear.engine.continual.program', 'clear.engine.probing.program',
                              'clear.engine.stages.program', 'clear.engine.streams.over_time_program',
                              'clear.engine.streams.program', 'clear.engine.training.program'])
RUNNER_CONSTRUCTORS = _child('RUNNER_CONSTRUCTORS')
LOOPS = _child('LOOPS', ['clear.engine.training.loops'])
HOOKS = _child('HOOKS', ['clear.engine.training.hooks', 'clear.evaluation.online', 'clear.evaluation.online_tasks',
                         'clear.features.episodes', 'clear.visualization.cluster_hook'])
LOG_PROCESSORS = _child('LOG_PROCESSORS')
OPTIMIZERS = _child('OPTIMIZERS', ['clear.engine.training.lars'], library=_timm_optimizer,
                    library_names=_timm_optimizer_names, library_title='timm.optim')
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS', ['clear.engine.training.optimisation'])
OPTIM_WRAPPER_CONSTRUCTORS = _child('OPTIM_WRAPPER_CONSTRUCTORS', ['clear.models.alignment.optim_groups'])
PARAM_SCHEDULERS = _child('PARAM_SCHEDULERS', ['clear.engine.training.optimisation',
                                               'clear.models.alignment.two_rates'])
WEIGHT_INITIALIZERS = _child('WEIGHT_INITIALIZERS')
BATCH_AUGMENTS = _child('BATCH_AUGMENTS')
MODEL_WRAPPERS = _child('MODEL_WRAPPERS')
TASK_UTILS = _child('TASK_UTILS')
METRICS = _child('METRICS', ['clear.evaluation'])
EVALUATORS = _child('EVALUATORS')
VISUALIZERS = _child('VISUALIZERS')
VISBACKENDS = _child('VISBACKENDS')

SCENARIOS = Registry('scenario', locations=['clear.continual.scenarios'],
                     readers='clear.continual.scenarios.of_readers:scenario_of',
                     **_attribute_of('avalanche.benchmarks.classic', _is_public_callable))
STRATEGIES = Registry('strategy', locations=['clear.continual.strategies'], left_out=LEFT_OUT_STRATEGIES,
                      **_attribute_of('avalanche.training.supervised', _is_class))
BUFFERS = Registry('buffer', locations=['clear.continual.buffers'],
                   **_attribute_of('avalanche.training.storage_policy', _is_class))
PLUGINS = Registry('strategy plugin', locations=['clear.continual.strategies'],
                   **_attribute_of('avalanche.training.plugins', _is_class))
CL_METRICS = Registry('continual metric', locations=['clear.continual'],
                      **_attribute_of('avalanche.evaluation.metrics', _is_metric_factory))
LOGGERS = Registry('logger', locations=['clear.continual.loggers'],
                   **_attribute_of('avalanche.logging', _is_class))
READERS = Registry('reader', locations=[
    'clear.curation.images',
    'clear.datasets.readers.benchmarks.caption_choices',
    'clear.datasets.readers.benchmarks.clip_benchmark',
    'clear.datasets.readers.benchmarks.imagenet',
    'clear.datasets.readers.bucket_lists',
    'clear.datasets.readers.clear.images',
    'clear.datasets.readers.dense.ade20k',
    'clear.datasets.readers.dense.cityscapes',
    'clear.datasets.readers.dense.coco_panoptic',
    'clear.datasets.readers.dense.egohands',
    'clear.datasets.readers.dense.inpainting',
    'clear.datasets.readers.dense.kitti',
    'clear.datasets.readers.dense.nyu',
    'clear.datasets.readers.dense.pets',
    'clear.datasets.readers.dense.taskonomy',
    'clear.datasets.readers.dense.thor',
    'clear.datasets.readers.dense.voc_segmentation',
    'clear.datasets.readers.elevater.reader',
    'clear.datasets.readers.folder',
    'clear.datasets.readers.listing',
    'clear.datasets.readers.pairs.coco_captions',
    'clear.datasets.readers.pairs.parts',
    'clear.datasets.readers.pairs.prompted',
    'clear.datasets.readers.pairs.shards',
    'clear.datasets.readers.pairs.snli_ve',
    'clear.datasets.readers.pairs.table',
    'clear.datasets.readers.pairs.vqa_v2',
    'clear.datasets.readers.table_by_time',
    'clear.datasets.readers.table_file',
    'clear.datasets.readers.torchvision',
    'clear.datasets.readers.virb.caltech101',
    'clear.datasets.readers.virb.cifar100',
    'clear.datasets.readers.virb.clevr',
    'clear.datasets.readers.virb.imagenet_v2',
    'clear.datasets.readers.virb.kinetics',
    'clear.datasets.readers.virb.nuscenes',
    'clear.datasets.readers.virb.thor',
    'clear.datasets.readers.voc'])
TASKS = Registry('task', locations=['clear.evaluation'])
STAGES = Registry('stage', locations=['clear.curation'])
