"""`clear`: learning from images and text over time, from configs.

In a notebook or a script: `clear.train`, `clear.evaluate`, `clear.extract`, `clear.Predictor` and `clear.Run`
(docs/notebook.md). They are imported when they are asked for: `import clear` alone stays quick.
"""

TYPE_CHECKING = False  # as typing's, which would be one more import
if TYPE_CHECKING:
    from clear.core.errors import CheckpointError as CheckpointError
    from clear.core.errors import ClearError as ClearError
    from clear.core.errors import ConfigError as ConfigError
    from clear.core.errors import DataError as DataError
    from clear.core.errors import Interrupted as Interrupted
    from clear.core.errors import TrainingError as TrainingError
    from clear.engine.api import evaluate as evaluate
    from clear.engine.api import extract as extract
    from clear.engine.api import train as train
    from clear.engine.notebook.views import Run as Run
    from clear.engine.prediction.predictor import Predictor as Predictor

__version__ = '0.1.0'

# Name -> the module that has it.
_PLACES = {**dict.fromkeys(('train', 'evaluate', 'extract'), 'clear.engine.api'), 'Run': 'clear.engine.notebook.views',
           'Predictor': 'clear.engine.prediction.predictor',
           **dict.fromkeys(('ClearError', 'ConfigError', 'DataError', 'CheckpointError', 'TrainingError',
                            'Interrupted'), 'clear.core.errors')}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'clear' has no attribute '{name}'")
    from importlib import import_module

    globals()[name] = found = getattr(import_module(_PLACES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
