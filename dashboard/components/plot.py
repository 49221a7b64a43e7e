"""The chart component: Plotly.react on the plotly.min.js of the plotly wheel.

`st.plotly_chart` mounts a new chart at each change of data and loses the zoom; this keeps the chart and updates it. The
library is served from the wheel's own folder by Streamlit's component route: nothing is copied, no network is used.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v1 import declare_component

from dashboard.figures import Figure

_ROUTE = "heddle_plotly"


@st.cache_resource(show_spinner=False)
def _library_url() -> str:
    """Where the browser finds plotly.min.js. Pages are one level deep, so the address is relative to the base path."""
    spec = find_spec("plotly")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "package_data"
    served = declare_component(_ROUTE, path=str(folder))
    return f"component/{served.name}/plotly.min.js"


_PLOT = st.components.v2.component(
    "heddle_plot",
    html='<div class="hd-plot"></div>',
    js=(Path(__file__).parent / "plot.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)

_THEME = st.components.v2.component(
    "heddle_theme",
    html='<span class="hd-theme"></span>',
    js="""export default function () {
  // Dialogs and menus sit outside the app root: give the document the app's scheme, for light-dark() there.
  const app = document.querySelector(".stApp");
  if (app) document.documentElement.style.colorScheme = getComputedStyle(app).colorScheme;
}
""",
    isolate_styles=False,
)


def plot(figure: Figure, *, key: str, alt: str) -> str | None:
    """Draw `figure` with a sentence for who cannot see it.

    Returns the id of a decision clicked in this run, else None.
    """
    data: dict[str, Any] = {
        "figure": {"data": figure.data, "layout": figure.layout},
        "height": figure.height,
        "alt": alt,
        "library": _library_url(),
    }
    result = _PLOT(data=data, key=key, height=figure.height, on_picked_change=lambda: None)
    picked = getattr(result, "picked", None)
    return str(picked) if picked else None


def theme_sync() -> None:
    """Once a page: dialogs follow light and dark."""
    _THEME(key="theme-sync", data={}, height=1)
