"""From a photo stream to a labelled data set in time buckets: one stage after the other, registered in `STAGES`."""

from clear.curation.buckets.stage import TimeBuckets
from clear.curation.download.stage import Download
from clear.curation.export.stage import Export
from clear.curation.features import Features
from clear.curation.legacy.stage import LegacyFeatures
from clear.curation.metadata.own.photos import PhotoFolder
from clear.curation.metadata.own.table import TableRecords
from clear.curation.metadata.own.url_list import UrlList
from clear.curation.metadata.side.stage import SideFiles
from clear.curation.metadata.stage import Metadata
from clear.curation.retrieval.stage import Retrieval
from clear.curation.verification.stage import Verified

__all__ = ['Download', 'Export', 'Features', 'LegacyFeatures', 'Metadata', 'PhotoFolder', 'Retrieval', 'SideFiles',
           'TableRecords', 'TimeBuckets', 'UrlList', 'Verified']
