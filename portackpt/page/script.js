"use strict";
(() => {
  const STEP = 300; // rows that are drawn at once, of perhaps 100,000
  const { fates, texts, rows } = JSON.parse(document.getElementById("rows").textContent);
  const at = (id) => document.getElementById(id);
  const [query, form, found, more] = [at("query"), at("filter"), at("found"), at("more")];
  const body = at("list").tBodies[0];
  const targetOf = (row) => (row[1] === true ? row[0] : row[1]);

  const spoken = rows.map(() => null);
  const words = (index) => {
    const row = rows[index];
    spoken[index] ??= [row[0], targetOf(row), texts[row[3]], texts[row[4]], texts[row[5]]]
      .join("\n")
      .toLowerCase();
    return spoken[index];
  };

  const element = (name, content, kind) => {
    const made = document.createElement(name);
    made.textContent = content;
    if (kind) made.className = kind;
    return made;
  };

  const size = (nbytes) => {
    const units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let unit = 0;
    while (nbytes >= 999.5 && unit < 5) [nbytes, unit] = [nbytes / 1000, unit + 1];
    return `${unit ? Number(nbytes.toPrecision(3)) : nbytes} ${units[unit]}`;
  };

  const number = (amount) => amount.toLocaleString("en");

  const leaf = (row) => {
    const [source, target] = [row[0], targetOf(row)];
    const paths = source === target ? [source] : [source, target].filter((path) => path !== null);
    const cell = document.createElement("td");
    for (const path of paths) cell.append(element("code", path || "(root)"));
    return cell;
  };

  const account = (row) => {
    const cell = document.createElement("td");
    const done = [texts[row[3]], row[6] === null ? "" : `within ${row[6]}`].filter(Boolean);
    if (done.length) cell.append(element("div", done.join("; ")));
    if (row[4]) cell.append(element("div", texts[row[4]], "told"));
    if (row[5]) cell.append(element("div", `assumed: ${texts[row[5]]}`, "facts"));
    return cell;
  };

  const draw = (row) => {
    const line = document.createElement("tr");
    const fate = document.createElement("td");
    fate.append(element("span", fates[row[2]], `fate ${fates[row[2]]}`));
    line.append(fate, leaf(row), account(row));
    line.append(element("td", row[7] ? size(row[7]) : "", "number"));
    return line;
  };

  let hits = [];
  let shown = 0;
  const grow = () => {
    const part = document.createDocumentFragment();
    for (const index of hits.slice(shown, shown + STEP)) part.append(draw(rows[index]));
    body.append(part);
    shown = Math.min(shown + STEP, hits.length);
    more.hidden = shown === hits.length;
    const first = shown < hits.length ? `, the first ${number(shown)} below` : "";
    found.textContent = `${number(hits.length)} of ${number(rows.length)}${first}`;
  };

  const filter = () => {
    const wanted = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kind = form.elements.fate.value;
    const fate = fates.indexOf(kind);
    hits = [];
    for (let index = 0; index < rows.length; index++) {
      if (kind === "changes" ? !rows[index][4] : kind && rows[index][2] !== fate) continue;
      if (wanted.every((word) => words(index).includes(word))) hits.push(index);
    }
    body.replaceChildren();
    shown = 0;
    grow();
  };

  let waiting = 0;
  query.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 80);
  });
  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", grow);

  for (const button of document.querySelectorAll("button.find")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      query.value = button.dataset.find;
      form.elements.fate.value = "";
      filter();
      at("leaves").scrollIntoView();
      query.focus({ preventScroll: true });
    });
  }

  const copy = at("copy");
  if (copy) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      const program = at("program");
      try {
        await navigator.clipboard.writeText(program.textContent);
      } catch {
        getSelection().selectAllChildren(program); // the old way, where the new one is not allowed
        document.execCommand("copy");
      }
      at("copied").textContent = "Copied.";
    });
  }

  form.hidden = false;
  filter();
})();
