// The patching view in a page: tables of effects, a selection with places and labels, a cell run again, filling in.
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import patching from "../views/patching.tsx";
import { Fake, jsonTile, type Key, tileOf } from "./fake.ts";
import { canvasOf, cellColour, colour, colours, middle } from "./grid.ts";
import { endAll, show, styled } from "./text.ts";

type Axis = [name: string, labels: (number | string)[]];
const LAYER: Axis = ["layer", [0, 1, 2]];
const POS: Axis = ["pos", [0, 1, 2, 3]];
const HEAD: Axis = ["head", [0, 2]];

beforeAll(styled);
beforeEach(() => page.viewport(1200, 1000));
afterEach(endAll);

/** An effect that tells where it is from: −1 to 1. */
const effect = (cell: number[]) => (((5 * cell[0]! + 3 * (cell[1] ?? 0) + 7 * (cell[2] ?? 0)) % 11) - 5) / 5.5;
const last = (axes: Axis[]) => axes.length - 1;

interface Table {
  axes: Axis[];
  name?: string;
  done?: (cell: number[]) => boolean;
  facts?: object;
}

function factsOf({ axes, name = "", facts }: Table) {
  return {
    name, metric: "logit(a) − logit(b)", how: "z of tiny taken from the clean prompts", n: 4,
    axes: axes.map(([axis, labels]) => [axis, labels.length]), corrupted: -1, clean: 1, gap: 2, draws: 0, live: false,
    done: [6, 6], most: 1, range: [-2, 0], ...facts,
  }; // prettier-ignore
}

/** Rows, columns and the axis that is held, as Python finds them. */
function sides(axes: Axis[], held: string) {
  const found = axes.findIndex(([name]) => name === held);
  const kept = axes.length < 3 ? -1 : found < 0 ? last(axes) : found;
  const shown = axes.map((_, i) => i).filter((i) => i !== kept);
  if (shown.length === 1) return [-1, shown[0]!, kept] as const;
  const row = shown.find((i) => axes[i]![0] === "layer") ?? shown[0]!;
  return [row, shown.find((i) => i !== row)!, kept] as const;
}

function model(tables: Table[], traits: object = {}, pair?: object): Fake {
  const answer = (key: Key) => {
    const { axes, done = () => true } = tables[key.panel as number] ?? { axes: [] };
    if (key.what === "labels") return jsonTile(axes.map(([, labels]) => labels));
    if (key.what === "pair" && pair) return jsonTile(pair);
    if (key.what === "run")
      return jsonTile({ how: `Patch at ${(key.cell as number[]).join()}`, position: 3, tokens: ["␣a", "␣b"], before: [0.1, 0.6], after: [0.7, 0.2], kl: 0.5 }); // prettier-ignore
    if (key.what !== "cells" && key.what !== "intervals") throw new Error(`no tile is called ${key.what}`);
    const [row, column, kept] = sides(axes, key.held as string);
    const rows = row < 0 ? 1 : axes[row]![1].length;
    const columns = axes[column]![1].length;
    const plane = (of: (cell: number[]) => number) =>
      Array.from({ length: rows * columns }, (_, i) => {
        const cell = axes.map(() => 0);
        if (row >= 0) cell[row] = Math.floor(i / columns);
        cell[column] = i % columns;
        if (kept >= 0) cell[kept] = key.at as number;
        return done(cell) ? of(cell) : NaN;
      });
    const planes =
      key.what === "cells"
        ? [plane((cell) => effect(cell) - 1), plane(effect), plane(() => 0.9)]
        : [plane((cell) => effect(cell) - 0.3), plane((cell) => effect(cell) + 0.3)];
    return tileOf(Float32Array.from(planes.flat()), [planes.length, rows, columns]);
  };
  const axes = tables[0]?.axes ?? [];
  const own = Object.fromEntries(axes.map(([name, labels]) => [name === "pos" ? "position" : name, labels[0]]));
  const state = {
    title: "Activation patching", panels: tables.map(factsOf), pairs: pair ? ["0: the cat", "1: the dog"] : [],
    panel: 0, cell: axes.map(() => 0), layer: null, head: null, position: null, neuron: null, prompt: 0,
    measure: "effect", held: "", colour_range: [], _live: true, _opening: [], _version: 0, ...own, ...traits,
  }; // prettier-ignore
  return new Fake(state, answer);
}

