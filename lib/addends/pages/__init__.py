"""The pages outside of the book's build: reports on models of one's own, downloads that run, the data with their words.

On the way of the data: plain (what a page's roles stand for, as text), report (a notebook executed on other models, as
one HTML file), dictionary (the tables described, and which files of them are offered), downloads (executed notebooks
with their numbers in the text), site (the extension of Sphinx that puts both into the book, with version, date and
repository). Each needs something of the extra `book`, which is imported where it is used.

This room imports the ground floor alone. Pages and the command take its names from here.
"""

from addends.pages.dictionary import describe, files_of, offered, where_it_is
from addends.pages.plain import Known, plain
from addends.pages.report import KINDS, report

__all__ = ["KINDS", "Known", "describe", "files_of", "offered", "plain", "report", "where_it_is"]
