// Direct logit attribution: bars of the right length, opened from layer to head to source token.
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import residual from "../views/residual.tsx";
import { styled } from "./attention.ts";
import { Fake, jsonTile, type Key, tileOf } from "./fake.ts";

const [N, LAYERS, HEADS] = [3, 2, 3];
const WORDS = ["<bos>", "<img src=x onerror=window.hacked=1>", "</script>", "␣b"];
const ends: (() => void)[] = [];

beforeAll(styled);
beforeEach(() => page.viewport(1200, 900));
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** A contribution that tells whose it is. */
const head = (prompt: number | null, layer: number, at: number) =>
  at === HEADS ? 0.25 : [1, -0.5, 2][at]! * (layer + 1) + (prompt ?? 0) / 10;
const attn = (prompt: number | null, layer: number) =>
  [0, 1, 2, 3].reduce((sum, at) => sum + head(prompt, layer, at), 0);
const mlp = (layer: number) => (layer === 1 ? NaN : -1);
const source = (layer: number, at: number, key: number) => (key === 3 ? NaN : (layer + 1) * (at + 1) * (key - 1));

function model(traits: object = {}) {
  const answer = ({ what, prompt: of, layer, head: at }: Key) => {
    const prompt = of as number | null;
    const ends = prompt === null ? [-0.1, 0.1] : [NaN, NaN];
    const told = (value: number) => [value, value + ends[0]!, value + ends[1]!];
    if (what === "rows") {
      const layers = [0, 1].flatMap((l) => [attn(prompt, l), mlp(l)]);
      const values = [0.5, ...layers, 0, 0.75];
      const total = values.reduce((sum, value) => sum + (value || 0), 0);
      return tileOf(Float32Array.from([...values, total].flatMap(told)), [8, 3]);
    }
    if (what === "parts")
      return tileOf(Float32Array.from([0, 1].flatMap((l) => [0, 1, 2, 3].map((h) => head(prompt, l, h)))), [2, 4]);
    if (what === "heads")
      return tileOf(Float32Array.from([0, 1, 2, 3].flatMap((h) => told(head(prompt, layer as number, h)))), [4, 3]);
    if (what === "sources" && at !== 1)
      return tileOf(Float32Array.from(WORDS.map((_, key) => source(layer as number, at as number, key))), [4]);
    if (what === "tokens") return jsonTile({ text: WORDS, ids: null, special: [0] });
    throw new Error("this head does not split");
  };
  const state = {
    title: "Direct logit attribution", measured: "logit(a) − logit(<b>)", prompts: ["0: a", "1: <i>b", "2: c"],
    shape: [N, LAYERS, HEADS], prompt: null, layer: 0, head: null, position: null, sort: "layer", _live: true,
    _opening: [], ...traits,
  }; // prettier-ignore
  return new Fake(state, answer).open([
    { what: "rows", prompt: state.prompt },
    { what: "parts", prompt: state.prompt },
    { what: "heads", prompt: state.prompt, layer: state.layer },
  ]);
}

async function show(fake: Fake, width = 1150) {
  const el = document.createElement("div");
  el.style.width = `${width}px`;
  document.body.append(el);
  const end = await residual.render({ model: fake, el });
  ends.push(() => {
    end();
    el.remove();
  });
  const column = (i: number) => el.querySelectorAll<HTMLElement>(".iw-residual-columns > div")[i]!;
  const rows = (i: number) => [...column(i).querySelectorAll<HTMLElement>(".iw-bars-row")];
  const row = (i: number, label: string) => rows(i).find((each) => each.textContent.startsWith(label))!;
  const bar = (each: HTMLElement) => {
    const { left, width } = each.querySelector("b")!.style;
    return [parseFloat(left), parseFloat(left) + parseFloat(width)] as const;
  };
  const status = () => el.querySelector(".iw-status")!.textContent.replace(/\s+/g, " ");
  return { el, column, rows, row, bar, status };
}

test("each bar begins where the last one ended, and the total reaches their end", async () => {
  const { rows, row, bar } = await show(model());
  expect(rows(0).map((each) => each.querySelector(".iw-bars-label")!.textContent)).toEqual([
    "embed", "L0 attn", "L0 mlp", "L1 attn", "L1 mlp", "rest", "constant", "total",
  ]); // prettier-ignore
  const zero = bar(row(0, "total"))[0];
  const unit = (bar(row(0, "embed"))[1] - zero) / 0.5;
  const near = (found: readonly number[], ...values: number[]) =>
    values.forEach((value, i) => expect(found[i]! - zero).toBeCloseTo(value * unit, 1));
  near(bar(row(0, "L0 attn")), 0.5, 0.5 + attn(null, 0));
  near(bar(row(0, "L0 mlp")), 0.5 + attn(null, 0) - 1, 0.5 + attn(null, 0));
  near(bar(row(0, "total")), 0, 0.5 + attn(null, 0) - 1 + attn(null, 1) + 0.75);
  expect(row(0, "L0 mlp").querySelector("b")!.className).toBe("iw-below");
  expect(row(0, "L1 mlp").textContent).toContain("none");
  expect(row(0, "L0 attn").querySelectorAll("s").length).toBe(4); // its heads and their bias
  expect(row(0, "L0 attn").querySelectorAll("s.iw-below").length).toBe(1);
});

