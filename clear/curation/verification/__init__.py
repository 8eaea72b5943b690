"""People look at what was selected: batches for them, their answers, how far they agree, and what is kept."""

from clear.curation.verification.answers import Answer, read_answers, record_answer
from clear.curation.verification.batches import write_batches

__all__ = ['Answer', 'read_answers', 'record_answer', 'write_batches']
