// All rows stand in the page. This hides, sorts and counts them; nothing else depends on it.
(() => {
  "use strict";
  const $ = id => document.getElementById(id);
  document.documentElement.classList.add("js");

  const copied = async (button, text) => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };
  if (navigator.clipboard) {
    for (const button of document.querySelectorAll(".copy")) {
      button.hidden = false;
      button.addEventListener("click", () => copied(button, button.previousElementSibling.textContent).catch(() => { button.hidden = true; }));
    }
  }

  const table = $("rows"), form = $("controls");
  if (!table) return;
  const state = 0, repository = 1, signer = 5, none = "\u2013", chunk = 50;
  const rows = [], ranks = [], heads = [...table.tHead.rows[0].cells];
  const collator = new Intl.Collator("en", { numeric: true });
  let column = state, descending = false, order = rows;

  // Each row by the words in it: read once, and only when the page has been painted.
  const read = () => {
    for (const body of table.tBodies) {
      for (const tr of body.rows) {
        const cells = Array.from(tr.cells, td => td.textContent.trim());
        rows.push({ tr, cells, state: tr.className, at: rows.length, text: cells.join("\n").toLowerCase() });
      }
    }
  };

  const options = (select, value, label) => {
    const count = new Map();
    for (const row of rows) count.set(value(row), (count.get(value(row)) || 0) + 1);
    const all = label ? [...count.keys()] : [...count.keys()].sort(collator.compare);
    for (const v of all) {
      if (v === none) continue;
      const option = document.createElement("option");
      option.value = v;
      option.textContent = `${v} (${count.get(v).toLocaleString("en")})`;
      select.append(option);
    }
  };

  const sorted = () => {
    if (column === state) {
      order = descending ? [...rows].reverse() : rows;
      return;
    }
    // Values repeat: they are compared once each, and rows then by number.
    if (!ranks[column]) {
      const plain = column === 3 || column === 4 || column >= 7 && column <= 9;  // digests and dates: by their characters
      const values = [...new Set(rows.map(row => row.cells[column]))];
      ranks[column] = new Map((plain ? values.sort() : values.sort(collator.compare)).map((v, i) => [v, i]));
    }
    const rank = ranks[column], direction = descending ? -1 : 1;
    order = [...rows].sort((a, b) => {
      const x = a.cells[column], y = b.cells[column];
      if ((x === none) !== (y === none)) return x === none ? 1 : -1;  // nothing comes last, whichever way
      return direction * (rank.get(x) - rank.get(y)) || a.at - b.at;
    });
  };

  const show = () => {
    const words = $("q").value.toLowerCase().split(/\s+/).map(w => w.replace(/^@?sha256:/, "")).filter(Boolean);
    const s = $("state").value, r = $("repository").value, k = $("signer").value;
    const matching = order.filter(row => (!s || row.state === s) && (!r || row.cells[repository] === r) &&
      (!k || row.cells[signer] === k) && words.every(w => row.text.includes(w)));
    const bodies = [];
    for (let i = 0; i < matching.length; i += chunk) {
      const body = document.createElement("tbody"), part = matching.slice(i, i + chunk);
      if (part.length === chunk) body.className = "full";
      body.append(...part.map(row => row.tr));
      bodies.push(body);
    }
    for (const body of [...table.tBodies]) body.remove();
    table.append(...bodies);
    const n = matching.length.toLocaleString("en"), of = rows.length.toLocaleString("en");
    $("shown").textContent = matching.length === rows.length ? `${of} signature${rows.length === 1 ? "" : "s"}` :
      `${n} of ${of} signatures${matching.length ? "" : ": nothing fits"}`;
  };

  const sortBy = i => {
    descending = column === i && !descending;
    column = i;
    heads.forEach((th, j) => j === i ? th.setAttribute("aria-sort", descending ? "descending" : "ascending") : th.removeAttribute("aria-sort"));
    sorted();
    show();
  };

  const begin = () => {
    read();
    options($("state"), row => row.state, true);
    options($("repository"), row => row.cells[repository]);
    options($("signer"), row => row.cells[signer]);
    heads.forEach((th, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = th.textContent;
      button.addEventListener("click", () => sortBy(i));
      th.replaceChildren(button);
    });
    form.addEventListener("input", show);
    form.addEventListener("submit", event => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(show));
    form.hidden = false;
    if ($("q").value || form.querySelector("option:checked:not([value=''])")) show();
    document.documentElement.classList.add("ready");
  };
  requestAnimationFrame(() => setTimeout(begin));
})();
