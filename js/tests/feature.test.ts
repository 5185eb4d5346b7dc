// Features: one as a portrait, a million as a table, and what the reader tries and writes.
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import feature from "../views/feature.tsx";
import { endAll, rgb, show, styled } from "./text.ts";
import { jsonTile } from "./fake.ts";
import { HOSTILE, model, record, type Written } from "./feature.ts";

beforeAll(styled);
beforeEach(() => page.viewport(1300, 1200));
afterEach(endAll);

type Shown = Awaited<ReturnType<typeof show>>;
const open = (fake: ReturnType<typeof model>, width = 1200) => show(feature, fake, width);
const indices = (shown: Shown) => shown.all(".iw-rows-row > span:first-child").map((cell) => Number(cell.textContent.replace("★", ""))); // prettier-ignore
const button = (shown: Shown, name: string) => shown.all("button").find((each) => each.textContent === name)!;
const lines = (shown: Shown) => shown.all(".iw-kwic");
const tokens = (line: HTMLElement) => [...line.querySelectorAll<HTMLElement>("[data-token]")];

test("a feature is its numbers, its logits, and those that are near", async () => {
  const shown = await open(model(100));
  await expect.poll(() => shown.text(".iw-facts")).toBe("active at 43 of 4,000 tokens (1 %), max 8, mean where active 2.5"); // prettier-ignore
  const logits = shown.all(".iw-logits tbody tr").map((row) => row.textContent);
  expect(logits).toEqual(["cat0.5", "dog0.25", "owl−1", "bee−0.5"]);
  const bars = shown.all(".iw-logits .iw-bar i").map((bar) => bar.style.width);
  expect(bars).toEqual(["50%", "25%", "100%", "50%"]);
  await expect.poll(() => shown.all(".iw-others .iw-go").map((each) => each.textContent)).toEqual(["80.75f8 → cat", "120.125f12 → cat"]); // prettier-ignore
  expect(shown.all(".iw-band")).toHaveLength(2); // a quantile group each
});

test("examples stand below each other by the token they are of, on its activation's colour", async () => {
  const shown = await open(model(100));
  await expect.poll(() => lines(shown).length).toBe(33);
  const peaks = lines(shown).map((line) => line.querySelector<HTMLElement>(".iw-peak")!);
  expect(peaks.map((peak) => peak.textContent)).toEqual(Array<string>(33).fill("f3"));
  const lefts = peaks.map((peak) => Math.round(peak.getBoundingClientRect().left));
  expect(new Set(lefts).size).toBe(1);
  expect(getComputedStyle(peaks[0]!).backgroundColor).toBe(rgb("light", 1));
  expect(getComputedStyle(tokens(lines(shown)[0]!)[1]!).backgroundColor).toBe(rgb("light", 0.5));
  const titles = shown.all(".iw-examples h4").map((title) => title.textContent);
  expect(titles).toEqual([
    "The 2 strongest, each of another context", "50–100 % of activations, 4 to 8: 1 of 10 at random", "0–50 % of activations, 1 to 2: 30 of about 30 at random",
  ]); // prettier-ignore
});

test("a token says its activation, and a click keeps it", async () => {
  const fake = model(100);
  const shown = await open(fake);
  await expect.poll(() => lines(shown).length).toBe(33);
  await userEvent.hover(tokens(lines(shown)[1]!)[2]!);
  await expect.poll(() => shown.text(".iw-where")).toBe("f35 activation 7.0000 token 5 of context 1");
  await userEvent.hover(tokens(lines(shown)[1]!)[1]!);
  await expect.poll(() => shown.text(".iw-where")).toContain("activation ≈ 3.5 ± 3 %");
  await userEvent.click(tokens(lines(shown)[2]!)[3]!);
  expect(fake.saved.example).toEqual([3, 1, 0, 6]);
  expect(shown.one(".iw-examples .iw-active").textContent).toBe("sat");
  shown.one(".iw-examples").focus();
  await userEvent.keyboard("{ArrowDown}");
  expect(fake.saved.example).toEqual([3, 2, 0, 5]);
  await userEvent.keyboard("{ArrowRight}{ArrowRight}");
  expect(fake.saved.example).toEqual([3, 2, 0, 7]);
  fake.change("feature", 4); // it was of another
  await expect.poll(() => shown.text("h3")).toBe("Feature 4");
  expect(shown.all(".iw-examples .iw-active")).toEqual([]);
});

