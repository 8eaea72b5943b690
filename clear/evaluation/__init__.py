"""Tasks on frozen features. Each is `TASKS.build(cfg).run(encoder_name, banks)`, and works on plain tensors too."""

from clear.evaluation.clustering import Clustering, agreement, k_means
from clear.evaluation.few_shot import FewShotProbe
from clear.evaluation.knn import KNN, nearest_neighbours, weighted_votes
from clear.evaluation.linear_grid import GridPoint, TrainedGrid, expand_grid, train_grid
from clear.evaluation.linear_probe import LinearProbe
from clear.evaluation.logistic_probe import LogisticProbe, fit_logistic
from clear.evaluation.nearest_class_mean import NearestClassMean, nearest_mean_scores
from clear.evaluation.result import TaskResult, classification_metrics
from clear.evaluation.rows import LabelledRows, ProbeData, read_splits, sample_shots, stratified_split

__all__ = ['KNN', 'Clustering', 'FewShotProbe', 'GridPoint', 'LabelledRows', 'LinearProbe', 'LogisticProbe',
           'NearestClassMean', 'ProbeData', 'TaskResult', 'TrainedGrid', 'agreement', 'classification_metrics',
           'expand_grid', 'fit_logistic', 'k_means', 'nearest_mean_scores', 'nearest_neighbours', 'read_splits',
           'sample_shots', 'stratified_split', 'train_grid', 'weighted_votes']
