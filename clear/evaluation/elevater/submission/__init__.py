"""Predictions as ELEVATER's leaderboard takes them, and what they scored.

::

    <work_dir>/predictions/<mode>/<set>.json            zero-shot
    <work_dir>/predictions/<mode>/seed<s>_<set>.json    other modes
    <work_dir>/predictions/<mode>/all_predictions.zip   combined, to be uploaded
    <work_dir>/scores/<mode>/seed<s>_<set>.json         what a set scored, where its labels are known
"""

from clear.evaluation.elevater.submission.combine import combine
from clear.evaluation.elevater.submission.predictions import ParameterCounts, check_free, mode_folder, write_predictions
from clear.evaluation.elevater.submission.summary import summarise
from clear.evaluation.elevater.submission.validate import Expected, validate

__all__ = ['Expected', 'ParameterCounts', 'check_free', 'combine', 'mode_folder', 'summarise', 'validate',
           'write_predictions']