test("a feature is asked for while its number is written, and shown once it is entered", async () => {
  const fake = model(1000);
  const shown = await open(fake);
  const number = shown.one<HTMLInputElement>("input[type=number]");
  await userEvent.fill(number, "512");
  const wanted = () => fake.asked.flat().some((key) => key.includes('"record"') && key.includes("512"));
  await expect.poll(wanted).toBe(true);
  expect([fake.saved.feature, shown.text("h3")]).toEqual([undefined, "Feature 3"]);
  await userEvent.keyboard("{Enter}");
  await expect.poll(() => shown.text("h3")).toBe("Feature 512");
});

test("the weakest examples are a click away, also by the histogram", async () => {
  const shown = await open(model(100));
  await expect.poll(() => lines(shown).length).toBe(33);
  const box = shown.one(".iw-examples");
  const atTop = () => {
    const { top } = box.getBoundingClientRect();
    return shown.all(".iw-examples h4").findIndex((title) => title.getBoundingClientRect().top >= top - 1);
  };
  await userEvent.click(button(shown, "0"));
  await expect.poll(atTop).toBe(2);
  await userEvent.click(button(shown, "top"));
  await expect.poll(() => box.scrollTop).toBeLessThan(10);
  const svg = shown.one(".iw-plot svg");
  await userEvent.click(svg, { position: { x: 70, y: 60 } }); // activations of 1 to 2 are to the left
  await expect.poll(atTop).toBe(2);
});

test("whole contexts are asked for as they come into view", async () => {
  const fake = model(100);
  const shown = await open(fake);
  await expect.poll(() => lines(shown).length).toBe(33);
  await userEvent.click(button(shown, "whole contexts"));
  expect(fake.saved.whole).toBe(true);
  const paragraphs = () => shown.all(".iw-whole");
  await expect.poll(() => tokens(paragraphs()[0]!).map((token) => token.textContent)).toEqual(["a", "b", "c", "the", HOSTILE, "f3", "sat", "␣on"]); // prettier-ignore
  expect(getComputedStyle(tokens(paragraphs()[0]!)[1]!).backgroundColor).toBe(rgb("light", 0.5)); // beyond the snippet
  await expect.poll(() => paragraphs()[1]!.textContent).toContain("store.bind(model, dictionary)");
  const asked = () => new Set(fake.asked.flat().filter((key) => key.includes('"whole"'))).size;
  expect(asked()).toBeLessThan(33);
  const before = asked();
  shown.one(".iw-examples").scrollTop = 1e5;
  await expect.poll(asked).toBeGreaterThan(before);
});

test("a million rows: those in view are asked for, and no more are drawn", async () => {
  const fake = model(1_000_000);
  const shown = await open(fake);
  await expect.poll(() => indices(shown)[0]).toBe(0);
  const box = shown.one(".iw-rows-body");
  box.scrollTop = box.scrollHeight;
  await expect.poll(() => indices(shown).at(-1)).toBe(999_999);
  box.scrollTop = box.scrollHeight / 2;
  await expect.poll(() => Math.abs(indices(shown)[0]! - 500_000)).toBeLessThan(100);
  const [first] = indices(shown);
  box.dispatchEvent(new WheelEvent("wheel", { deltaY: 44, bubbles: true, cancelable: true }));
  await expect.poll(() => indices(shown)[0]).toBe(first! + 2); // by rows, though a pixel of the bar is several
  expect(indices(shown).length).toBeLessThan(50);
  expect(new Set(fake.asked.flat().filter((key) => key.includes('"rows"'))).size).toBeLessThan(10);
});

test("a click in the table, arrow keys, and what is chosen elsewhere", async () => {
  const fake = model(1_000_000);
  const shown = await open(fake);
  await expect.poll(() => indices(shown).length).toBeGreaterThan(20);
  await userEvent.click(shown.all(".iw-rows-row").find((row) => row.textContent.startsWith("7"))!);
  expect(fake.saved.feature).toBe(7);
  await expect.poll(() => shown.text("h3")).toBe("Feature 7");
  shown.one(".iw-rows-body").focus();
  await userEvent.keyboard("{ArrowDown}{ArrowDown}");
  expect(fake.saved.feature).toBe(9);
  fake.change("feature", 700_000);
  await expect.poll(() => shown.all(".iw-rows-row.iw-active > span")[0]?.textContent).toBe("700000");
  const { top, bottom } = shown.one(".iw-rows-body").getBoundingClientRect();
  const row = shown.one(".iw-rows-row.iw-active").getBoundingClientRect();
  expect(row.top >= top && row.bottom <= bottom).toBe(true);
});

