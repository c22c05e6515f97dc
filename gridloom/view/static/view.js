// The viewer's only script: draws grids, moves by key, plays ACT steps, and fetches what is new of a running run.
// It reads data attributes and inserts no text as markup but pages of the server itself.
"use strict";

// colours 0 to 9 as gridloom draws them everywhere; further values are tokens of other puzzles
const PALETTE = [
  "#000000", "#0074d9", "#ff4136", "#2ecc40", "#ffdc00", "#aaaaaa", "#f012be", "#ff851b", "#7fdbff", "#870c25",
  "#ffffff", "#5b7f95", "#c9b458", "#6a5acd", "#8fbc8f", "#bc8f8f", "#4682b4", "#d2b48c", "#708090", "#e9967a",
];
const POLL_MS = 2000;
const RELOAD_MS = 10000;
const PLAY_MS = { step: 700, row: 180, cell: 60 };

function rowsOf(text) {
  return text.split("/").map((row) => Array.from(row, (digit) => parseInt(digit, 36)));
}

function cellSize(rows, small) {
  const side = Math.max(rows.length, rows[0].length);
  return Math.max(small ? 4 : 6, Math.min(small ? 20 : 28, Math.floor((small ? 130 : 260) / side)));
}

// Give a grid its place on the page, before it is drawn: what is below does not move later.
function measure(canvas) {
  const rows = rowsOf(canvas.dataset.grid);
  const cell = cellSize(rows, canvas.closest(".small") !== null);
  const ratio = window.devicePixelRatio || 1;
  const width = rows[0].length * cell + 1, height = rows.length * cell + 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = width + "px";
  canvas.style.height = height + "px";
  return { rows, cell, ratio, width, height };
}

// Draw a grid. Cells that differ from the grid `against`, and those whose numbers stand in `marks`, have a mark; of
// digits, those that `given` has are black and the others blue. `box` holds the rows and
// columns of a sudoku's boxes.
function draw(canvas) {
  if (!canvas.dataset.grid) return;
  const { rows, cell, ratio, width, height } = measure(canvas);
  const against = canvas.dataset.against ? rowsOf(canvas.dataset.against) : null;
  const given = canvas.dataset.given ? rowsOf(canvas.dataset.given) : null;
  const marks = new Set((canvas.dataset.marks || "").split(" ").filter((one) => one).map(Number));
  const [boxRows, boxColumns] = (canvas.dataset.box || "0 0").split(" ").map(Number);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.fillStyle = "#555";
  pen.fillRect(0, 0, width, height);
  const letters = canvas.closest("[data-letters]")?.dataset.letters;
  rows.forEach((row, y) => row.forEach((value, x) => {
    const isMarked = marks.has(y * row.length + x);
    pen.fillStyle = letters ? (isMarked ? "#fbdcd7" : "#ffffff") : PALETTE[value % PALETTE.length];
    pen.fillRect(x * cell + 1, y * cell + 1, cell - 1, cell - 1);
    if (letters && letters[value] && letters[value] !== " ") {
      const isGiven = !given || letters[given[y][x]] === letters[value];
      pen.fillStyle = isMarked ? "#b3210c" : isGiven ? "#1b1f24" : "#1a5fb4";
      pen.font = `${isGiven && given ? "600 " : ""}${Math.floor(cell * 0.66)}px system-ui, sans-serif`;
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.fillText(letters[value], x * cell + cell / 2 + 0.5, y * cell + cell / 2 + 1);
    }
    if ((against && against[y] && against[y][x] !== value) || (isMarked && !letters)) {
      pen.fillStyle = "#ffffff";
      pen.fillRect(x * cell + cell * 0.3, y * cell + cell * 0.3, cell * 0.4 + 1, cell * 0.4 + 1);
      pen.fillStyle = "#d0006f";
      pen.fillRect(x * cell + cell * 0.35, y * cell + cell * 0.35, cell * 0.3 + 1, cell * 0.3 + 1);
    }
  }));
  if (boxRows) {
    pen.fillStyle = "#1b1f24";
    for (let at = boxRows; at < rows.length; at += boxRows) pen.fillRect(0, at * cell - 0.5, width, 2);
    for (let at = boxColumns; at < rows[0].length; at += boxColumns) pen.fillRect(at * cell - 0.5, 0, 2, height);
  }
}

const seen = "IntersectionObserver" in window
  ? new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
      }
    }, { rootMargin: "600px" })
  : null;

// On paper every grid is in view.
window.addEventListener("beforeprint", () => document.querySelectorAll("canvas[data-grid]").forEach(draw));

function drawAll(root) {
  const found = [...root.querySelectorAll("canvas[data-grid]")];
  found.forEach(measure);
  for (const canvas of found) {
    if (seen) seen.observe(canvas); else draw(canvas);
  }
}

// Frames between two answers: one by one the rows, or the cells, that change.
function between(before, after, unit) {
  const frames = [];
  const now = before.map((row) => row.slice());
  if (before.length !== after.length || before[0].length !== after[0].length) return [after];
  after.forEach((row, y) => {
    let changed = false;
    row.forEach((value, x) => {
      if (now[y][x] !== value) {
        now[y][x] = value;
        changed = true;
        if (unit === "cell") frames.push(now.map((line) => line.slice()));
      }
    });
    if (changed && unit === "row") frames.push(now.map((line) => line.slice()));
  });
  return frames.length ? frames : [after];
}

