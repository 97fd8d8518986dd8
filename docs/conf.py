"""Sphinx's configuration of the documentation site; `bash docs/build.sh` builds it."""

import re
import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from rpfnet_jax import __version__  # noqa: E402

project = "rpfnet_jax"
author = "The rpfnet_jax authors"
copyright = "2026, the rpfnet_jax authors"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
templates_path = ["templates"]
exclude_patterns = ["build", "templates"]

html_theme = "furo"
html_title = f"rpfnet_jax {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["dollarmath"]
# Links such as guide.md#norm-modes work on GitHub, too; a link to a heading that does not exist is a warning.
myst_heading_anchors = 4

nb_execution_mode = "cache"
nb_execution_cache_path = str(DOCS / "build" / "notebooks")
nb_execution_timeout = 600
nb_execution_raise_on_error = True

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autosummary_ignore_module_all = False
autosummary_imported_members = True
python_maximum_signature_line_length = 88
# Docstrings put code in single backticks, as Markdown does.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Sphinx reads only what is inside docs/.
shutil.copyfile(DOCS.parent / "notebooks" / "quickstart.ipynb", DOCS / "notebook.ipynb")


def _link_inside(app, docname, source):
    """Leads links to files outside docs/ that have a page here to that page."""
    for outside, page in (("../notebooks/quickstart.ipynb", "notebook.ipynb"), ("../CHANGELOG.md", "changelog.md")):
        source[0] = source[0].replace(f"]({outside})", f"]({page})")


def _shorten_signature(app, what, name, obj, options, signature, returned):
    """Leaves out what Flax adds to the arguments of a module, and the addresses of default objects."""
    if signature:
        signature = re.sub(r", parent: .*?, name: .*?(?=\))", "", signature)
        signature = re.sub(r"<(?:function )?(\w+)[^<>]* at 0x[0-9a-f]+>", r"\1", signature)
    return signature, returned


def _skip_fields(app, what, name, obj, skip, options):
    """Leaves out the fields of named tuples, which their class describes, and whose own docstrings say nothing."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def setup(app):
    app.connect("autodoc-skip-member", _skip_fields)
    app.connect("source-read", _link_inside)
    app.connect("autodoc-process-signature", _shorten_signature)