test("the next, the previous and the rows beside are there before they are wanted", async () => {
  const fake = model(1000);
  const shown = await open(fake);
  await expect.poll(() => fake.asked.flat()).toContain('{"what":"record","feature":4}');
  expect(fake.asked.flat()).toContain('{"what":"record","feature":2}');
  await expect.poll(() => fake.asked.flat()).toContain('{"what":"record","feature":20}'); // and all that are in view
  expect(fake.asked.flat()).not.toContain('{"what":"record","feature":40}');
  fake.answering = false;
  await userEvent.click(button(shown, "next"));
  await expect.poll(() => shown.text("h3")).toBe("Feature 4"); // nobody was asked
  expect(shown.all(".iw-stale")).toEqual([]);
});

test("sorted, filtered, and a filter that cannot be read", async () => {
  const fake = model(1000);
  const shown = await open(fake);
  await expect.poll(() => indices(shown).length).toBeGreaterThan(20);
  await userEvent.click(button(shown, "density"));
  expect(fake.saved.sort_by).toBe("density desc");
  await expect.poll(() => indices(shown)[0]).toBe(999);
  await userEvent.click(button(shown, "density ▾"));
  expect(fake.saved.sort_by).toBe("density");
  const filter = shown.one<HTMLInputElement>(".iw-filter input");
  await userEvent.fill(filter, "31");
  await userEvent.keyboard("{Enter}");
  await expect.poll(() => indices(shown)).toEqual([31]);
  expect(shown.text(".iw-rows")).toContain("1 of 1,000 features");
  await userEvent.fill(filter, "wrong >");
  await userEvent.keyboard("{Enter}");
  await expect.poll(() => shown.text("[role=alert]")).toBe("This condition cannot be used");
  await expect.poll(() => shown.all("button").some((each) => each.textContent === "★ starred")).toBe(true);
  await userEvent.click(button(shown, "★ starred"));
  expect(fake.saved.filter).toBe("'starred' in lists");
});

test("back and forward, by number, at random, and to a neighbour", async () => {
  const fake = model(1000);
  const shown = await open(fake);
  await expect.poll(() => shown.all(".iw-go").length).toBe(2);
  expect(button(shown, "← back").hasAttribute("disabled")).toBe(true);
  await userEvent.click(shown.one(".iw-go"));
  expect(fake.saved.feature).toBe(8);
  await userEvent.fill(shown.one("input[type=number]"), "500");
  await userEvent.keyboard("{Enter}");
  expect(fake.saved.feature).toBe(500);
  await userEvent.click(button(shown, "← back"));
  expect(fake.saved.feature).toBe(8);
  await userEvent.click(button(shown, "← back"));
  expect(fake.saved.feature).toBe(3);
  await userEvent.click(button(shown, "forward →"));
  expect(fake.saved.feature).toBe(8);
  const filter = shown.one<HTMLInputElement>(".iw-filter input");
  await userEvent.fill(filter, "31");
  await userEvent.keyboard("{Enter}");
  await expect.poll(() => indices(shown)).toEqual([31]);
  await userEvent.click(button(shown, "random"));
  await expect.poll(() => fake.saved.feature).toBe(31); // of those that pass
});

test("what is being written in a field stays, whatever comes meanwhile", async () => {
  const fake = model(1000);
  const shown = await open(fake);
  await expect.poll(() => lines(shown).length).toBe(33);
  const [number, filter] = [shown.one<HTMLInputElement>("input[type=number]"), shown.one<HTMLInputElement>(".iw-filter input")]; // prettier-ignore
  await userEvent.fill(number, "50");
  fake.change("written", 1); // all of it is drawn again
  await expect.poll(() => fake.asked.flat().some((key) => key.includes('"written":1'))).toBe(true);
  expect(number.value).toBe("50");
  await userEvent.keyboard("{Enter}");
  expect(fake.saved.feature).toBe(50);
  await userEvent.fill(filter, "density <");
  fake.change("written", 2);
  await expect.poll(() => fake.asked.flat().some((key) => key.includes('"written":2'))).toBe(true);
  expect(filter.value).toBe("density <");
  await userEvent.fill(number, "1000"); // there is none
  await userEvent.keyboard("{Enter}");
  await expect.poll(() => number.value).toBe("50");
  expect(fake.saved.filter).toBe("density <"); // left, and so entered
});

