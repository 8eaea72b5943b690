"""The public forms of YFCC100M's metadata, a module each behind one interface; a file's form is seen by looking."""

from clear.curation.metadata.forms.base import OUTCOMES, Form, Keys, Range
from clear.curation.metadata.forms.looking import form_of

__all__ = ['OUTCOMES', 'Form', 'Keys', 'Range', 'form_of']
