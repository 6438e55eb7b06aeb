// The page without this script is complete; with it, a loss or an order that is chosen is shown everywhere.
"use strict";
(() => {
  const held = document.getElementById("page-data");
  if (!held) return;
  const data = JSON.parse(held.textContent);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const chosen = { loss: data.chosen, order: null };

  function showLoss() {
    const view = data.losses[chosen.loss];
    if (!view) return;
    const inside = new Set(view.best_set);
    for (const node of all("[data-told]")) node.textContent = view.told[node.dataset.told] ?? "";
    for (const node of all("[data-loss]")) {
      const on = Number(node.dataset.loss) === chosen.loss;
      node.classList.toggle("chosen", on);
      if (node.tagName === "BUTTON") node.setAttribute("aria-pressed", String(on));
    }
    for (const node of all("[data-order]")) {
      node.classList.toggle("inside", inside.has(node.dataset.order));
      node.classList.toggle("taken", node.dataset.order === view.recommended);
    }
    for (const row of all("tr[data-order]", document.getElementById("orders") ?? document)) {
      const told = view.orders[row.dataset.order];
      if (!told) continue;
      for (const cell of all("[data-part]", row)) cell.textContent = told[cell.dataset.part] ?? "";
      const bar = row.querySelector(".interval");
      if (bar) for (const name of ["low", "high", "at"]) bar.style.setProperty(`--${name}`, told.bar[name]);
    }
    for (const graph of all("[data-graph]")) graph.hidden = Number(graph.dataset.graph) !== chosen.loss;
    for (const part of all("[data-shown-with]")) part.hidden = !view.told[part.dataset.shownWith];
    const chart = document.querySelector("svg.curves");
    if (chart) {
      const band = chart.querySelector(".band"), line = chart.querySelector(".at");
      band.setAttribute("x", view.band[0]);
      band.setAttribute("width", view.band[1] - view.band[0]);
      line.setAttribute("x1", view.at);
      line.setAttribute("x2", view.at);
    }
  }

  function showOrder() {
    for (const node of all("[data-order]")) node.classList.toggle("picked", node.dataset.order === chosen.order);
    document.body.classList.toggle("has-picked", chosen.order !== null);
    if (chart) chart.draw();
  }

  // Dots of single networks, drawn on a canvas below the curves; the nearest one is named.
  class Dots {
    constructor(figure) {
      this.svg = figure.querySelector("svg.curves");
      this.canvas = document.createElement("canvas");
      this.canvas.className = "dots";
      this.tip = document.createElement("div");
      this.tip.className = "tip";
      this.tip.hidden = true;
      this.frame = figure.querySelector(".frame");
      this.frame.append(this.canvas, this.tip);
      this.frame.addEventListener("pointermove", (event) => this.name(event));
      this.frame.addEventListener("pointerleave", () => { this.tip.hidden = true; this.over(null); });
      this.frame.addEventListener("click", (event) => {
        const order = this.near(event)?.order ?? event.target.closest?.("[data-order]")?.dataset.order;
        if (order) pick(order);
      });
      new ResizeObserver(() => this.draw()).observe(this.frame);
    }
    place(index) { // in units of the picture
      const { box, x, y } = data.axes, points = data.points;
      const share = (value, axis) => (value - axis[0]) / (axis[1] - axis[0]);
      return [
        box[0] + Math.min(1, Math.max(0, share(points.x[index], x))) * (box[2] - box[0]),
        box[3] - share(points.y[index], y) * (box[3] - box[1]),
      ];
    }
    draw() {
      const bounds = this.frame.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
      if (!bounds.width) return;
      this.scale = bounds.width / data.axes.size[0];
      this.canvas.width = bounds.width * ratio;
      this.canvas.height = bounds.height * ratio;
      const context = this.canvas.getContext("2d");
      context.scale(ratio * this.scale, ratio * this.scale);
      const style = getComputedStyle(document.body);
      const [plain, strong] = [style.getPropertyValue("--dot"), style.getPropertyValue("--picked")];
      this.cells = new Map();
      const points = data.points, count = points.x.length, size = Math.max(1.2, Math.min(2.4, 2.4 - Math.log10(count / 1000)));
      for (const pass of [false, true]) {
        context.fillStyle = pass ? strong : plain;
        for (let index = 0; index < count; index++) {
          const mine = chosen.order !== null && data.orders[points.order[index]] === chosen.order;
          if (mine !== pass) continue;
          const [left, top] = this.place(index);
          if (points.x[index] > data.axes.x[1] || top < data.axes.box[1] || top > data.axes.box[3]) continue;
          context.fillRect(left - size / 2, top - size / 2, pass ? size * 1.6 : size, pass ? size * 1.6 : size);
          const key = `${Math.floor(left / 12)},${Math.floor(top / 12)}`;
          if (!this.cells.has(key)) this.cells.set(key, []);
          this.cells.get(key).push(index);
        }
      }
    }
    near(event) {
      const bounds = this.frame.getBoundingClientRect();
      const left = (event.clientX - bounds.left) / this.scale, top = (event.clientY - bounds.top) / this.scale;
      let best = null;
      for (let column = -1; column <= 1; column++) for (let row = -1; row <= 1; row++) {
        for (const index of this.cells?.get(`${Math.floor(left / 12) + column},${Math.floor(top / 12) + row}`) ?? []) {
          const [x, y] = this.place(index), distance = Math.hypot(x - left, y - top);
          if (distance < 10 && (!best || distance < best.distance)) best = { index, distance, x, y };
        }
      }
      if (best) best.order = data.orders[data.points.order[best.index]];
      return best;
    }
    over(order) {
      for (const node of all("[data-order]", this.svg)) node.classList.toggle("over", node.dataset.order === order);
    }
    name(event) {
      const hit = this.near(event), line = event.target.closest?.("[data-order]")?.dataset.order;
      this.tip.hidden = !hit && !line;
      this.over(hit?.order ?? line ?? null);
      if (this.tip.hidden) return;
      const points = data.points;
      const words = hit
        ? `${data.sequences[points.sequence[hit.index]]}\nseed ${points.seed[hit.index]} · ` +
          `${(2 ** points.y[hit.index]).toPrecision(3)} times fewer bit operations · ` +
          `${(100 * points.lost[hit.index]).toFixed(1)} points lost on test data`
        : `${line}: what its networks reach, mean over seeds`;
      this.tip.textContent = words;
      const bounds = this.frame.getBoundingClientRect(), x = event.clientX - bounds.left;
      this.tip.style.top = `${event.clientY - bounds.top + 16}px`;
      this.tip.style.left = `${Math.max(0, Math.min(x - 20, bounds.width - this.tip.offsetWidth))}px`;
    }
  }

  function pick(order) {
    chosen.order = chosen.order === order ? null : order;
    showOrder();
  }

  document.addEventListener("click", (event) => {
    const loss = event.target.closest("[data-loss]"), row = event.target.closest("tr[data-order], button[data-order]");
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      const text = document.getElementById(copy.dataset.copy).textContent.trim();
      const done = () => { copy.dataset.done = "copied"; setTimeout(() => delete copy.dataset.done, 1500); };
      if (navigator.clipboard && window.isSecureContext) navigator.clipboard.writeText(text).then(done, () => select(copy));
      else { select(copy); document.execCommand("copy"); done(); }
    } else if (loss) {
      chosen.loss = Number(loss.dataset.loss);
      showLoss();
    } else if (row) pick(row.dataset.order);
  });
  function select(copy) {
    const range = document.createRange();
    range.selectNodeContents(document.getElementById(copy.dataset.copy));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  }

  document.documentElement.classList.add("scripted");
  const figure = document.querySelector("figure.curves");
  const chart = figure && data.points.x.length ? new Dots(figure) : null;
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => chart && chart.draw());
  showLoss();
  showOrder();
})();
