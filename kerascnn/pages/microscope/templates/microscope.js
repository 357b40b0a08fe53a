"use strict";
(() => {
  const root = document.body.dataset.root, site = window.SITE;
  const key = `kerascnn-microscope:${site.network}`;
  const name = unit => String(unit).padStart(4, "0");
  const addressOf = (layer, unit) => `${root}units/${layer}/${name(unit)}.html`;

  // Labels: those of the build, and those that this browser keeps
  function kept() {
    try { return JSON.parse(localStorage.getItem(key)) || {}; } catch { return {}; }
  }
  function labels() {
    const all = new Map(site.labels.map(([layer, unit, label, note]) => [`${layer}/${unit}`, [layer, unit, label, note]]));
    for (const [id, row] of Object.entries(kept())) all.set(id, row);
    return [...all.values()].filter(row => row[2] || row[3]);
  }
  const quoted = text => /[",\r\n]/.test(text) ? `"${String(text).replaceAll('"', '""')}"` : String(text);
  function csv() {
    return ["layer,unit,label,note", ...labels().map(row => row.map(quoted).join(","))].join("\n") + "\n";
  }
  function offer() {
    for (const link of document.querySelectorAll("a.csv"))
      link.href = `data:text/csv;charset=utf-8,${encodeURIComponent(csv())}`;
  }
  const form = document.querySelector("form.label");
  if (form) {
    const { layer, unit } = form.dataset, id = `${layer}/${unit}`, own = kept()[id];
    if (own) { form.elements.label.value = own[2]; form.elements.note.value = own[3]; }
    form.addEventListener("submit", event => {
      event.preventDefault();
      const all = kept();
      all[id] = [layer, Number(unit), form.elements.label.value.trim(), form.elements.note.value.trim()];
      try {
        localStorage.setItem(key, JSON.stringify(all));
        form.querySelector("output").textContent = "kept";
      } catch { form.querySelector("output").textContent = "this browser does not keep anything"; }
      offer();
    });
  }
  offer();

  // Units to compare: kept by the browser, and named in the address of compare.html
  const listed = `${key}:compare`;
  const known = new Map(site.layers.map(([layer, title, preferred]) => [layer, { title, units: preferred.length }]));
  const isUnit = id => {
    const [layer, unit] = id.split("/");
    return /^\d+$/.test(unit || "") && known.has(layer) && Number(unit) < known.get(layer).units;
  };
  function chosen() {
    try { return (JSON.parse(localStorage.getItem(listed)) || []).filter(isUnit); } catch { return []; }
  }
  function choose(ids) {
    try { localStorage.setItem(listed, JSON.stringify(ids)); } catch { /* this browser does not keep anything */ }
  }
  const asAddress = ids => ids.length ? `#units=${ids.map(id => id.split("/").map(encodeURIComponent).join("/")).join(",")}` : "";
  function count(ids = chosen()) {
    const link = document.querySelector("a.compare"), button = document.querySelector("button.compare");
    link.textContent = ids.length ? `Compare (${ids.length})` : "Compare";
    link.href = `${root}compare.html${asAddress(ids)}`;
    if (button) {
      const on = ids.includes(`${button.dataset.layer}/${button.dataset.unit}`);
      button.setAttribute("aria-pressed", on);
      button.textContent = on ? "Compared" : "Compare";
    }
  }
  document.querySelector("button.compare")?.addEventListener("click", event => {
    const { layer, unit } = event.target.dataset, id = `${layer}/${unit}`, ids = chosen();
    choose(ids.includes(id) ? ids.filter(other => other !== id) : [...ids, id]);
    count();
  });
  window.addEventListener("pageshow", () => count());
  count();

  const loaded = new Map();
  function unitsOf(layer) {
    if (!loaded.has(layer)) loaded.set(layer, new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = `${root}layers/${encodeURIComponent(layer)}.js`;
      script.onload = () => done(window.UNITS[layer]);
      script.onerror = failed;
      document.head.append(script);
    }));
    return loaded.get(layer);
  }
  const short = value => value === null ? "-" : String(Number(Number(value).toPrecision(4)));
  function made(tag, text, attributes = {}) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    for (const [field, value] of Object.entries(attributes)) element.setAttribute(field, value);
    return element;
  }
  function card(id, all, row, removed) {
    const [layer, unit] = id.split("/"), item = made("li"), name = `${known.get(layer).title} ${unit}`;
    const link = made("a", undefined, { href: addressOf(layer, unit) }), tile = made("span");
    tile.style.cssText = `--columns:${all.columns};--x:${unit % all.columns};--y:${Math.floor(unit / all.columns)};background-image:url("${root}layers/${encodeURIComponent(layer)}.webp")`;
    const label = labels().find(([one, other]) => one === layer && other === Number(unit));
    link.append(tile, made("b", name), ...(label ? [" ", made("em", label[2] || label[3])] : []));
    item.append(link);
    if (row.feature) item.append(made("img", undefined, { src: `${root}units/${encodeURIComponent(layer)}/${row.feature}`, alt: `An image made for ${name}` }));
    const facts = made("dl");
    for (const [term, value] of [["mean", short(row.mean)], ["largest", short(row.max)], ["exactly 0", `${(100 * row.zeros).toFixed(1)}%`], ["selectivity", short(row.index)]])
      facts.append(made("dt", term), made("dd", value));
    item.append(facts);
    if (row.classes.length) {
      const table = made("table", undefined, { class: "profile" }), body = made("tbody"), most = Math.max(...row.classes.map(each => each[1]));
      for (const [label_, mean] of row.classes) {
        const line = made("tr"), cell = made("td", site.classes[label_]);
        cell.style.setProperty("--p", `${most > 0 && mean > 0 ? 100 * mean / most : 0}%`);
        line.append(cell, made("td", short(mean)));
        body.append(line);
      }
      table.append(body);
      item.append(table);
    }
    const button = made("button", "Remove", { type: "button", "aria-label": `Remove ${name}` });
    button.addEventListener("click", removed);
    item.append(button);
    return item;
  }
  const board = document.getElementById("compared");
  if (board) {
    const clear = document.getElementById("compared-clear");
    const asked = () => (new URLSearchParams(location.hash.slice(1)).get("units") || "").split(",").filter(Boolean);
    let turn = 0;
    const change = ids => { choose(ids); history.replaceState(null, "", location.pathname + location.search + asAddress(ids)); draw(); };
    async function draw() {
      const mine = ++turn, ids = asked();
      const cards = await Promise.all(ids.map(async id => {
        const keep = () => change(asked().filter(other => other !== id));
        if (!isUnit(id)) return made("li", `There is no unit ${id} in this site.`);
        const all = await unitsOf(id.split("/")[0]);
        return card(id, all, all.units[Number(id.split("/")[1])], keep);
      }));
      if (mine !== turn) return;
      board.replaceChildren(...cards);
      document.getElementById("compared-none").hidden = ids.length > 0;
      clear.hidden = !ids.length;
      count(ids.filter(isUnit));
    }
    clear.addEventListener("click", () => change([]));
    window.addEventListener("hashchange", draw);
    if (!location.hash && chosen().length) history.replaceState(null, "", asAddress(chosen()));
    draw();
  }

  // An address without a page
  const missing = document.getElementById("missing"), place = location.pathname.match(/\/(units|layers)\/([^/]+?)(?:\.html)?(?:\/(\d+)\.html)?$/);
  if (missing && place) {
    const layer = decodeURIComponent(place[2]), found = known.get(layer);
    missing.textContent = !found ? `This site has no layer ${layer}; it has ${[...known.keys()].join(", ")}.`
      : `Layer ${found.title} has no unit ${Number(place[3])}; it has the units 0 to ${found.units - 1}.`;
  }

  // Search
  const box = document.getElementById("find"), list = document.getElementById("found");
  function hits(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return [];
    const found = [], most = 40, all = string => words.every(word => string.toLowerCase().includes(word));
    for (const [layer, unit, label, note] of labels())
      if (all(`${label} ${note} ${layer} ${unit}`)) found.push([`${layer} ${unit}: ${label || note}`, addressOf(layer, unit)]);
    site.classes.forEach((string, number) => {
      if (all(string)) found.push([`class ${string}`, `${root}classes/${name(number)}.html`]);
    });
    const digits = words.filter(word => /^\d+$/.test(word)), rest = words.filter(word => !/^\d+$/.test(word));
    for (const [layer, title, preferred] of site.layers) {
      if (all(title)) found.push([`layer ${title}`, `${root}layers/${layer}.html`]);
      const unit = Number(digits[digits.length - 1]);
      if (digits.length && unit < preferred.length && rest.every(word => title.toLowerCase().includes(word)))
        found.push([`${title} unit ${unit}`, addressOf(layer, unit)]);
    }
    for (const [layer, title, preferred] of site.layers)
      for (let unit = 0; unit < preferred.length && found.length < most; unit++)
        if (preferred[unit] >= 0 && all(site.classes[preferred[unit]]))
          found.push([`${title} unit ${unit}, largest for ${site.classes[preferred[unit]]}`, addressOf(layer, unit)]);
    return found.slice(0, most);
  }
  function show() {
    const found = hits(box.value);
    list.replaceChildren(...found.map(([text, href]) => {
      const item = document.createElement("li"), link = document.createElement("a");
      link.textContent = text;
      link.href = href;
      item.append(link);
      return item;
    }));
    if (!found.length && box.value.trim()) list.textContent = "Nothing found.";
    list.hidden = !box.value.trim();
  }
  box.addEventListener("input", show);
  box.addEventListener("keydown", event => {
    const first = list.querySelector("a");
    if (event.key === "Enter" && first) location.href = first.href;
    if (event.key === "ArrowDown" && first) { event.preventDefault(); first.focus(); }
    if (event.key === "Escape") { box.value = ""; show(); }
  });
  list.addEventListener("keydown", event => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = document.activeElement.parentElement[step];
    (next ? next.firstChild : box).focus();
  });
  document.addEventListener("keydown", event => {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") { event.preventDefault(); box.focus(); }
    const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
    const link = rel && document.querySelector(`nav a[rel=${rel}]`);
    if (link) location.href = link.href;
  });

  // Sort and filter a layer's units; the address keeps the choice
  const sift = document.querySelector("form.sift");
  if (sift) {
    const grid = document.querySelector(".grid"), items = [...grid.children];
    const mine = new Set(labels().filter(([layer]) => location.pathname.endsWith(`/${layer}.html`)).map(row => row[1]));
    function apply() {
      const { sort, show, text } = sift.elements;
      const by = sort.value, wanted = text.value.toLowerCase().trim();
      const value = item => item.dataset[by] === undefined ? -Infinity : Number(item.dataset[by]);
      const order = [...items].sort((a, b) => by === "unit" ? value(a) - value(b) : value(b) - value(a) || a.dataset.unit - b.dataset.unit);
      let count = 0;
      for (const item of order) {
        const dead = item.classList.contains("dead"), labelled = item.querySelector("em") || mine.has(Number(item.dataset.unit));
        const kind = { all: true, alive: !dead, dead, labelled }[show.value];
        item.hidden = !(kind && item.textContent.toLowerCase().includes(wanted));
        count += !item.hidden;
      }
      grid.append(...order);
      sift.querySelector("output").textContent = `${count} of ${items.length}`;
    }
    function read() {
      const asked = new URLSearchParams(location.hash.slice(1));
      sift.elements.sort.value = asked.get("sort") || "unit";
      sift.elements.show.value = asked.get("show") || "all";
      sift.elements.text.value = asked.get("text") || "";
      apply();
    }
    function write() {
      const asked = new URLSearchParams();
      for (const [field, usual] of [["sort", "unit"], ["show", "all"], ["text", ""]])
        if (sift.elements[field].value !== usual) asked.set(field, sift.elements[field].value);
      location.hash = asked.toString();
      apply();
    }
    sift.addEventListener("change", write);
    sift.elements.text.addEventListener("input", apply);
    sift.addEventListener("submit", event => { event.preventDefault(); write(); });
    window.addEventListener("hashchange", read);
    read();
  }
})();
