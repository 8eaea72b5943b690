"""Tasks on frozen encoders. Each is `TASKS.build(cfg).run(encoder, data)`, and works on plain tensors too."""

from clear.evaluation.dense.map_classifier import MapClassifier
from clear.evaluation.dense.pixelwise_probe import PixelwiseProbe
from clear.evaluation.elevater.fine_tune import ElevaterFineTune
from clear.evaluation.elevater.linear import ElevaterLinear
from clear.evaluation.elevater.zero_shot import ElevaterZeroShot
from clear.evaluation.image.clustering import Clustering, agreement, k_means
from clear.evaluation.image.few_shot import FewShotProbe
from clear.evaluation.image.grid.points import GridPoint, expand_grid
from clear.evaluation.image.grid.training import TrainedGrid, train_grid
from clear.evaluation.image.knn import KNN, nearest_neighbours, weighted_votes
from clear.evaluation.image.linear_probe import LinearProbe
from clear.evaluation.image.logistic_probe import LogisticProbe, fit_logistic
from clear.evaluation.image.mlp_probe import MLPProbe
from clear.evaluation.image.nearest_class_mean import NearestClassMean, nearest_mean_scores
from clear.evaluation.image.rows import LabelledRows, ProbeData, read_splits, sample_shots, stratified_split
from clear.evaluation.image.voc07 import voc07_classification
from clear.evaluation.image.voc07_linear import VOC07Linear
from clear.evaluation.image.voc07_svm import VOC07SVM
from clear.evaluation.language.caption_choice import CaptionChoice
from clear.evaluation.language.class_retrieval import ClassRetrieval
from clear.evaluation.language.entailment import VisualEntailment
from clear.evaluation.language.feature_analysis import FeatureAnalysis
from clear.evaluation.language.retrieval import ImageTextRetrieval
from clear.evaluation.language.vqa.answering import VisualQuestionAnswering
from clear.evaluation.language.zero_shot import ZeroShot
from clear.evaluation.metrics.average_precision import average_precision, mean_average_precision
from clear.evaluation.metrics.correlation import pearson, spearman
from clear.evaluation.task import Task, TaskData, TaskResult, classification_metrics
from clear.evaluation.text.passage_retrieval import PassageRetrieval
from clear.evaluation.text.sentence_similarity import SentenceSimilarity
from clear.evaluation.text.text_linear_probe import TextLinearProbe
from clear.evaluation.text.triplets import Triplets
from clear.evaluation.text.word_similarity import WordSimilarity
from clear.evaluation.trained_head import TrainedHead

__all__ = ['CaptionChoice', 'ClassRetrieval', 'Clustering', 'ElevaterFineTune', 'ElevaterLinear', 'ElevaterZeroShot',
           'FeatureAnalysis', 'FewShotProbe', 'GridPoint', 'ImageTextRetrieval', 'KNN', 'LabelledRows', 'LinearProbe',
           'LogisticProbe', 'MLPProbe', 'MapClassifier', 'NearestClassMean', 'PassageRetrieval', 'PixelwiseProbe',
           'ProbeData', 'SentenceSimilarity', 'Task', 'TaskData', 'TaskResult', 'TextLinearProbe', 'TrainedGrid',
           'TrainedHead', 'Triplets', 'VOC07Linear', 'VOC07SVM', 'VisualEntailment', 'VisualQuestionAnswering',
           'WordSimilarity', 'ZeroShot', 'agreement', 'average_precision', 'classification_metrics', 'expand_grid',
           'fit_logistic', 'k_means', 'mean_average_precision', 'nearest_mean_scores', 'nearest_neighbours', 'pearson',
           'read_splits', 'sample_shots', 'spearman', 'stratified_split', 'train_grid', 'voc07_classification',
           'weighted_votes']
