// Neurons: a table of any number of them, and the text of one.
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import neurons from "../views/neurons.tsx";
import { Fake, jsonTile, tileOf } from "./fake.ts";
import { chunkOf, endAll, rgb, show, styled } from "./text.ts";

const WORDS = ["the", "␣cat", "␣sat", "␣on"];
const ROWS = 32;

beforeAll(styled);
beforeEach(() => page.viewport(1200, 1000));
afterEach(endAll);

/** An activation that tells where it is from. */
const telling = (layer: number, neuron: number, at: number) => ((neuron * 7 + at * 3 + layer * 5) % 11) - 2;

/** The table in the order of the index, turned around where it is sorted by the maximum. */
function model(count: number, traits: object = {}): Fake {
  const row = (layer: number, neuron: number) => {
    const own = WORDS.map((_, at) => telling(layer, neuron, at));
    const most = Math.max(...own);
    const mean = own.reduce((sum, value) => sum + value) / own.length;
    return [
      neuron,
      most,
      mean,
      own.filter((value) => value > 0).length / own.length,
      own.indexOf(most),
      own[2]!,
      ...own,
    ];
  };
  return new Fake(
    {
      title: "Neurons", prompts: [{ name: "prompt 0", size: 4 }], prompt: 0, neuron: 0, position: null, filter: "",
      layers: [{ name: "0", neurons: count }, { name: "3", neurons: 5 }], layer: 0, sort_by: "index", pinned: [],
      colour_range: [], _live: true, _opening: [], _version: 0, ...traits,
    },
    ({ what, layer, neuron, block, sort, filter, position, chunk }) => {
      if (what === "tokens") return jsonTile(chunkOf(WORDS, chunk as number));
      const l = layer as number;
      if (what === "line") return tileOf(Float32Array.from(WORDS, (_, at) => telling(l, neuron as number, at)), [1, 4]);
      if (what === "row") return tileOf(Float32Array.from(row(l, neuron as number)), [1, 10]);
      if (what === "at") return tileOf(Float32Array.of(4, 9, 3, telling(l, 9, position as number)), [2, 2]);
      if (filter === "max >") throw new Error("InputError: A filter is a neuron's index");
      const total = filter === "7" ? 1 : l ? 5 : count;
      const here = Array.from({ length: Math.min(ROWS, total - (block as number) * ROWS) }, (_, i) => (block as number) * ROWS + i);
      const all = here.map((i) => row(l, filter === "7" ? 7 : sort === "max" ? total - 1 - i : i));
      return tileOf(Float32Array.from(all.flat()), [all.length, 10], { total, least: -2, most: 8 });
    },
  ); // prettier-ignore
}

const background = (token: HTMLElement) => getComputedStyle(token).backgroundColor;
type Shown = Awaited<ReturnType<typeof show>>;
const table = (shown: Shown) => shown.all(".iw-neuron-table .iw-neuron");
const indices = (shown: Shown) => table(shown).map((row) => Number(row.firstElementChild!.textContent));
const place = (value: number, most = 8) => (1 + value / most) / 2;

test("a row says what its neuron does, and its strip is the text", async () => {
  const shown = await show(neurons, model(40));
  await expect.poll(() => indices(shown).slice(0, 3)).toEqual([0, 1, 2]);
  const own = WORDS.map((_, at) => telling(0, 1, at));
  const row = table(shown)[1]!;
  expect([...row.children].slice(0, 4).map((cell) => cell.textContent)).toEqual([
    "1", String(Math.max(...own)), String(own.reduce((a, b) => a + b) / 4), `${(25 * own.filter((v) => v > 0).length).toFixed(1)} %`,
  ]); // prettier-ignore
  const canvas = row.querySelector("canvas")!;
  const pixels = canvas.getContext("2d")!.getImageData(0, 0, 4, 1).data;
  for (const [at, value] of own.entries())
    expect(`rgb(${[...pixels.slice(4 * at, 4 * at + 3)].join(", ")})`).toBe(rgb("diverging-light", place(value)));
});

test("a click shows the text of a neuron", async () => {
  const fake = model(40);
  const shown = await show(neurons, fake);
  await expect.poll(() => table(shown).length).toBeGreaterThan(10);
  await userEvent.click(table(shown)[3]!);
  await expect.poll(() => fake.saved.neuron).toBe(3);
  const own = WORDS.map((_, at) => telling(0, 3, at));
  const [least, most] = [Math.min(0, ...own), Math.max(...own)];
  for (const [at, value] of own.entries())
    await expect
      .poll(() => background(shown.token(at)))
      .toBe(least < 0 ? rgb("diverging-light", place(value, Math.max(-least, most))) : rgb("light", value / most));
  await userEvent.hover(shown.token(2));
  await expect.poll(() => shown.text(".iw-status")).toContain(`␣sat2activation ${own[2]!.toFixed(4)}`);
  await expect.poll(() => shown.text(".iw-status")).toContain(`neuron 3: max ${most.toFixed(4)}`);
});

test("a hundred thousand rows: those in view are asked for, and no more are drawn", async () => {
  const fake = model(100_000);
  const shown = await show(neurons, fake);
  await expect.poll(() => indices(shown)[0]).toBe(0);
  const box = shown.one(".iw-neuron-table");
  box.scrollTop = 22 * 70_000;
  await expect.poll(() => indices(shown)).toContain(70_005);
  expect(table(shown).length).toBeLessThan(60);
  const asked = fake.asked.flat().filter((key) => key.includes('"rows"'));
  expect(new Set(asked).size).toBeLessThan(8);
  box.scrollTop = box.scrollHeight;
  await expect.poll(() => indices(shown).at(-1)).toBe(99_999);
});