const trait = (fake: Fake, ...names: string[]) => expect.poll(() => names.map((name) => fake.saved[name]));
const labels = (el: HTMLElement, where: string) => [...el.querySelectorAll(`${where} bdi`)].map((each) => each.textContent); // prettier-ignore

describe("what is drawn", () => {
  test("layers from below, effects on the diverging palette, then shares and values", async () => {
    const fake = model([{ axes: [LAYER, POS] }]);
    const { el, one, text } = await show(patching, fake);
    const seen = (layer: number, pos: number) => cellColour(canvasOf(el), 2 - layer, pos, 3, 4);
    for (let layer = 0; layer < 3; layer++)
      for (let pos = 0; pos < 4; pos++)
        await expect.poll(() => seen(layer, pos)).toEqual(colour("diverging-light", (1 + effect([layer, pos])) / 2));
    expect(labels(el, ".iw-heat-rows")).toEqual(["2", "1", "0"]);
    await userEvent.click([...el.querySelectorAll("button")].find((button) => button.textContent === "recovered")!);
    await trait(fake, "measure").toEqual(["recovered"]);
    fake.change("colour_range", [0, 1]);
    await expect.poll(() => seen(1, 2)).toEqual(colour("diverging-light", (1 + effect([1, 2]) / 2) / 2));
    fake.change("measure", "value");
    fake.change("colour_range", []);
    await expect.poll(() => seen(1, 2)).toEqual(colour("light", (effect([1, 2]) - 1 + 2) / 2));
    expect(text(".iw-ramp")).toContain("the metric itself (logit(a) − logit(b))");
    expect(one("small").textContent).toBeTruthy();
  });

  test("cells whose interval includes nothing are dotted, those that were not run hatched", async () => {
    const { el } = await show(patching, model([{ axes: [LAYER, POS], done: ([layer]) => layer !== 2, facts: { done: [8, 12] } }])); // prettier-ignore
    const dotted = (layer: number, pos: number) => colours(canvasOf(el), 2 - layer, pos, 3, 4) > 1;
    for (let layer = 0; layer < 2; layer++)
      for (let pos = 0; pos < 4; pos++)
        await expect
          .poll(() => dotted(layer, pos), { message: `${layer} ${pos}` })
          .toBe(Math.abs(effect([layer, pos])) <= 0.3);
    for (let pos = 0; pos < 4; pos++) expect(dotted(2, pos)).toBe(true);
    expect(el.querySelector(".iw-about")!.textContent).toContain("8 of 12 cells run so far");
  });

  test("both prompts stand along the positions, and what differs is marked", async () => {
    const pair = { clean: ["the", "␣cat", "␣sat", "."], corrupted: ["the", "␣dog", "␣sat", "."], marked: [1] };
    const { el } = await show(patching, model([{ axes: [LAYER, POS] }], {}, pair));
    await expect.poll(() => labels(el, ".iw-heat-top")).toEqual(pair.clean);
    expect(labels(el, ".iw-heat-bottom")).toEqual(pair.corrupted);
    expect([...el.querySelectorAll(".iw-differs")].map((each) => each.textContent)).toEqual(["␣cat", "␣dog"]);
  });

  test("of three axes one is held, which can be chosen", async () => {
    const fake = model([{ axes: [LAYER, HEAD, POS] }]);
    const { el, all } = await show(patching, fake);
    await expect.poll(() => cellColour(canvasOf(el), 1, 1, 3, 2)).toEqual(colour("diverging-light", (1 + effect([1, 1, 0])) / 2)); // prettier-ignore
    await userEvent.selectOptions(all("select")[1]!, "3");
    await trait(fake, "cell", "position").toEqual([[0, 0, 3], 3]);
    await expect.poll(() => cellColour(canvasOf(el), 1, 1, 3, 2)).toEqual(colour("diverging-light", (1 + effect([1, 1, 3])) / 2)); // prettier-ignore
    await userEvent.selectOptions(all("select")[0]!, "head");
    await trait(fake, "held").toEqual(["head"]);
    await expect.poll(() => cellColour(canvasOf(el), 1, 2, 3, 4)).toEqual(colour("diverging-light", (1 + effect([1, 0, 2])) / 2)); // prettier-ignore
  });

  test("one axis is one row; several tables share one scale", async () => {
    const one = await show(patching, model([{ axes: [HEAD] }]));
    await expect.poll(() => labels(one.el, ".iw-heat-bottom")).toEqual(["0", "2"]);
    const two = await show(patching, model([{ axes: [LAYER, POS], name: "positions" }, { axes: [LAYER, HEAD], name: "heads", facts: { most: 2 } }])); // prettier-ignore
    await expect.poll(() => two.all("figcaption").map((each) => each.textContent)).toEqual(["positions", "heads"]);
    await expect.poll(() => cellColour(canvasOf(two.el), 1, 2, 3, 4)).toEqual(colour("diverging-light", (1 + effect([1, 2]) / 2) / 2)); // prettier-ignore
    expect(two.all(".iw-legend").length).toBe(1);
  });
});

