"""Feature banks: encode a data set once, store the features, read them everywhere."""

from clear.features.bank import FeatureBank
from clear.features.build import bank_path, find_or_extract
from clear.features.extract import extract
from clear.features.join import join_bucket
from clear.features.legacy import export_legacy, import_legacy
from clear.features.planned import planned_banks
from clear.features.sources import Source, build_source
from clear.features.writing import write_bank

__all__ = ['FeatureBank', 'Source', 'bank_path', 'build_source', 'export_legacy', 'extract', 'find_or_extract',
           'import_legacy', 'join_bucket', 'planned_banks', 'write_bank']