test("arrow keys go along the table", async () => {
  const fake = model(100);
  const shown = await show(neurons, fake);
  await expect.poll(() => table(shown).length).toBeGreaterThan(10);
  shown.one(".iw-neuron-table").focus();
  await userEvent.keyboard("{ArrowDown}{ArrowDown}");
  await expect.poll(() => fake.saved.neuron).toBe(2);
  await userEvent.keyboard("{PageDown}");
  await expect.poll(() => fake.saved.neuron).toBe(15);
  const box = shown.one(".iw-neuron-table").getBoundingClientRect();
  await expect
    .poll(() => shown.one(".iw-neuron-table .iw-active").getBoundingClientRect().bottom)
    .toBeLessThanOrEqual(box.bottom + 1);
  await userEvent.keyboard("{ArrowUp}");
  await expect.poll(() => fake.saved.neuron).toBe(14);
});

test("sorted, filtered, and a filter that cannot be read", async () => {
  const fake = model(40);
  const shown = await show(neurons, fake);
  await userEvent.selectOptions(shown.all("select")[1]!, "max");
  await expect.poll(() => fake.saved.sort_by).toBe("max");
  await expect.poll(() => indices(shown)[0]).toBe(39);
  const filter = shown.one<HTMLInputElement>("input[type=search]");
  await userEvent.fill(filter, "7");
  await userEvent.keyboard("{Enter}");
  await expect.poll(() => indices(shown)).toEqual([7]);
  expect(shown.el.textContent).toContain("1 of 40 neurons");
  await userEvent.fill(filter, "max >");
  await userEvent.keyboard("{Enter}");
  await expect.poll(() => shown.text("[role=alert]")).toContain("A filter is a neuron's index");
});

test("another layer, and neurons that are pinned over it", async () => {
  const fake = model(40, { neuron: 30 });
  const shown = await show(neurons, fake);
  await userEvent.click(shown.one(".iw-large button[aria-pressed]"));
  await expect.poll(() => fake.saved.pinned).toEqual([[0, 30]]);
  await userEvent.selectOptions(shown.one("select"), "3");
  await expect.poll(() => [fake.saved.layer, fake.saved.neuron]).toEqual([1, 0]); // there is no 30
  await expect.poll(() => indices(shown)).toEqual([0, 1, 2, 3, 4]);
  await expect.poll(() => shown.text(".iw-pinned .iw-neuron")).toContain(`0·30×${Math.max(...WORDS.map((_, at) => telling(0, 30, at)))}`); // prettier-ignore
  await userEvent.click(shown.one(".iw-pinned button"));
  await expect.poll(() => [fake.saved.layer, fake.saved.neuron]).toEqual([0, 30]);
  await userEvent.click(shown.all(".iw-pinned button")[1]!);
  await expect.poll(() => fake.saved.pinned).toEqual([]);
});

test("a token has its strongest neurons, and the table can follow it", async () => {
  const fake = model(40);
  const shown = await show(neurons, fake);
  await expect.poll(shown.tokens).toEqual(WORDS);
  await userEvent.click(shown.token(2));
  await expect.poll(() => fake.saved.position).toBe(2);
  await expect.poll(() => shown.text(".iw-strongest")).toContain("most active at ␣sat2: 4 3");
  await userEvent.click(shown.all(".iw-strongest button")[1]!);
  await expect.poll(() => fake.saved.neuron).toBe(9);
  await userEvent.selectOptions(shown.all("select")[1]!, "value at token 2");
  await expect.poll(() => shown.text(".iw-head")).toContain("at 2");
  const row = table(shown)[0]!;
  await expect.poll(() => row.children[3]!.textContent).toBe(String(telling(0, 0, 2)).replace("-", "−"));
});

test.each([360, 1100])("%d pixels, in the dark: nothing sticks out", async (width) => {
  document.documentElement.setAttribute("style", "--jp-ui-font-color1: #eee");
  const shown = await show(neurons, model(40, { pinned: [[1, 2]], position: 1 }), width);
  await expect.poll(() => table(shown).length).toBeGreaterThan(10);
  const right = shown.el.getBoundingClientRect().right;
  for (const element of shown.all("canvas, button, input, select, .iw-flow span, .iw-neuron span"))
    expect(element.getBoundingClientRect().right, element.outerHTML.slice(0, 80)).toBeLessThanOrEqual(right + 1);
});

test("a saved copy says which rows and texts it does not hold", async () => {
  const fake = model(100, { _live: false });
  const held = fake.tile;
  fake.open([
    { what: "tokens", prompt: 0, chunk: 0 },
    { what: "rows", prompt: 0, layer: 0, sort: "index", position: null, filter: "", block: 0 },
    { what: "line", prompt: 0, layer: 0, neuron: 0, block: 0 },
  ]);
  fake.tile = (key) => {
    if (key.what === "tokens") return held(key);
    throw new Error("not stored in this page");
  };
  const shown = await show(neurons, fake);
  await expect.poll(() => indices(shown)[0]).toBe(0);
  await userEvent.click(table(shown)[4]!);
  await expect
    .poll(() => shown.text(".iw-large [role=alert]"))
    .toBe("This copy does not hold the text of this neuron.");
});