describe("what is selected", () => {
  test("a click sets places and labels, and says how sure it is", async () => {
    const fake = model([{ axes: [LAYER, HEAD], facts: { draws: 20 } }]);
    const { el, text } = await show(patching, fake);
    await userEvent.click(canvasOf(el), { position: middle(canvasOf(el), 0, 1, 3, 2) });
    await trait(fake, "panel", "cell", "layer", "head", "position").toEqual([0, [2, 1], 2, 2, null]);
    await userEvent.hover(el.querySelector(".iw-title")!);
    await expect.poll(() => text(".iw-status")).toBe(
      "layer 2, head 2: logit(a) − logit(b) −1.00 → −1.55 (−0.55, 95 % −0.85 … −0.25 over 4 prompts), −27 % of the way to clean, larger than 90 % of 20 random components selected",
    ); // prettier-ignore
  });

  test("a label that another view sets moves the cell, without Python", async () => {
    const fake = model([{ axes: [LAYER, HEAD] }]);
    const { el, text } = await show(patching, fake);
    fake.change("layer", 1);
    await expect.poll(() => text(".iw-status")).toContain("layer 1, head 0");
    fake.change("head", 2);
    await expect.poll(() => text(".iw-status")).toContain("layer 1, head 2");
    canvasOf(el).focus();
    await userEvent.keyboard("{ArrowUp}{ArrowLeft}");
    await trait(fake, "cell", "layer", "head").toEqual([[2, 0], 2, 0]);
  });

  test("pointing at another table says what is there, a click selects in it", async () => {
    const fake = model([
      { axes: [LAYER, POS], name: "positions" },
      { axes: [LAYER, HEAD], name: "heads" },
    ]);
    const { el, text } = await show(patching, fake);
    await expect.poll(() => el.querySelectorAll(".iw-heat").length).toBe(2);
    const second = canvasOf(el, 1);
    await userEvent.hover(second, { position: middle(second, 1, 1, 3, 2) });
    await expect.poll(() => text(".iw-status")).toContain("layer 1, head 2");
    expect(fake.saved).toEqual({});
    await userEvent.click(second, { position: middle(second, 1, 1, 3, 2) });
    await trait(fake, "panel", "cell", "position").toEqual([1, [1, 1], null]);
  });
});

