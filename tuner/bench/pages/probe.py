"""What a visitor can see, asked once a frame inside the page: the script that every measured page begins with.
Seeing only, by what the browser has drawn; what was asked for and how long it may take is said in loads.py.
"""

from __future__ import annotations

PATIENCE_S = 180

PROBE = (
    (
        r"""
// A picture counts once its marks are drawn, a table once there is ink in its canvas: frames and axes are not enough.
(() => {
  const WIDE = 160, HIGH = 80, TOP = 12; // of a small copy; what is on top is headers and legends, which come first
  const small = new OffscreenCanvas(WIDE, HIGH).getContext("2d", { willReadFrequently: true });
  const all = (selector) => [...document.querySelectorAll(selector)].filter((one) => {
    const box = one.getBoundingClientRect();
    return box.width > 20 && box.height > 10;
  });
  const ink = (canvas) => {
    small.clearRect(0, 0, WIDE, HIGH);
    small.drawImage(canvas, 0, 0, WIDE, HIGH);
    const data = small.getImageData(0, 0, WIDE, HIGH).data;
    let sum = 0, dark = 0, coloured = 0;
    for (let i = WIDE * TOP * 4; i < data.length; i += 4) {
      const [r, g, b, a] = [data[i], data[i + 1], data[i + 2], data[i + 3]];
      sum = (sum * 31 + r + 7 * g + 13 * b + 17 * a) % 2147483647;
      if (a > 100 && r + g + b < 660) dark++;
      if (a > 100 && Math.max(r, g, b) - Math.min(r, g, b) > 40) coloured++;
    }
    return { sum, dark, coloured };
  };
  const table = () => {
    const canvas = all('[data-testid="stDataFrame"] canvas[data-testid="data-grid-canvas"]')[0];
    const found = canvas && ink(canvas);
    return found && found.dark > 40 ? found.sum : 0;
  };
  const MARKS = "path[d], rect, image, use, circle".split(", ").map((one) => `svg .role-mark ${one}`).join(", ");
  const picture = (one) => one.querySelectorAll(MARKS).length > 1 ||
    [...one.querySelectorAll("canvas")].some((canvas) => canvas.width > 20 && ink(canvas).coloured > 10);
  const SEEN = {
    numbers: () => {
      const values = all('[class*="st-key-card"] h2').map((one) => one.innerText.trim());
      return values.length > 1 && values.every((one) => one !== "");
    },
    chart: () => all('[data-testid="stVegaLiteChart"]').slice(0, 1).some(picture),
    table: () => table() !== 0,
    plotted: () => document.querySelector("#plot-history .point") !== null,
  };
  // what the page says, but for its header, whose age changes by itself
  const words = () => all("p").filter((one) => !one.closest(".st-key-header")).map((one) => one.innerText).join("\n");
  const titled = (text) => all("h1").some((one) => one.innerText.trim() === text);

  let did = 0; // when the visitor last did something, by the browser's own clock
  for (const kind of ["click", "keydown"]) addEventListener(kind, (event) => { did = event.timeStamp; }, true);
  let before = { table: 0, words: "" };

  // milliseconds from a moment of the page's clock to the first frame where it is met
  const until = (what, since, met) => new Promise((done, failed) => {
    const from = performance.now();
    const look = () => {
      if (met()) return done(performance.now() - since());
      if (performance.now() - from > PATIENCE_MS) return failed(new Error(`not seen within PATIENCE_S s: ${what}`));
      requestAnimationFrame(look);
    };
    look();
  });
  window.tunerProbe = {
    loaded: (name) => until(name, () => 0, SEEN[name]),
    switched: (title, name) => until(`${name} of ${title}`, () => did, () => titled(title) && SEEN[name]()),
    remember: () => { before = { table: table(), words: words() }; },
    changed: () => until("another table", () => did, () => {
      const now = table();
      return now !== 0 && now !== before.table && words() !== before.words;
    }),
  };

  window.tunerSent = 0; // what the page asked of its server
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (...given) { window.tunerSent++; return send.apply(this, given); };
})();
"""
    )
    .replace("PATIENCE_MS", str(PATIENCE_S * 1000))
    .replace("PATIENCE_S", str(PATIENCE_S))
)
"""Gives a page ``tunerProbe`` (promises of milliseconds) and ``tunerSent`` (messages to the server so far)."""
