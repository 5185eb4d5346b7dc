// What stays as it is: pointing and the arrival of a tile touch only what shows them.
import { options } from "preact";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import { cellAt, endAll, model, show, type Shown, styled, telling } from "./attention.ts";

const WORDS = ["the", "␣cat", "␣sat", "␣on", "␣the", "␣cat"];
const T = WORDS.length;

beforeAll(styled);
beforeEach(() => page.viewport(1200, 1000));
afterEach(() => {
  endAll();
  delete options.vnode;
});

/** The elements that are drawn from now on, whether they change or not. */
function drawn(): Set<string> {
  const seen = new Set<string>();
  options.vnode = ({ type }) => typeof type === "string" && seen.add(type);
  return seen;
}

/** Let the pointer rest where nothing follows it, until the page rests too. */
async function away(shown: Shown) {
  await userEvent.hover(shown.one(".iw-title"));
  await expect.poll(() => shown.text(".iw-caption")).toContain("hover or click another");
  for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
}

/** Where in the view the page changes from now on: the nearest class of ours. */
function changes(el: HTMLElement): Set<string> {
  const seen = new Set<string>();
  const watch = new MutationObserver((records) => {
    for (const { target, type, oldValue } of records) {
      if (type === "characterData" && target.textContent === oldValue) continue; // Preact writes 0 and "" again
      const element = target instanceof Element ? target : target.parentElement;
      const part = element?.closest(".iw-strip, .iw-status, .iw-over, .iw-axis, .iw-heads, .iw-matrix");
      seen.add(part?.classList[0] ?? "elsewhere");
    }
  });
  watch.observe(el, {
    subtree: true,
    childList: true,
    characterData: true,
    characterDataOldValue: true,
    attributes: true,
  });
  return seen;
}

test("pointing at a weight changes the strip, the status and the marks, and nothing else", async () => {
  const shown = await show(model([{ tokens: WORDS }]));
  await expect.poll(() => shown.text(".iw-tokens")).toContain("␣sat");
  await away(shown);
  const [seen, elements] = [changes(shown.el), drawn()];
  await userEvent.hover(shown.canvas(), { position: cellAt(shown.canvas(), 3, 1, T) });
  await expect.poll(() => shown.text(".iw-status")).toContain(telling(0, 0, 3, 1).toFixed(4));
  await expect.poll(() => [...seen].sort()).toEqual(["iw-axis", "iw-over", "iw-status", "iw-strip"]);
  for (const element of ["canvas", "select", "input", "section"]) expect(elements).not.toContain(element);
});

test("tokens are coloured by weights and marked where the pointer is, then no more", async () => {
  const shown = await show(model([{ tokens: WORDS }], { colour_range: [0, 1] }));
  const span = (i: number) => shown.all(".iw-tokens span")[i]!;
  const at = (name: string) => shown.all(".iw-tokens span").flatMap((each, i) => (each.matches(name) ? [i] : []));
  await expect.poll(() => span(5).style.background).not.toBe("");
  await userEvent.hover(shown.canvas(), { position: cellAt(shown.canvas(), 3, 1, T) });
  await expect.poll(() => [at(".iw-active"), at(".iw-marked")]).toEqual([[3], [1]]);
  const before = span(1).style.background;
  await userEvent.hover(shown.canvas(), { position: cellAt(shown.canvas(), 4, 2, T) });
  await expect.poll(() => [at(".iw-active"), at(".iw-marked")]).toEqual([[4], [2]]);
  expect(span(1).style.background).not.toBe(before);
  await userEvent.hover(shown.one(".iw-title"));
  await expect.poll(() => [at(".iw-active"), at(".iw-marked")]).toEqual([[5], []]);
});

test("a tile is drawn by those who asked for it, and by nobody else", async () => {
  const fake = model([{ tokens: WORDS }]);
  const shown = await show(fake);
  await expect.poll(() => shown.text(".iw-tokens")).toContain("␣sat");
  await away(shown);
  const seen = changes(shown.el);
  const elements = drawn();
  fake.answer([JSON.stringify({ what: "scores", prompt: 0, minus: -1, name: "mine" })]); // another view's
  await new Promise((done) => setTimeout(done, 50));
  expect([...seen, ...elements]).toEqual([]);
  fake.answering = false;
  fake.change("head", 1);
  await expect.poll(() => fake.asked.length).toBe(2);
  await new Promise((done) => setTimeout(done, 50));
  seen.clear();
  elements.clear();
  fake.answer(fake.asked[1]!); // the weights of that head
  await expect.poll(() => [...seen].sort()).toEqual(["iw-matrix", "iw-strip"]);
  for (const element of ["select", "input", "section"]) expect(elements).not.toContain(element);
});

test("tokens keep their colours for a moment while the weights of another query come", async () => {
  const words = Array.from({ length: 600 }, (_, i) => `w${i}`); // several bands of rows
  const fake = model([{ tokens: words }], { colour_range: [0, 1] });
  const shown = await show(fake);
  const coloured = () => shown.all(".iw-tokens span").filter((span) => span.style.background).length;
  await expect.poll(coloured).toBeGreaterThan(0);
  await away(shown);
  fake.answering = false;
  const asked = fake.asked.length;
  const of = shown.text(".iw-caption");
  await userEvent.hover(shown.canvas(), { position: cellAt(shown.canvas(), 200, 10, 600) }); // in another band
  await expect.poll(() => fake.asked.length).toBeGreaterThan(asked);
  expect(shown.text(".iw-caption")).toBe(of); // what is coloured is what the caption says
  expect(coloured()).toBeGreaterThan(0);
  await expect.poll(() => shown.text(".iw-caption")).toContain("w2"); // it takes too long: nothing rather than the old
  expect(shown.text(".iw-strongest")).toContain("…");
  expect(coloured()).toBe(0);
});
