"""A whole feature run from the command line: our program, the stock script, and the bare imports.

A CLEAR folder of ten buckets (2,310 training and 990 test rows of 2,048 features) lies on disk. In turn, each in a
process of its own: `tools/train.py` with Naive on a linear head for 10 experiences x 10 epochs; a script with stock
Avalanche's classes that does the same (reads the same features, trains, evaluates the stream after every experience);
our program up to its first iteration; and `import torch, avalanche`. The script draws no figures, so neither does ours
(`report=False`); a run with its report is timed beside it, and a loop over tensors that does the same steps,
which is the limit. CPU seconds of the processes, one thread, medians of round-wise ratios. A run
without imports is the run less its own imports of its round: the script's are `import torch, avalanche`, the loop's
a loop over no data, ours the program stopped where it begins to read data.

Claims: stock / ours >= 4 without imports, >= 1.5 with; first iteration / bare imports <= 1.15.

    python benchmarks/continual_run.py --rounds 3
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FEATURES = 'bench'

CONFIG = """
scenario = dict(type='CLEAR', data_root={root!r}, evaluation_protocol='iid', seed=0, feature_type='{features}')
model = dict(head=dict(type='LinearClsHead', num_classes=11, in_channels={dim}))
cl_strategy = dict(type='Naive', train_mb_size=256, eval_mb_size=256, train_epochs={epochs},
                   optimizer=dict(type='SGD', lr=1.0, momentum=0.9), scheduler=dict(type='StepLR', step_size=60))
loggers, metrics, threads, device, report = [], [], 1, 'cpu', False
"""

STOCK = """
import sys, torch
torch.set_num_threads(1)
from avalanche.benchmarks import dataset_benchmark
from avalanche.benchmarks.utils import _make_taskaware_classification_dataset as task_aware
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
sys.path.insert(0, {project!r})
from clear.datasets.readers.clear.clear import read_clear

class Rows(torch.utils.data.Dataset):
    def __init__(self, bucket):
        self.features, self.targets = bucket.features, bucket.targets.tolist()
    def __len__(self):
        return len(self.targets)
    def __getitem__(self, row):
        return self.features[row], self.targets[row]

data = read_clear({root!r}, evaluation_protocol='iid', seed=0, feature_type='{features}')
train, test = ([task_aware(rows, task_labels=i, targets=rows.targets) for i, rows in enumerate(map(Rows, part))]
               for part in (data.train, data.test))
benchmark = dataset_benchmark(train, test)
model = torch.nn.Linear({dim}, 11)
strategy = Naive(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9),
                 criterion=torch.nn.CrossEntropyLoss(), train_mb_size=256, eval_mb_size=256, train_epochs={epochs},
                 evaluator=EvaluationPlugin(accuracy_metrics(experience=True), loggers=[]))
for experience in benchmark.train_stream:
    strategy.train(experience, eval_streams=[])
    strategy.eval(benchmark.test_stream)
"""

RAW = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, {project!r})
from clear.datasets.readers.clear.clear import read_clear

model = torch.nn.Linear({dim}, 11)
optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
if {imports_only}:
    sys.exit()
data = read_clear({root!r}, evaluation_protocol='iid', seed=0, feature_type='{features}')
for bucket in data.train:
    targets = torch.as_tensor(bucket.targets)
    for epoch in range({epochs}):
        for rows in torch.randperm(len(targets)).split(256):
            loss = torch.nn.functional.cross_entropy(model(bucket.features.index_select(0, rows)), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        for test in data.test:
            int((model(test.features).argmax(1) == torch.as_tensor(test.targets)).sum())
"""

UP_TO_DATA = """
import gc, os, sys
gc.disable()  # as the program does while it imports
sys.path[:0] = [{project!r}, {tools!r}]
from train import main
import clear.engine.continual.runner as runner

def stop(self):
    import torch

    torch.optim.SGD([torch.zeros(1)], lr=1.0)  # imports torch._dynamo, which importing Avalanche does too
    os._exit(0)

runner.ContinualRunner.build_data = stop
main([{config!r}, '--work-dir', {work_dir!r}])
"""

