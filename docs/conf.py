"""Sphinx's settings of the site; `build.py` collects its pages."""

from mentorgym import __version__

project = "mentorgym"
author = "mentorgym contributors"
release = __version__
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4
# Pages of results/ begin tables with headings of any level.
suppress_warnings = ["myst.header"]
html_theme = "furo"
html_title = "mentorgym"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_copyright = False
# It would turn the -- of flags into dashes.
smartquotes = False
html_copy_source = False
html_show_sourcelink = False
python_maximum_signature_line_length = 90
toc_object_entries_show_parents = "hide"
