// Draws one Plotly figure and keeps it: Plotly.react updates in place, so a zoom survives a refresh.
// Colours arrive as token names ("@premium", "@standard/0.18") and are resolved here, in the present theme.
const instances = new WeakMap();

function library(url) {
  if (window.Plotly) return Promise.resolve(window.Plotly);
  if (!window.__heddlePlotly) {
    window.__heddlePlotly = new Promise((resolve, reject) => {
      const tag = document.createElement("script");
      tag.src = url;
      tag.onload = () => resolve(window.Plotly);
      tag.onerror = () => { window.__heddlePlotly = null; reject(new Error("plotly.min.js did not load")); };
      document.head.appendChild(tag);
    });
  }
  return window.__heddlePlotly;
}

function resolver(host) {
  const probe = document.createElement("span");
  probe.style.display = "none";
  host.appendChild(probe);
  const known = new Map();
  const colour = (name) => {
    if (!known.has(name)) {
      const [token, alpha] = name.slice(1).split("/");
      probe.style.color = `var(--hd-${token})`;
      const found = getComputedStyle(probe).color;
      const parts = (found.match(/[\d.]+/g) || ["0", "0", "0"]).slice(0, 3).join(",");
      known.set(name, alpha ? `rgba(${parts},${alpha})` : `rgb(${parts})`);
    }
    return known.get(name);
  };
  const paint = (value) => {
    if (typeof value === "string") {
      if (/^@[a-z0-9]+(\/[\d.]+)?$/.test(value)) return colour(value);
      return value.replace(/color:@([a-z0-9]+)/g, (_, name) => `color:${colour("@" + name)}`);
    }
    if (Array.isArray(value)) return value.map(paint);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, paint(v)]));
    return value;
  };
  return { paint, done: () => probe.remove() };
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const host = parentElement.querySelector(".hd-plot");
  if (!host || !data) return;
  host.style.height = `${data.height}px`;
  host.setAttribute("role", "img");
  host.setAttribute("aria-label", data.alt);
  const mine = instances.get(parentElement) || {};
  instances.set(parentElement, mine);
  mine.alive = true;
  mine.pick = (id) => setTriggerValue("picked", id);

  library(data.library).then((Plotly) => {
    if (!mine.alive) return;
    const { paint, done } = resolver(host.parentElement);
    const figure = paint(data.figure);
    done();
    figure.layout.font = { ...(figure.layout.font || {}), family: getComputedStyle(host).fontFamily };
    figure.layout.height = data.height;
    // Time moves on, so the range given changes at each refresh, and Plotly would take it: a person's zoom is put back here.
    mine.range = figure.layout.xaxis.range;
    if (mine.keep !== figure.layout.uirevision) mine.zoom = null;
    mine.keep = figure.layout.uirevision;
    if (mine.zoom) figure.layout.xaxis.range = mine.zoom;
    Plotly.react(host, figure.data, figure.layout, { displayModeBar: false, responsive: false, doubleClick: false, showTips: false })
      .then(() => {
        host.dataset.drawn = String(Number(host.dataset.drawn || 0) + 1);
        if (mine.wired) return;
        mine.wired = true;
        host.on("plotly_click", (event) => {
          const id = event.points.map((point) => point.customdata).find((value) => typeof value === "string" && value.startsWith("p-"));
          if (id) mine.pick(id);
        });
        host.on("plotly_relayout", (change) => {
          if ("xaxis.range[0]" in change) mine.zoom = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
        });
        host.on("plotly_doubleclick", () => {
          mine.zoom = null;
          Plotly.relayout(host, { "xaxis.range": mine.range });
        });
        mine.watch = new ResizeObserver(() => { if (host.offsetWidth) Plotly.Plots.resize(host); });
        mine.watch.observe(parentElement);
      });
  }).catch((error) => { host.textContent = `The chart could not be drawn: ${error.message}`; });

  return () => {
    mine.alive = false;
    if (mine.watch) mine.watch.disconnect();
    if (window.Plotly && host._fullLayout) window.Plotly.purge(host);
    instances.delete(parentElement);
  };
}