FIRST_ITERATION = """
import os, sys
sys.path.insert(0, {project!r})
import clear.engine.base as launch

def stop_at_first_iteration():
    from clear.continual.training.mixin import EngineMixin
    EngineMixin._after_training_iteration = lambda self, **kwargs: os._exit(0)

resume = launch.resume_collection
launch.resume_collection = lambda: (resume(), stop_at_first_iteration())
sys.path.insert(0, {tools!r})
from train import main
main([{config!r}, '--work-dir', {work_dir!r}])
"""

IMPORTS = 'import torch, avalanche.training'


def write_data(root: Path, num_buckets: int, per_class: int, dim: int) -> None:
    """Features in the older CLEAR layout, by the writer of the tests' trees."""
    sys.path.insert(0, str(ROOT / 'tests' / 'helpers'))
    import clear_trees

    clear_trees.FEATURE_TYPE = FEATURES
    clear_trees.write_clear_tree(root, num_buckets=num_buckets, num_classes=11, per_class=per_class, features=dim,
                                 images=False)


def cpu_seconds(command: list[str]) -> float:
    """CPU time of a process and its children.

    Raises:
        RuntimeError: if it failed, with what it wrote.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'Agg', 'PYTHONWARNINGS': 'ignore',
           'PYTHONPATH': str(ROOT)}
    env.pop('PYTHONDONTWRITEBYTECODE', None)  # Installed packages are compiled; this checkout should be as well.
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--small', action='store_true', help='two small buckets, to see that it runs')
    args = parser.parse_args(argv)
    buckets, per_class, dim, epochs = (2, 10, 16, 1) if args.small else (10, 300, 2048, 10)
    times = dict(imports=[], ours_imports=[], first_iteration=[], ours=[], with_report=[], stock=[], raw=[],
                 raw_imports=[])
    with tempfile.TemporaryDirectory() as folder:
        root, config = Path(folder) / 'data', Path(folder) / 'bench.py'
        write_data(root, buckets, per_class, dim)
        values = dict(root=str(root), features=FEATURES, dim=dim, epochs=epochs, project=str(ROOT),
                      tools=str(ROOT / 'tools'), config=str(config), work_dir=str(Path(folder) / 'first'))
        config.write_text(CONFIG.format(**values))
        run = [sys.executable, str(ROOT / 'tools' / 'train.py'), str(config), '--overwrite', '--work-dir',
               str(Path(folder) / 'run')]
        ways = dict(imports=[sys.executable, '-c', IMPORTS],
                    ours_imports=[sys.executable, '-c', UP_TO_DATA.format(**values)],
                    first_iteration=[sys.executable, '-c', FIRST_ITERATION.format(**values)],
                    ours=run, with_report=[*run, '--cfg-options', 'report=True'],
                    stock=[sys.executable, '-c', STOCK.format(**values)],
                    raw=[sys.executable, '-c', RAW.format(**values, imports_only=False)],
                    raw_imports=[sys.executable, '-c', RAW.format(**values, imports_only=True)])
        cpu_seconds(ways['imports'])  # fills the cache of files
        cpu_seconds(ways['with_report'])  # writes bytecode
        for number in range(args.rounds):
            for name, command in ways.items():
                times[name].append(cpu_seconds(command))
            print(f'round {number + 1}:', '  '.join(f'{name} {values[-1]:.2f} cpu-s' for name, values in times.items()))

    def median(one, other):
        return statistics.median(a / b for a, b in zip(one, other))

    imports = dict(ours='ours_imports', with_report='ours_imports', stock='imports', raw='raw_imports')
    without = {name: [total - bare for total, bare in zip(times[name], times[bare_name])]
               for name, bare_name in imports.items()}
    print(json.dumps(dict(
        benchmark='continual_run', rounds=args.rounds, stock_over_ours=median(times['stock'], times['ours']),
        stock_over_ours_without_imports=median(without['stock'], without['ours']),
        stock_over_raw_without_imports=median(without['stock'], without['raw']),
        ours_over_raw_without_imports=median(without['ours'], without['raw']),
        ours_over_raw=median(times['ours'], times['raw']),
        stock_over_ours_with_report=median(times['stock'], times['with_report']),
        first_iteration_over_imports=median(times['first_iteration'], times['imports']))))


if __name__ == '__main__':
    main()
