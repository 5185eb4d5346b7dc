// The heat map by itself: what is drawn, pointed at, selected, and how little of a wide one.
import { h, render } from "preact";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import { Grid, type GridCell } from "../parts/grid.tsx";
import { styled } from "./attention.ts";
import { canvasOf, cellColour, colour, colours, middle } from "./grid.ts";

const SCALE = { kind: "linear", low: 0, high: 1, floor: 1e-3, signed: false, dark: false } as const;
let el: HTMLElement;

beforeAll(styled);
beforeEach(async () => {
  await page.viewport(1200, 800);
  el = document.createElement("div");
  el.className = "interpwidgets";
  document.body.append(el);
});
afterEach(() => {
  render(null, el);
  el.remove();
});

type Props = Parameters<typeof Grid>[0];
const seen: { selected: GridCell[]; hovered: (GridCell | null)[]; windows: [number, number][] } = { selected: [], hovered: [], windows: [] }; // prettier-ignore

function show(some: Partial<Props> & Pick<Props, "rows" | "columns" | "value">) {
  for (const list of Object.values(seen)) list.length = 0;
  const props: Props = {
    scale: SCALE,
    rowLabel: (row) => `r${row}`,
    columnLabel: (column) => `c${column}`,
    selected: null,
    width: 800,
    axes: ["row", "column"],
    label: "numbers",
    onSelect: (cell) => seen.selected.push(cell),
    onHover: (cell) => seen.hovered.push(cell),
    onWindow: (first, last) => seen.windows.push([first, last]),
    ...some,
  };
  render(h(Grid, props), el);
  return canvasOf(el);
}

const telling = (row: number, column: number) => ((7 * row + 3 * column) % 11) / 10;
const labels = (where: string) => [...el.querySelectorAll(`${where} bdi`)].map((label) => label.textContent);

test("every cell has its colour, and every row and column its label", () => {
  const canvas = show({ rows: 3, columns: 4, value: telling });
  for (let row = 0; row < 3; row++)
    for (let column = 0; column < 4; column++)
      expect(cellColour(canvas, row, column, 3, 4)).toEqual(colour("light", telling(row, column)));
  expect(labels(".iw-heat-rows")).toEqual(["r0", "r1", "r2"]);
  expect(labels(".iw-heat-bottom")).toEqual(["c0", "c1", "c2", "c3"]);
  expect(el.querySelector(".iw-heat-top")).toBeNull();
});

test("signed numbers on the diverging palette, missing ones hatched", () => {
  const value = (row: number, column: number) => (row ? NaN : [-1, -0.5, 0, 1][column]!);
  const canvas = show({ rows: 2, columns: 4, value, scale: { ...SCALE, signed: true } });
  for (const [column, at] of [0, 0.25, 0.5, 1].entries())
    expect(cellColour(canvas, 0, column, 2, 4)).toEqual(colour("diverging-light", at));
  for (let column = 0; column < 4; column++) expect(colours(canvas, 1, column, 2, 4)).toBeGreaterThan(1);
  expect(colours(canvas, 0, 1, 2, 4)).toBe(1);
});

test("text is written into cells, dots are put on them", () => {
  const plain = { rows: 1, columns: 2, value: () => 0.5, cellWidth: [60, 60] as const, cellHeight: 24 };
  const canvas = show({ ...plain, text: (_: number, column: number) => (column ? "word" : undefined) });
  expect(colours(canvas, 0, 0, 1, 2)).toBe(1);
  expect(colours(canvas, 0, 1, 1, 2)).toBeGreaterThan(3);
  const dotted = show({ ...plain, dotted: (_: number, column: number) => column === 0 });
  expect(colours(dotted, 0, 0, 1, 2)).toBeGreaterThan(1);
  expect(colours(dotted, 0, 1, 1, 2)).toBe(1);
});

test("text that is too long is cut within its cell", () => {
  const canvas = show({ rows: 1, columns: 2, value: () => 0, cellWidth: [50, 50], cellHeight: 24, text: (_, column) => (column ? undefined : "W".repeat(80)) }); // prettier-ignore
  expect(colours(canvas, 0, 0, 1, 2)).toBeGreaterThan(3);
  expect(colours(canvas, 0, 1, 1, 2)).toBe(1);
});

test("pointing tells the cell once, leaving tells that too, a click selects", async () => {
  const canvas = show({ rows: 3, columns: 4, value: telling });
  await userEvent.hover(canvas, { position: middle(canvas, 1, 2, 3, 4) });
  await expect.poll(() => seen.hovered).toEqual([{ row: 1, column: 2 }]);
  await userEvent.hover(canvas, { position: { ...middle(canvas, 1, 2, 3, 4), x: middle(canvas, 1, 2, 3, 4).x + 2 } });
  expect(seen.hovered.length).toBe(1);
  expect(el.querySelector(".iw-heat-hovered")).not.toBeNull();
  await userEvent.click(canvas, { position: middle(canvas, 2, 0, 3, 4) });
  expect(seen.selected).toEqual([{ row: 2, column: 0 }]);
  await userEvent.hover(el.querySelector(".iw-heat-axes")!);
  await expect.poll(() => seen.hovered.at(-1)).toBeNull();
});