test("two features side by side, each with its own examples", async () => {
  const fake = model(1000);
  const shown = await open(fake);
  await expect.poll(() => shown.all(".iw-go").length).toBe(2);
  await userEvent.click(shown.one("[aria-label='compare with 8']"));
  expect(fake.saved.compare).toBe(8);
  await expect.poll(() => shown.all("h3").map((title) => title.textContent)).toEqual(["Feature 3", "Feature 8"]);
  await expect.poll(() => shown.text(".iw-pair")).toBe("3 and 8: cosine of their directions 0.5000, active together not among the most (Jaccard)"); // prettier-ignore
  const [a, b] = shown.all("article").map((each) => each.getBoundingClientRect());
  expect(b!.left).toBeGreaterThanOrEqual(a!.right);
  await userEvent.click(shown.all("article")[1]!.querySelector<HTMLElement>(".iw-peak")!);
  expect(fake.saved.example).toEqual([8, 0, 0, 5]);
  expect(shown.all("article").map((each) => each.querySelectorAll(".iw-examples .iw-active").length)).toEqual([0, 1]);
  await userEvent.click(button(shown, "only one"));
  expect(fake.saved.compare).toBe(null);
});

test("what it reads from and writes to: signs, what is by chance, and where a click goes", async () => {
  const fake = model(100);
  const shown = await open(fake);
  await expect.poll(() => lines(shown).length).toBe(33);
  expect(fake.asked.flat().some((key) => key.includes('"connections"'))).toBe(false); // it may take a model's pass
  await userEvent.click(shown.all("label").find((each) => each.textContent.includes("reads from, writes to"))!);
  expect(fake.saved.connections).toBe(true);
  const rows = () => shown.all(".iw-linked");
  await expect.poll(() => rows().map((row) => row.querySelector("span")!.textContent.trim())).toEqual([
    "L0H2", "L1 neuron 141", HOSTILE, "L2H3 by v", "40 f40 → cat",
  ]); // prettier-ignore
  expect(rows().map((row) => row.querySelector(".iw-bar")!.textContent)).toEqual(["0.12", "−0.40", "0.23", "0.10", "−0.21"]); // prettier-ignore
  expect(rows().map((row) => row.classList.contains("iw-by-chance"))).toEqual([false, false, true, false, true]);
  expect(rows()[1]!.querySelector("i")!.className).toBe("iw-below");
  expect(shown.text(".iw-connections")).toContain("a hypothesis, to be ablated");
  expect(shown.text(".iw-connections")).toContain("what the neurons of layer 3 read; experts");
  await userEvent.click(rows()[3]!);
  expect([fake.saved.layer, fake.saved.head, fake.saved.neuron]).toEqual([2, 3, null]);
  await expect.poll(() => rows()[3]!.getAttribute("aria-pressed")).toBe("true");
  await userEvent.click(rows()[1]!);
  expect([fake.saved.layer, fake.saved.head, fake.saved.neuron]).toEqual([1, null, 141]);
  await userEvent.click(rows()[4]!);
  expect(fake.saved.feature).toBe(40);
});

test("a line holds what fits, and is whole where there is room", async () => {
  const fake = model(10);
  const many = Array.from({ length: 32 }, (_, i) => `w${i}`);
  const wide = { tokens: many, values: many.map(() => 0), position: 20, context: 0, start: 0 };
  const own = fake.tile;
  fake.tile = (key) => (key.what === "record" ? jsonTile({ ...record(key.feature as number), top: [wide] }) : own(key));
  const shown = await open(fake, 900);
  await expect.poll(() => shown.text(".iw-kwic .iw-peak")).toBe("w20");
  const line = lines(shown)[0]!;
  const left = line.querySelector(".iw-kwic-left")!.getBoundingClientRect();
  const first = tokens(line)[0]!.getBoundingClientRect();
  expect(tokens(line).length).toBeLessThan(32);
  expect(first.left).toBeLessThanOrEqual(left.left + 1); // cut off: no gap where a token would have fitted
  expect(tokens(line).at(-1)!.textContent).toBe("w31");
});

