// The board: asks for its data every few seconds, and draws it. Whatever learners sent is text, never markup.

const EVERY = 3000; // milliseconds
const key = location.hash.slice(1);
const $ = (id) => document.getElementById(id);

/** An element with attributes and children; a string child is text. */
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const ask = (path) => fetch(path, { headers: { Authorization: `Bearer ${key}` }, cache: "no-store" });
const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;
const readable = (name) => name.replaceAll("_", " ");

/** How long ago that was. */
function age(seconds) {
  const minutes = Math.max(0, Math.round((Date.now() / 1000 - seconds) / 60));
  return minutes < 1 ? "0 min" : minutes < 120 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

/** Module, number within the module as the columns show it, and the rest of the name. */
function numbered(exercises) {
  const counts = new Map();
  return exercises.map((exercise) => {
    const [module, ...rest] = exercise.name.split(".");
    counts.set(module, (counts.get(module) ?? 0) + 1);
    return { ...exercise, module: readable(module), number: counts.get(module), title: readable(rest.join(".")) };
  });
}

const since = (one) => (one.left ? "then went on" : `for ${age(one.since)}`);

function drawStuck(stuck) {
  const lines = stuck.map((one) =>
    h(
      "li",
      {},
      h("b", {}, one.learner),
      h("span", {}, readable(one.exercise).replace(".", " · ")),
      h("span", { class: "muted" }, `${plural(one.tries, "try", "tries")}, ${plural(one.hints, "hint")}, ${since(one)}`),
      h("i", {}, one.misconceptions.at(-1) ?? ""),
    ),
  );
  $("stuck").replaceChildren(...(lines.length ? lines : [h("li", { class: "muted" }, "Nobody.")]));
}

function drawExercises(exercises) {
  const rows = exercises.map((each) => {
    const share = each.tried ? each.passed / each.tried : 0;
    const bar = h("span", { class: "bar", "aria-hidden": "true" }, h("span"));
    bar.firstChild.style.width = `${100 * share}%`;
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, h("span", { class: "muted" }, `${each.module} ${each.number} `), each.title),
      h("td", {}, bar, `${Math.round(100 * share)} %`, h("span", { class: "muted" }, ` ${each.passed} of ${each.tried}`)),
      h("td", {}, each.median_tries === null ? "–" : plural(each.median_tries, "try", "tries")),
      h(
        "td",
        {},
        each.misconception || "–",
        h("span", { class: "muted" }, each.misconception ? ` ${plural(each.misconception_learners, "learner")}` : ""),
      ),
    );
  });
  const nothing = h("tr", {}, h("td", { colspan: "4", class: "muted" }, "Nobody has tried one yet."));
  $("exercises").tBodies[0].replaceChildren(...(rows.length ? rows : [nothing]));
}

const MARKS = { passed: () => "✓", tried: (cell) => cell.tries, stuck: (cell) => cell.tries, opened: () => "·" };

function told(cell) {
  const said = [cell.state, plural(cell.tries, "try", "tries"), plural(cell.hints, "hint")];
  if (cell.solution) said.push("solution opened");
  return [...said, ...cell.misconceptions].join(", ");
}

function drawEverybody(learners, exercises) {
  const modules = [...new Set(exercises.map((each) => each.module))];
  const width = (module) => exercises.filter((each) => each.module === module).length;
  const head = h(
    "thead",
    {},
    h(
      "tr",
      {},
      h("th", { rowspan: "2", scope: "col" }, "Learner, last seen"),
      ...modules.map((module) => h("th", { colspan: width(module), scope: "colgroup", class: "first" }, module)),
    ),
    h(
      "tr",
      {},
      ...exercises.map((each) =>
        h("th", { scope: "col", title: each.title, class: each.number === 1 ? "first" : "" }, `${each.number}`),
      ),
    ),
  );
  const body = h("tbody");
  for (const learner of learners) {
    const seen = learner.seen === null ? "" : age(learner.seen);
    const row = h("tr", {}, h("th", { scope: "row" }, learner.name, h("span", { class: "muted" }, seen)));
    for (const exercise of exercises) {
      const cell = learner.cells[exercise.name];
      const place = h("td", { class: exercise.number === 1 ? "first" : "" });
      if (cell) {
        const what = `${learner.name}, ${exercise.title}: ${told(cell)}`;
        place.append(
          h("span", { class: `cell ${cell.state}`, role: "img", title: what, "aria-label": what }, `${MARKS[cell.state](cell)}`),
        );
      }
      row.append(place);
    }
    body.append(row);
  }
  $("everybody").replaceChildren(head, body);
}

function draw(board) {
  const exercises = numbered(board.exercises);
  const recent = board.learners.filter((one) => one.seen && Date.now() / 1000 - one.seen < 600).length;
  $("code").textContent = board.code;
  $("count").textContent = `${plural(board.learners.length, "learner")}, ${recent} active in the last 10 minutes`;
  drawStuck(board.stuck);
  drawExercises(exercises);
  drawEverybody(board.learners, exercises);
}

async function refresh() {
  try {
    const answer = await ask("api/board");
    if (!answer.ok) throw new Error((await answer.json()).error);
    draw(await answer.json());
    $("state").textContent = "";
  } catch (error) {
    const reached = !(error instanceof TypeError); // what fetch throws where nobody answers
    $("state").textContent = reached ? error.message : "The workshop is not reached; what you see is the last that was.";
  }
  setTimeout(refresh, document.hidden ? 4 * EVERY : EVERY);
}

$("csv").addEventListener("click", async () => {
  try {
    const answer = await ask("api/events.csv");
    if (!answer.ok) throw new Error((await answer.json()).error);
    const url = URL.createObjectURL(await answer.blob());
    h("a", { href: url, download: "workshop.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  } catch (error) {
    $("state").textContent = `Not saved: ${error.message}`;
  }
});

refresh();