test("a layer opens its heads, a head its source tokens", async () => {
  const fake = model({ prompt: 1 });
  const { rows, row, column, status } = await show(fake);
  await userEvent.click(row(0, "L1 attn"));
  expect(fake.saved).toMatchObject({ layer: 1, head: null });
  await expect
    .poll(() => rows(1).map((each) => each.textContent))
    .toEqual(
      ["L1H0+2.100", "L1H1−0.900", "L1H2+4.100", "bias+0.250"], // prettier-ignore
    );
  expect(column(2).textContent).toContain("Choose a head");
  await userEvent.click(row(1, "L1H2"));
  expect(fake.saved.head).toBe(2);
  await expect
    .poll(() => rows(2).map((each) => each.textContent))
    .toEqual(
      ["<bos>0−6.000", `${WORDS[1]!}10.000`, "</script>2+6.000"], // prettier-ignore
    );
  await expect.poll(status).toContain("layer 1, head 2: +4.1000 logits, prompt 1");
  await userEvent.click(rows(2)[0]!);
  expect(fake.saved.position).toBe(0);
  await expect.poll(status).toContain("from <bos> at position 0: −6.0000 logits");
  await userEvent.click(row(1, "L1H1"));
  await expect.poll(() => column(2).textContent).toContain("this head does not split");
  expect(document.querySelectorAll(".interpwidgets img, .interpwidgets script").length).toBe(0);
});

test("over several prompts there are intervals, and source tokens ask for one prompt", async () => {
  const fake = model({ head: 0 });
  const { el, row, column, status } = await show(fake);
  expect(row(1, "L0H0").querySelector("em")).not.toBeNull();
  await expect.poll(status).toContain("layer 0, head 0: +1.0000 logits (95 % interval +0.9000 … +1.1000), mean over 3");
  await userEvent.click(column(2).querySelector("button")!);
  expect(fake.saved.prompt).toBe(0);
  await expect.poll(() => row(1, "L0H0").querySelector("em")).toBeNull();
  await userEvent.selectOptions(el.querySelector("select")!, "1: <i>b");
  expect(fake.saved.prompt).toBe(1);
  await expect.poll(() => row(1, "L0H0").textContent).toContain("+1.100");
});

test("by size, bars start at zero and the longest comes first", async () => {
  const fake = model();
  const { el, rows, row, bar } = await show(fake);
  await userEvent.click([...el.querySelectorAll("button")].find((button) => button.textContent === "size")!);
  expect(fake.saved.sort).toBe("size");
  await expect.poll(() => rows(0)[0]!.textContent).toContain("L1 attn");
  expect(rows(0).at(-1)!.textContent).toContain("total");
  expect(bar(row(0, "embed"))[0]).toBeCloseTo(bar(row(0, "constant"))[0], 3);
  expect(rows(1).map((each) => each.querySelector(".iw-bars-label")!.textContent)).toEqual(["L0H2", "L0H0", "L0H1", "bias"]); // prettier-ignore
});

test("arrow keys move through the layers, and what Python sets is marked", async () => {
  const fake = model({ layer: 1 });
  const { column, row, rows } = await show(fake);
  column(0).querySelector<HTMLElement>("[role=listbox]")!.focus();
  expect(row(0, "L1 attn").getAttribute("aria-selected")).toBe("true");
  await userEvent.keyboard("{ArrowUp}");
  await expect.poll(() => row(0, "L0 mlp").getAttribute("aria-selected")).toBe("true");
  expect(fake.saved).toMatchObject({ layer: 0 });
  await userEvent.keyboard("{ArrowUp}");
  await expect.poll(() => row(0, "L0 attn").getAttribute("aria-selected")).toBe("true");
  await userEvent.keyboard("{End}");
  await expect.poll(() => row(0, "total").getAttribute("aria-selected")).toBe("true");
  fake.change("layer", 1);
  fake.change("head", 0);
  await expect.poll(() => rows(1)[0]!.getAttribute("aria-selected")).toBe("true");
});

test("hovering tells a number and tells Python nothing; the direct path is named", async () => {
  const fake = model();
  const { el, row, status } = await show(fake);
  await userEvent.hover(row(0, "constant"));
  await expect.poll(status).toContain("biases of the final norm and unembedding: +0.7500 logits");
  expect(fake.saved).toEqual({});
  expect(el.textContent).toContain("the direct path only");
  expect(el.textContent).toContain("not a causal effect");
});

test("narrow, it stacks; a saved copy says what it lacks", async () => {
  const fake = model({ _live: false, prompt: 0, head: 1 });
  const { column, status } = await show(fake, 360);
  const boxes = [0, 1, 2].map((i) => column(i).getBoundingClientRect());
  expect(boxes[1]!.top).toBeGreaterThanOrEqual(boxes[0]!.bottom);
  expect(boxes[0]!.right).toBeLessThanOrEqual(boxes[0]!.left + 360);
  expect(status()).toContain("saved copy");
  await expect.poll(() => column(2).textContent).toContain("this head does not split");
});

test("of many source tokens the largest are bars, and the others one", async () => {
  const fake = model({ prompt: 0, head: 0 });
  const values = Float32Array.from({ length: 500 }, (_, i) => (i % 100 === 7 ? 1 : 0.001));
  const answer = fake.tile;
  fake.tile = (key) => (key.what === "sources" ? tileOf(values, [500]) : answer(key));
  const { rows } = await show(fake);
  await expect.poll(() => rows(2).length).toBe(41);
  expect(rows(2).at(-1)!.textContent).toBe("460 others+0.460");
});
