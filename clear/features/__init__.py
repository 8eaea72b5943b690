"""Feature banks: encode a data set once, store the features, read them everywhere."""

from clear.features.bank import FeatureBank
from clear.features.extract import extract
from clear.features.identity import bank_path, identity_of
from clear.features.join import join_bucket
from clear.features.legacy import export_legacy, import_legacy
from clear.features.planned import planned_banks
from clear.features.writing import write_bank

__all__ = ['FeatureBank', 'bank_path', 'export_legacy', 'extract', 'identity_of',
           'import_legacy', 'join_bucket', 'planned_banks', 'write_bank']
