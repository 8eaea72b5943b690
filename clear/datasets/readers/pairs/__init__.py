"""Readers of images with texts: a column `caption`, a text or a list of texts per image; or files of questions and
hypotheses beside the table.
"""