test("arrow keys move, and stop at the border", async () => {
  const canvas = show({ rows: 3, columns: 4, value: telling, selected: { row: 0, column: 2 } });
  canvas.focus();
  await userEvent.keyboard("{ArrowUp}{ArrowDown}{ArrowRight}{ArrowLeft}{Home}{End}");
  expect(seen.selected).toEqual([
    { row: 1, column: 2 }, { row: 0, column: 3 }, { row: 0, column: 1 }, { row: 0, column: 0 }, { row: 0, column: 3 },
  ]); // prettier-ignore
});

test("what is selected is framed, and its labels are marked", () => {
  show({ rows: 3, columns: 4, value: telling, selected: { row: 1, column: 3 }, differs: (column) => column === 2 });
  const marked = [...el.querySelectorAll(".iw-marked")].map((label) => label.textContent);
  expect(marked).toEqual(["r1", "c3"]);
  expect(el.querySelector(".iw-differs")!.textContent).toBe("c2");
  const frame = el.querySelector(".iw-heat-selected")!.getBoundingClientRect();
  const box = canvasOf(el).getBoundingClientRect();
  expect(Math.round(frame.left - box.left)).toBe(Math.round((box.width * 3) / 4));
});

test("long labels turn, and on both sides; where there is no room, columns are numbered", async () => {
  const words = { columnLabel: (column: number) => `word number ${column}` };
  show({ rows: 2, columns: 20, value: telling, above: (column) => `other ${column}`, ...words });
  expect(el.querySelectorAll(".iw-turned").length).toBe(2);
  expect(labels(".iw-heat-top")[3]).toBe("other 3");
  show({ rows: 2, columns: 400, value: telling, cellWidth: [1, 2], ...words });
  expect(el.querySelectorAll(".iw-turned").length).toBe(0);
  await expect.poll(() => labels(".iw-heat-bottom").slice(0, 2)).toEqual(["0", "50"]);
  expect(labels(".iw-heat-bottom").length).toBeLessThan(40);
});

test("of thousands of columns only those on screen are looked at, wherever it is scrolled to", async () => {
  const asked = new Set<number>();
  const value = (_: number, column: number) => {
    asked.add(column);
    return column === 1500 ? 1 : 0;
  };
  const canvas = show({ rows: 4, columns: 4000, value, cellWidth: [40, 40], cellHeight: 20 });
  expect(asked.size).toBeLessThan(40);
  expect(el.querySelectorAll(".iw-heat-bottom span").length).toBeLessThan(100);
  const scroller = el.querySelector(".iw-heat-scroll")!;
  scroller.scrollLeft = 1500 * 40;
  await expect.poll(() => seen.windows.at(-1)).toEqual([1472, 1536]);
  expect([...canvas.getContext("2d")!.getImageData(30 * devicePixelRatio, 3, 1, 1).data]).toEqual(colour("light", 1));
  expect(asked.size).toBeLessThan(100);
  await userEvent.click(canvas, { position: { x: 20, y: 50 } });
  expect(seen.selected).toEqual([{ row: 2, column: 1500 }]);
  expect(canvas.width).toBeLessThan(1000 * devicePixelRatio);
});

test("a selection out of sight is scrolled to", async () => {
  const wide = { rows: 2, columns: 3000, value: telling, cellWidth: [40, 40] as const };
  show({ ...wide, selected: { row: 0, column: 2999 } });
  const frame = () => el.querySelector(".iw-heat-selected")!.getBoundingClientRect();
  const box = canvasOf(el).getBoundingClientRect();
  await expect.poll(() => Math.round(frame().right)).toBe(Math.round(box.right));
  expect(seen.windows[0]![1]).toBe(3000);
  show({ ...wide, selected: { row: 0, column: 5 } });
  await expect.poll(() => frame().left).toBeGreaterThanOrEqual(box.left);
});

test("a square grid of many rows fits where it is put", () => {
  const canvas = show({ rows: 300, columns: 300, value: telling, cellWidth: [1, 20], width: 500 });
  const box = canvas.getBoundingClientRect();
  expect(Math.round(box.height)).toBe(Math.round(box.width));
  expect(box.right).toBeLessThanOrEqual(el.getBoundingClientRect().left + 501);
  expect(labels(".iw-heat-rows").length).toBeLessThan(40);
});
