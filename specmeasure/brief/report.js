"use strict";

// Tables: a click on a column's name sorts by it, another turns the order around.

const UNITS = { s: 1, ms: 1e-3, "µs": 1e-6, B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };
const NUMBER = /^([+−-]?)(\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)\s*(µs|ms|s|GiB|MiB|KiB|B)?(?![\dA-Za-zµ])/;

function valueOf(text) {
  if (text === "" || text === "–" || text.startsWith("not measured")) return null;
  const found = NUMBER.exec(text.replace(/^(A\/A|[<>≤≥]|under|below) ?/, ""));
  if (!found) return text;
  const number = Number(found[2].replaceAll(",", "")) * (UNITS[found[3]] ?? 1);
  return found[1] === "-" || found[1] === "−" ? -number : number;
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one).localeCompare(String(other), "en", { numeric: true });
}

function sortBy(header) {
  const table = header.closest("table");
  const body = table.tBodies[0];
  const column = header.cellIndex;
  const ascending = header.getAttribute("aria-sort") !== "ascending";
  const rows = [...body.rows].map((row) => [valueOf(row.cells[column].textContent.trim()), row]);
  const known = rows.filter(([value]) => value !== null);
  const unknown = rows.filter(([value]) => value === null);
  known.sort(([one], [other]) => (ascending ? 1 : -1) * compare(one, other));
  for (const [, row] of [...known, ...unknown]) body.append(row);
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}

// Answers token by token.

const KINDS = { a: "accepted", r: "recovered", b: "bonus", p: "plain", x: "rejected" };
const SAYINGS = {
  a: "accepted draft",
  r: "recovered: the target's, in place of a rejected draft",
  b: "bonus: the target's, after drafts that were all kept",
  p: "the target's own, in a pass without drafts",
};

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function chance(share) {
  if (share === null) return "not known";
  return share < 0.0001 ? "under 0.01 %" : `${Number((100 * share).toPrecision(3))} %`;
}

function shown(text) {
  return text === "" ? "…" : text.replaceAll("\n", "↵\n").replaceAll("\t", "⇥\t");
}

function tokenOf(text, kind, lines) {
  const label = kind === "x" ? shown(text).replaceAll("\n", "") : shown(text);
  const made = element("span", `token ${KINDS[kind]}`, label);
  made.tabIndex = -1;
  made.note = lines.join("\n");
  return made;
}

function chances(target, draft) {
  if (target === null && draft === null) return [];
  return [`target ${chance(target)}, draft ${chance(draft)}`];
}

function blockOf(block, number, start) {
  const [tokens, rejected, targetChance, draftChance, tree] = block;
  const kept = tokens.filter(([, kind]) => kind === "a").length;
  const numDrafts = kept + rejected.length;
  const isCut = kept === tokens.length; // the answer ended inside its accepted drafts
  const size = tree ? `a tree of ${tree[0]} nodes, depth ${tree[1]}` : "";
  const emitted = tokens.map(([text, kind, target, draft], place) => {
    const drafted = tree ? `depth ${place + 1} of ${size}` : `draft ${place + 1} of ${numDrafts}`;
    const at = kind === "a" ? drafted : `position ${place + 1}`;
    const where = `token ${start + place + 1}, block ${number}, ${at}`;
    return tokenOf(text, kind, [SAYINGS[kind], ...chances(target, draft), where]);
  });
  const struck = rejected.map((text, place) => {
    const judged = tree || (place === 0 && !isCut);
    const why = isCut ? "the answer ended before it" : "it stood behind a rejected one";
    const said = judged ? ["rejected draft"] : [`dropped draft: ${why}`];
    const known = judged && place === 0 ? chances(targetChance, draftChance) : [];
    const inTree = `sibling ${place + 1} of ${rejected.length}, in ${size}`;
    const at = tree ? inTree : `draft ${kept + place + 1} of ${numDrafts}`;
    return tokenOf(text, "x", [...said, ...known, `block ${number}, ${at}`]);
  });
  return [...emitted.slice(0, kept), ...struck, ...emitted.slice(kept)];
}

function startViewer(data) {
  const [prompts, arms] = ["prompt", "arm"].map((id) => document.getElementById(id));
  const [answer, tip, text] = ["answer", "tip", "text"].map((id) => document.getElementById(id));

  function show() {
    const trial = data[prompts.value].arms[arms.value];
    answer.replaceChildren();
    let start = 0;
    trial.blocks.forEach((block, index) => {
      if (index) answer.append(element("span", "edge", "|"));
      answer.append(...blockOf(block, index, start));
      start += block[0].length;
    });
    const first = answer.querySelector(".token");
    if (first) first.tabIndex = 0;
    hide();
  }

  function choosePrompt() {
    const prompt = data[prompts.value];
    const before = arms.selectedOptions[0]?.textContent ?? arms.dataset.first;
    arms.replaceChildren(
      ...prompt.arms.map(({ arm }, index) => {
        const option = element("option", "", arm);
        option.value = index;
        option.selected = arm === before;
        return option;
      }),
    );
    text.textContent = prompt.prompt ?? "not kept";
    show();
  }

  function explain(token) {
    tip.textContent = token.note;
    tip.hidden = false;
    const place = token.getClientRects()[0] ?? token.getBoundingClientRect();
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(8, Math.min(place.left, room))}px`;
    const above = place.top - tip.offsetHeight - 6;
    tip.style.top = `${above < 4 ? place.bottom + 6 : above}px`;
  }

  function hide() {
    tip.hidden = true;
  }

  function move(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step) return;
    event.preventDefault();
    const tokens = [...answer.querySelectorAll(".token")];
    const next = tokens[tokens.indexOf(document.activeElement) + step];
    if (!next) return;
    document.activeElement.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  const onToken = (does) => (event) => {
    const token = event.target.closest(".token");
    if (token) does(token);
  };
  answer.addEventListener("mouseover", onToken(explain));
  answer.addEventListener("focusin", onToken(explain));
  answer.addEventListener("mouseout", hide);
  answer.addEventListener("focusout", hide);
  answer.addEventListener("keydown", move);
  document.addEventListener("scroll", hide, { passive: true });

  prompts.replaceChildren(
    ...data.map(({ name }, index) => {
      const option = element("option", "", name);
      option.value = index;
      return option;
    }),
  );
  prompts.addEventListener("change", choosePrompt);
  arms.addEventListener("change", show);
  choosePrompt();
}

const kept = document.getElementById("trials");
if (kept) startViewer(JSON.parse(kept.textContent));