test("the effect of ablation is shown of the examples that have it", async () => {
  const fake = model(10);
  const own = fake.tile;
  const some = record(3).top.map((example) => ({ ...example, effects: [0, -0.5, 1, 0, 0] }));
  fake.tile = (key) => (key.what === "record" ? jsonTile({ ...record(key.feature as number), top: some }) : own(key));
  const shown = await open(fake);
  await expect.poll(() => lines(shown).length).toBe(33);
  await userEvent.click(button(shown, "effect of ablation"));
  await expect.poll(() => lines(shown).length).toBe(33); // the weaker ones have none
  const colour = (line: number, token: number) => tokens(lines(shown)[line]!)[token]!.style.background;
  expect(colour(0, 2)).not.toBe("");
  expect(colour(2, 2)).toBe("");
});

test("what the reader writes is said once each, and shown when it is written", async () => {
  const said: Record<number, Written> = {};
  const fake = model(100, {}, said);
  const shown = await open(fake);
  await expect.poll(() => shown.all(".iw-star").length).toBe(1);
  await userEvent.click(shown.one(".iw-star"));
  await userEvent.click(shown.one(".iw-label .iw-written"));
  await userEvent.fill(shown.one("input.iw-writing"), HOSTILE);
  await userEvent.keyboard("{Enter}");
  await userEvent.click(shown.one(".iw-noted .iw-written"));
  await userEvent.keyboard("never kept{Escape}");
  await userEvent.fill(shown.one("input[placeholder='+ list']"), "odd ones");
  await userEvent.keyboard("{Enter}");
  const sayings = fake.saved._said as (Written & { id: string; what: string })[];
  expect(sayings.map(({ id: _, ...what }) => what)).toEqual([
    { feature: 3, what: "list", list: "starred", on: true },
    { feature: 3, what: "label", text: HOSTILE },
    { feature: 3, what: "list", list: "odd ones", on: true },
  ]);
  expect(new Set(sayings.map(({ id }) => id)).size).toBe(3);
  said[3] = { label: HOSTILE, lists: ["starred"], note: "so" };
  fake.change("written", 1);
  await expect.poll(() => shown.text(".iw-label")).toBe(`★${HOSTILE}score 0.75 [0.50, 0.90], by hand`);
  await expect.poll(() => shown.all(".iw-rows-row").find((row) => row.textContent.includes("★"))?.textContent).toContain("★3"); // prettier-ignore
  expect((globalThis as { hurt?: number }).hurt).toBe(undefined);
  fake.change("error", "The folder cannot be written in.");
  await expect.poll(() => shown.text("p[role=alert]")).toBe("Not written: The folder cannot be written in.");
});

test("a text of one's own: where it fires, what else does, and the token chosen", async () => {
  const fake = model(100);
  const shown = await open(fake);
  await expect.poll(() => shown.all("textarea").length).toBe(1);
  await userEvent.fill(shown.one("textarea"), "the cat sat");
  await expect.poll(() => fake.saved.text).toBe("the cat sat");
  const own = () => tokens(shown.one(".iw-own"));
  await expect.poll(() => shown.all(".iw-own [data-token]").length).toBe(3);
  await expect.poll(() => getComputedStyle(own()[1]!).backgroundColor).toBe(rgb("light", 0.5));
  expect(shown.text(".iw-trial .iw-where")).toBe("feature 3 reaches 4.0000, its largest in the corpus is 8");
  await expect.poll(() => shown.text(".iw-trial .iw-go")).toBe(`59.5${HOSTILE}`);
  await userEvent.click(own()[1]!);
  expect(fake.saved.position).toBe(1);
  await expect.poll(() => shown.text(".iw-trial .iw-go")).toContain("772.5");
  fake.change("text", "the"); // there is no token 1 any more
  await expect.poll(() => shown.all(".iw-own .iw-active")).toEqual([]);
});

