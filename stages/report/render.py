"""One HTML file with its style, its script and its data in it: it needs neither other files nor a network."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

PAGE = Path("stages/report/page")


def render(template: str, scripts: Sequence[str], data: Any, **values: Any) -> bytes:
    """Return the page of `template` with `values`, and with `scripts`, in this order, which draw from `data`.

    All are names of files in PAGE. The page's content security policy allows its own style and script alone.
    """
    script = "".join((PAGE / f"{name}.js").read_text(encoding="utf-8") for name in scripts)
    style = (PAGE / "style.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, loader=jinja2.FileSystemLoader(PAGE)
    )
    rendered = environment.get_template(f"{template}.html.jinja").render(
        data=json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        script=script,
        style=style,
        policy=f"default-src 'none'; img-src data:; script-src {_digest(script)}; style-src {_digest(style)}; "
        "base-uri 'none'; form-action 'none'",
        **values,
    )
    return rendered.encode()


def _digest(source: str) -> str:
    """Return what a content security policy calls an inline script or style of this `source`."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