describe("a cell that is run again", () => {
  const live = { facts: { live: true } };
  const pair = { clean: ["a", "b", "c", "d"], corrupted: ["a", "x", "c", "d"], marked: [1] };

  test("after a click, and on another prompt", async () => {
    const fake = model([{ axes: [LAYER, POS], ...live }], {}, pair);
    const { el, text, all } = await show(patching, fake);
    await expect.poll(() => text(".iw-patching")).toContain("Click a cell to run its intervention");
    const runs = () => fake.asked.flat().filter((key) => key.includes('"run"'));
    expect(runs()).toEqual([]);
    await userEvent.click(canvasOf(el), { position: middle(canvasOf(el), 1, 2, 3, 4) });
    await expect.poll(() => text(".iw-outcome")).toContain("Patch at 1,2");
    expect(text(".iw-outcome")).toContain("␣a10 %70 %+60.0");
    await userEvent.selectOptions(all("select")[0]!, "1: the dog");
    await expect.poll(() => runs().at(-1)).toBe('{"what":"run","panel":0,"cell":[1,2],"prompt":1}');
  });

  test("effects that are not live say so", async () => {
    const { text } = await show(patching, model([{ axes: [LAYER, POS] }]));
    await expect.poll(() => text(".iw-patching")).toContain("Not live");
  });

  test("a saved copy shows what was run, and says what was not", async () => {
    const fake = model([{ axes: [LAYER, POS], ...live }], { _live: false });
    const keys = ["labels", "cells", "intervals"].map((what) => (what === "labels" ? { what, panel: 0 } : { what, panel: 0, held: "", at: 0, block: 0 })); // prettier-ignore
    fake.open([...keys, { what: "run", panel: 0, cell: [0, 0], prompt: 0 }]);
    const answer = fake.tile;
    fake.tile = (key) => {
      if (key.what === "run") throw new Error("not stored in this page");
      return answer(key);
    };
    const { el, text } = await show(patching, fake);
    await expect.poll(() => text(".iw-outcome")).toContain("Patch at 0,0");
    await userEvent.click(canvasOf(el), { position: middle(canvasOf(el), 0, 2, 3, 4) });
    await expect.poll(() => text("[role=alert]")).toContain("This copy does not hold what this cell does");
    expect(text(".iw-status")).toContain("saved copy");
  });
});

describe("filling in", () => {
  test("an empty view says what to do, and shows what is pushed though nobody answers", async () => {
    const fake = model([]);
    const { el, text } = await show(patching, fake);
    expect(text(".iw-patching")).toContain("into=view.show");
    fake.answering = false;
    const push = (rows: number) => {
      const next = model([{ axes: [LAYER, POS], done: ([layer]) => layer! < rows, facts: { done: [4 * rows, 12] } }]);
      next.open([{ what: "labels", panel: 0 }, { what: "cells", panel: 0, held: "", at: 0, block: 0 }]); // prettier-ignore
      Object.assign(fake.state, { _opening: next.state._opening });
      fake.change("panels", next.state.panels);
      fake.change("cell", [0, 0]);
      fake.change("_version", (fake.state._version as number) + 1);
    };
    push(1);
    await expect.poll(() => text(".iw-about")).toContain("4 of 12 cells run so far");
    const seen = (layer: number, pos: number) => cellColour(canvasOf(el), 2 - layer, pos, 3, 4);
    await expect.poll(() => seen(0, 2)).toEqual(colour("diverging-light", (1 + effect([0, 2])) / 2));
    expect(colours(canvasOf(el), 1, 2, 3, 4)).toBeGreaterThan(1);
    push(3);
    await expect.poll(() => seen(2, 1)).toEqual(colour("diverging-light", (1 + effect([2, 1])) / 2));
    expect(text(".iw-about")).not.toContain("so far");
  });
});

test.each([360, 500, 900])("%d pixels: nothing sticks out", async (width) => {
  const pair = { clean: ["the", "␣cat", "␣sat", "."], corrupted: ["the", "␣dog", "␣sat", "."], marked: [1] };
  const { el, all } = await show(patching, model([{ axes: [LAYER, POS] }, { axes: [LAYER, HEAD] }], {}, pair), width);
  await expect.poll(() => all(".iw-heat").length).toBe(2);
  const right = el.getBoundingClientRect().right;
  for (const element of all("button, input, select, .iw-heat-scroll"))
    expect(element.getBoundingClientRect().right, element.outerHTML.slice(0, 80)).toBeLessThanOrEqual(right + 1);
  const status = el.querySelector<HTMLElement>(".iw-status")!;
  status.append(" and what a long metric leaves to say".repeat(4));
  expect(status.scrollHeight).toBeLessThanOrEqual(status.clientHeight + 1);
});

test("hostile tokens and names are text", async () => {
  const hostile = ["<img src=x onerror=window.hacked=1>", "</script>", "عربي", "\u202eabc"];
  const pair = { clean: null, corrupted: hostile, marked: [] };
  const fake = model([{ axes: [POS, HEAD], facts: { how: hostile[0], metric: hostile[1] } }], { title: hostile[0] }, pair); // prettier-ignore
  const { el, all } = await show(patching, fake);
  await expect.poll(() => labels(el, ".iw-heat-rows").join(" ")).toContain(`0 ${hostile[0]!}`);
  expect(all("img, script")).toEqual([]);
  expect("hacked" in window).toBe(false);
});