test("steered and ablated: what comes next, and how it goes on", async () => {
  const fake = model(100, { text: "the cat sat" });
  const shown = await open(fake);
  await expect.poll(() => shown.all(".iw-own [data-token]").length).toBe(3);
  expect(fake.asked.flat().some((key) => key.includes('"outcome"'))).toBe(false); // nothing is run unasked
  await userEvent.click(button(shown, "steered"));
  expect(fake.saved.intervention).toBe("steer");
  await expect.poll(() => shown.text(".iw-outcome b")).toBe("steer by 1");
  const slider = shown.one<HTMLInputElement>("input[type=range]");
  slider.focus();
  await userEvent.keyboard("{ArrowRight}");
  await expect.poll(() => fake.saved.strength).toBe(1.25);
  expect(shown.text(".iw-changed label")).toBe("1.25 × max = 10");
  await expect.poll(() => shown.text(".iw-outcome b")).toBe("steer by 1.25");
  await expect.poll(() => shown.all(".iw-changed .iw-came").map((token) => token.textContent.trim())).toEqual(["mat", "hat"]); // prettier-ignore
  await userEvent.click(button(shown, "ablated"));
  await expect.poll(() => shown.text(".iw-outcome b")).toBe("ablate by 1.25");
});

test("the map: a click goes to the nearest feature", async () => {
  const fake = model(100, { feature: 0 });
  const shown = await open(fake);
  await expect.poll(() => shown.all("label").some((each) => each.textContent.includes("map"))).toBe(true);
  expect(fake.asked.flat().some((key) => key.includes('"map"'))).toBe(false);
  await userEvent.click(shown.all("label").find((each) => each.textContent.includes("map"))!);
  await expect.poll(() => shown.all(".iw-points").length).toBe(1);
  const svg = shown.all(".iw-plot svg").find((each) => each.ariaLabel?.includes("components"))!;
  const rings = svg.querySelectorAll("circle");
  expect(rings).toHaveLength(2); // this one, and its neighbour
  const [near, here] = [...rings].map((ring) => [Number(ring.getAttribute("cx")), Number(ring.getAttribute("cy"))] as const); // prettier-ignore
  expect(near![0] - here![0]).toBeGreaterThan(50); // five to the right
  await userEvent.click(svg, { position: { x: Math.round(near![0]), y: Math.round(near![1]) } });
  expect(fake.saved.feature).toBe(5);
});

test("narrow, and dark", async () => {
  await page.viewport(400, 1200);
  const shown = await open(model(100, { text: "the cat sat", compare: 9 }), 360);
  await expect.poll(() => lines(shown).length).toBe(66);
  expect(shown.el.scrollWidth).toBeLessThanOrEqual(360);
  for (const article of shown.all("article")) expect(article.getBoundingClientRect().width).toBeLessThanOrEqual(360);
  endAll();
  document.documentElement.style.colorScheme = "dark";
  const dark = await open(model(100));
  await expect.poll(() => lines(dark).length).toBe(33);
  await expect.poll(() => getComputedStyle(lines(dark)[0]!.querySelector(".iw-peak")!).backgroundColor).toBe(rgb("dark", 1)); // prettier-ignore
});

test("a saved page shows what it holds, says what it lacks, and cannot be written in", async () => {
  const fake = model(1000, { _live: false });
  const tile = fake.tile;
  fake.tile = (key) => {
    if (key.what === "record" && key.feature !== 3) throw new Error("not stored in this page");
    return tile(key);
  };
  fake.open([
    { what: "record", feature: 3 },
    { what: "said", feature: 3, written: 0 },
  ]);
  const shown = await open(fake);
  await expect.poll(() => lines(shown).length).toBe(33);
  expect(shown.all(".iw-star, .iw-written, textarea")).toEqual([]);
  expect(shown.text(".iw-status")).toContain("saved copy");
  await expect.poll(() => shown.text(".iw-go")).toBe("80.75f8 → cat");
  await userEvent.click(shown.one(".iw-go"));
  await expect.poll(() => shown.text("article [role=alert]")).toBe("This copy does not hold this feature; it holds the one it was saved with, and those near it."); // prettier-ignore
  expect(shown.text("h3")).toBe("Feature 8");
});

test("without a model, how to give it one", async () => {
  const fake = model(100);
  fake.state.facts = { ...fake.state.facts, runs: false };
  const shown = await open(fake);
  await expect.poll(() => lines(shown).length).toBe(33);
  expect(shown.all("textarea")).toEqual([]);
  expect(shown.el.textContent).toContain("store.bind(model, dictionary)");
});