function player(box) {
  const frames = box.dataset.frames.split("|").map((text) => (text ? rowsOf(text) : [[0]]));
  const notes = box.dataset.notes.split("|");
  const canvas = box.querySelector("canvas"), range = box.querySelector("input[type=range]");
  const output = box.querySelector("output"), button = box.querySelector("[data-play]");
  const unit = box.querySelector("[data-unit]");
  let timer = null, waiting = [];
  function show(rows) {
    canvas.dataset.grid = rows.map((row) => row.map((value) => value.toString(36)).join("")).join("/");
    draw(canvas);
  }
  function settle() {
    waiting = [];
    show(frames[+range.value]);
    output.textContent = notes[+range.value];
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  }
  function advance() {
    if (waiting.length) {
      show(waiting.shift());
      return;
    }
    if (+range.value >= frames.length - 1) { stop(); return; }
    const before = frames[+range.value];
    range.value = +range.value + 1;
    output.textContent = notes[+range.value];
    waiting = unit.value === "step" ? [frames[+range.value]] : between(before, frames[+range.value], unit.value);
    show(waiting.shift());
  }
  function play() {
    if (timer) { stop(); return; }
    if (+range.value >= frames.length - 1) range.value = 0;
    settle();
    button.textContent = "Pause";
    timer = setInterval(advance, PLAY_MS[unit.value]);
  }
  button.addEventListener("click", play);
  range.addEventListener("input", () => { stop(); settle(); });
  unit.addEventListener("change", () => { if (timer) { stop(); play(); } });
  settle();
}

function start(root) {
  drawAll(root);
  for (const box of root.querySelectorAll("[data-playback]")) player(box);
}

// Move by key, unless a field is being typed in.
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const tag = event.target.tagName;
  if (tag === "INPUT" || tag === "TEXTAREA" || tag === "SELECT") return;
  const rel = { ArrowRight: "next", j: "next", ArrowLeft: "prev", k: "prev" }[event.key];
  if (rel) {
    const link = document.querySelector(`a[rel=${rel}]`);
    if (link) { event.preventDefault(); link.click(); }
  } else if (event.key === "/") {
    event.preventDefault();
    document.querySelector("header input[type=search]")?.focus();
  } else if (event.key === " " && tag !== "BUTTON" && tag !== "A" && tag !== "SUMMARY") {
    const button = document.querySelector("[data-play]");
    if (button) { event.preventDefault(); button.click(); }
  }
});

for (const form of document.querySelectorAll("form[data-autosubmit]")) {
  for (const select of form.querySelectorAll("select")) {
    select.addEventListener("change", () => {
      // another run has stages of its own: those of the run before are not asked for
      for (const name of (select.dataset.resets || "").split(" ")) {
        if (name && form.elements[name]) form.elements[name].disabled = true;
      }
      form.requestSubmit();
    });
  }
}

// A part of the page that is computed when it is asked for, such as the playback of an attempt.
for (const button of document.querySelectorAll("[data-fetch]")) {
  button.addEventListener("click", async () => {
    const place = document.getElementById(button.dataset.into);
    button.disabled = true;
    button.textContent = "Running ...";
    try {
      const answer = await fetch(button.dataset.fetch);
      place.innerHTML = await answer.text();
    } catch (error) {
      button.disabled = false;
      button.textContent = `No answer from the server (${error.message}): try again`;
      return;
    }
    start(place);
    place.querySelector("button, a")?.focus();
  });
}

// A part of the page that is made after it, and made again while its run goes on, but not with each of its records.
const loaded = new Map();
async function load(place) {
  if (!place || Date.now() - (loaded.get(place) || 0) < RELOAD_MS) return;
  loaded.set(place, Date.now());
  try {
    const answer = await fetch(place.dataset.load);
    if (answer.ok && !place.contains(document.activeElement)) place.innerHTML = await answer.text();
  } catch (error) {
    // what is there stays
  }
}
for (const place of document.querySelectorAll("[data-load]")) load(place);

// Replace a part of the page by what it is now. What was ticked stays ticked, and the focus where it was: a reload would
// forget both, and a link that was just followed.
async function renew(id) {
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(id);
  const old = document.getElementById(id);
  if (!fresh) return;
  if (!old) { location.reload(); return; }
  const ticked = new Set([...old.querySelectorAll("input:checked")].map((one) => one.value));
  for (const one of fresh.querySelectorAll("input")) one.checked = ticked.has(one.value);
  const focus = old.contains(document.activeElement) ? document.activeElement : null;
  old.replaceWith(fresh);
  if (focus) {
    const name = (one) => one.value || one.href;
    [...fresh.querySelectorAll("input, a")].find((one) => name(one) === name(focus))?.focus();
  }
}

// Fetch what is new of a page that can grow; the server answers 204 while nothing was recorded.
function live(box) {
  let version = box.dataset.version, cursor = box.dataset.cursor || "";
  async function look() {
    if (!document.hidden) {
      const address = new URL(box.dataset.live, location.href);
      address.searchParams.set("version", version);
      if (cursor) address.searchParams.set("cursor", cursor);
      try {
        const answer = await fetch(address);
        if (answer.status === 200) {
          const found = await answer.json();
          version = found.version;
          if (found.cursor) cursor = found.cursor;
          for (const [id, html] of Object.entries(found.replace || {})) {
            const place = document.getElementById(id);
            if (place && !place.contains(document.activeElement)) { place.innerHTML = html; start(place); }
          }
          for (const [id, html] of Object.entries(found.prepend || {})) {
            const place = document.getElementById(id);
            if (place) place.insertAdjacentHTML("afterbegin", html);
          }
          for (const id of found.load || []) load(document.getElementById(id));
          if (found.reload && box.dataset.reload) await renew(box.dataset.reload);
        }
      } catch (error) {
        // the server is gone for a moment, or for good: the next look shows which
      }
    }
    setTimeout(look, POLL_MS);
  }
  setTimeout(look, POLL_MS);
}
for (const box of document.querySelectorAll("[data-live]")) live(box);

start(document);
