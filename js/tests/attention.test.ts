// The attention view with several prompts, hostile tokens, little room, and trouble.
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import { cellAt, colour, endAll, model, pixel, show, styled, type Shown, telling } from "./attention.ts";
import type { Fake } from "./fake.ts";

const WORDS = ["the", "␣cat", "␣sat", "␣on", "␣the", "␣cat"];
const T = WORDS.length;

beforeAll(styled);
beforeEach(() => page.viewport(1200, 1000));
afterEach(endAll);

const traits = (fake: Fake, ...names: string[]) => expect.poll(() => names.map((name) => fake.saved[name]));
const click = (shown: Shown, query: number, key: number) =>
  userEvent.click(shown.canvas(), { position: cellAt(shown.canvas(), query, key, T) });
const hover = (shown: Shown, query: number, key: number) =>
  userEvent.hover(shown.canvas(), { position: cellAt(shown.canvas(), query, key, T) });

describe("several views and prompts", () => {
  test("two views of one model show the same, and answer to each other", async () => {
    const fake = model([{ tokens: WORDS }], { colour_range: [0, 1] });
    const [one, other] = [await show(fake), await show(fake)];
    await userEvent.click(one.head(1, 1));
    for (const shown of [one, other])
      await expect.poll(() => pixel(shown.canvas(), 3, 1, T)).toEqual(colour("light", telling(1, 1, 3, 1)));
    one.end();
    await userEvent.click(other.head(0, 2));
    await expect.poll(() => pixel(other.canvas(), 3, 1, T)).toEqual(colour("light", telling(0, 2, 3, 1)));
  });

  const other = (l: number, h: number, q: number, k: number) => (k > q ? 0 : telling(l, h, q, k) / 2);
  const two = [
    { name: "clean", tokens: WORDS },
    { name: "corrupted", tokens: [...WORDS.slice(0, 5), "␣dog"], weights: other },
  ];

  test("two prompts stand side by side, then as a difference", async () => {
    const fake = model(two, { colour_range: [0, 1] });
    const shown = await show(fake);
    await userEvent.selectOptions(shown.all("header select")[1]!, "corrupted");
    await traits(fake, "compare").toEqual([1]);
    const canvases = () => shown.all(".iw-pixels canvas") as HTMLCanvasElement[];
    await expect.poll(() => canvases().length).toBe(2);
    expect(shown.all("figcaption").map((caption) => caption.textContent)).toEqual(["clean", "corrupted"]);
    await expect.poll(() => pixel(canvases()[0]!, 4, 1, T)).toEqual(colour("light", telling(0, 0, 4, 1)));
    await expect.poll(() => pixel(canvases()[1]!, 4, 1, T)).toEqual(colour("light", other(0, 0, 4, 1)));
    await userEvent.click(shown.one("label", "difference"));
    await traits(fake, "difference").toEqual([true]);
    await expect.poll(() => canvases().length).toBe(1);
    fake.change("colour_range", [0, 1]);
    const difference = telling(0, 0, 4, 1) - other(0, 0, 4, 1);
    await expect.poll(() => pixel(shown.canvas(), 4, 1, T)).toEqual(colour("diverging-light", (1 + difference) / 2));
    await hover(shown, 4, 1);
    await expect.poll(() => shown.text(".iw-status")).toContain(difference.toFixed(4));
  });

  test("the prompt chosen is never beside itself", async () => {
    const fake = model(two, { compare: 1, query: 2, viewport: [0, 5, 0, 5], region: [0, 2, 0, 2], sort_by: "region" });
    const shown = await show(fake);
    await userEvent.selectOptions(shown.all("header select")[0]!, "corrupted");
    await traits(fake, "prompt", "compare", "query", "viewport", "sort_by").toEqual([1, 0, null, [], ""]);
    await expect
      .poll(() => shown.all("figcaption").map((caption) => caption.textContent))
      .toEqual(["corrupted", "clean"]);
    fake.change("compare", 1);
    await expect.poll(() => shown.all(".iw-pixels").length).toBe(1);
  });

  test("queries and keys of different texts have their own tokens", async () => {
    const [queries, keys] = [
      ["le", "␣chat"],
      ["the", "␣cat", "␣sat"],
    ];
    const weights = (_l: number, _h: number, q: number, k: number) => (1 + q + 2 * k) / 10;
    const fake = model([{ tokens: queries, keyTokens: keys, weights, causal: false }], { colour_range: [0, 1] });
    const shown = await show(fake);
    for (let q = 0; q < 2; q++)
      for (let k = 0; k < 3; k++)
        await expect.poll(() => pixel(shown.canvas(), q, k, 2, 3)).toEqual(colour("light", weights(0, 0, q, k)));
    await userEvent.hover(shown.canvas(), { position: cellAt(shown.canvas(), 0, 2, 2, 3) });
    await expect.poll(() => shown.text(".iw-status")).toContain("query le0 → key ␣sat2: 0.5000");
    expect(shown.all(".iw-tokens").map((strip) => strip.textContent.trim())).toEqual(["le␣chat", "the␣cat␣sat"]);
    await userEvent.click(shown.canvas(), { position: cellAt(shown.canvas(), 1, 2, 2, 3) });
    await traits(fake, "query", "key").toEqual([1, 2]);
  });
});

test("arcs are the same weights", async () => {
  const fake = model([{ tokens: WORDS }], { colour_range: [0, 1] });
  const shown = await show(fake);
  await userEvent.click(shown.one("button", "arcs"));
  await traits(fake, "reading").toEqual(["arcs"]);
  const weights = () => shown.all(".iw-arcs path title").map((title) => title.textContent);
  const expected: string[] = [];
  for (let q = 0; q < T; q++) for (let k = 0; k <= q; k++) expected.push(telling(0, 0, q, k).toFixed(4));
  await expect.poll(() => weights().sort()).toEqual(expected.sort());
  await userEvent.click(shown.all(".iw-arc-query")[2]!);
  await traits(fake, "query").toEqual([2]);
  await userEvent.click(shown.all(".iw-arc-key")[1]!);
  await traits(fake, "key").toEqual([1]);
});

test("special tokens fade", async () => {
  const fake = model([{ tokens: ["<s>", ...WORDS.slice(1)], special: [0, 3] }]);
  const shown = await show(fake);
  await userEvent.click(shown.one("label", "fade special"));
  await traits(fake, "dim_special").toEqual([true]);
  const faded = () => shown.all(".iw-tokens span").flatMap((span, i) => (span.matches(".iw-faded") ? [i] : []));
  await expect.poll(faded).toEqual([0, 3]);
  await expect.poll(() => shown.all(".iw-veil").length).toBe(4);
});

const TORTURE = [
  "<s>", "</script>", "&lt;", "<img src=x onerror=window.hacked=1>", "␣␣two", "↵", "⇥", "⟨E2⟩", "⟨U+202E⟩", "עברית",
  "العربية", "日本", "${hacked}", "javascript:alert(1)", '" onmouseover="window.hacked=1', "e⟨U+0301⟩",
]; // prettier-ignore

test.each(["matrix", "arcs"])("a token is text, whatever it says, as %s", async (reading) => {
  const size = TORTURE.length;
  const names = { name: TORTURE[3]!, tokens: TORTURE, ids: TORTURE.map((_, i) => i) };
  const labels = [[0, 0, TORTURE[3]]];
  const fake = model([names, names], {
    reading,
    title: TORTURE[3],
    labels,
    score_names: [TORTURE[3]],
    query: 3,
    key: 3,
  });
  const shown = await show(fake);
  await expect.poll(() => shown.all(".iw-tokens span").map((bdi) => bdi.textContent)).toEqual(TORTURE);
  if (reading === "arcs") {
    const arcs = () => shown.all(".iw-arc-key bdi").map((bdi) => bdi.textContent);
    await expect.poll(arcs).toEqual(TORTURE);
  } else {
    await expect.poll(() => shown.all(".iw-axis-query bdi").map((bdi) => bdi.textContent)).toEqual(TORTURE);
    await userEvent.hover(shown.canvas(), { position: cellAt(shown.canvas(), 3, 1, size) });
    await expect.poll(() => shown.text(".iw-status")).toContain(`${TORTURE[3]!}3 → key </script>1`);
  }
  expect(shown.text(".iw-title")).toBe(TORTURE[3]);
  expect(shown.all("img, script, iframe, link, style")).toEqual([]);
  expect(shown.all("*").filter((e) => [...e.attributes].some(({ name }) => name.startsWith("on")))).toEqual([]);
  expect("hacked" in window).toBe(false);
  // A token that runs from right to left must not reorder the ones beside it.
  const boxes = shown.all(".iw-tokens span").map((span) => span.getBoundingClientRect());
  for (const [i, box] of boxes.slice(1).entries())
    expect(box.top > boxes[i]!.top + 2 || box.left >= boxes[i]!.right - 2, TORTURE[i + 1]).toBe(true);
});

describe("layout", () => {
  test.each([360, 480, 700, 900, 1180])("%d pixels: nothing sticks out", async (width) => {
    const shown = await show(model([{ tokens: WORDS }, { tokens: WORDS }], { compare: 1 }), width);
    await expect.poll(() => shown.canvas().clientWidth).toBeGreaterThan(100);
    const right = shown.el.getBoundingClientRect().right;
    for (const element of shown.all("canvas, button, input, select, .iw-tokens"))
      expect(element.getBoundingClientRect().right, element.outerHTML.slice(0, 80)).toBeLessThanOrEqual(right + 1);
  });

  test("a view grows and shrinks with its place", async () => {
    const shown = await show(model([{ tokens: WORDS }], { colour_range: [0, 1] }), 1100);
    await expect.poll(() => shown.all(".iw-narrow").length).toBe(0);
    shown.el.style.width = "400px";
    await expect.poll(() => shown.all(".iw-narrow").length).toBe(1);
    await expect.poll(() => pixel(shown.canvas(), 3, 1, T)).toEqual(colour("light", telling(0, 0, 3, 1)));
    shown.el.style.width = "1000px";
    await expect.poll(() => shown.all(".iw-narrow").length).toBe(0);
  });
});

describe("trouble", () => {
  test("an error of Python is shown where the picture would be", async () => {
    const fake = model([{ tokens: WORDS }]);
    const answer = fake.tile;
    fake.tile = (key) => {
      if (key.what === "rows" && key.head === "rollout") throw new Error("InputError: A rollout needs self-attention.");
      return answer(key);
    };
    const shown = await show(fake);
    fake.change("aggregate", "rollout");
    await expect
      .poll(() => shown.all(".iw-matrix [role=alert]").map((alert) => alert.textContent))
      .toEqual(["InputError: A rollout needs self-attention."]);
    fake.change("aggregate", "none");
    await expect.poll(() => shown.all("[role=alert]").length).toBe(0);
  });

  test("an error of the page is shown in words", async () => {
    const fake = model([{ tokens: WORDS }]);
    fake.state.prompts = [];
    const shown = await show(fake);
    await expect.poll(() => shown.text("[role=alert]")).toContain("This view failed");
    expect(shown.text("[role=alert]")).toContain("Run the cell again");
  });

  test("a saved copy says that nothing is computed, and asks nobody", async () => {
    const fake = model([{ tokens: WORDS }], { _live: false });
    const shown = await show(fake);
    await expect.poll(() => shown.text(".iw-status")).toContain("saved copy");
    expect(fake.asked).toEqual([]);
  });

  test("after its end a view neither listens nor stands in the page", async () => {
    const fake = model([{ tokens: WORDS }]);
    const shown = await show(fake);
    await expect.poll(() => fake.listening).toBeGreaterThan(5);
    await click(shown, 3, 1);
    shown.end();
    await expect.poll(() => fake.listening).toBe(0);
    expect(shown.el.childElementCount).toBe(0);
    const before = fake.asked.length;
    fake.change("layer", 1);
    fake.change("sort_by", "mine");
    document.documentElement.setAttribute("style", "--jp-ui-font-color1: #eee");
    await new Promise(requestAnimationFrame);
    expect(fake.asked.length).toBe(before);
  });
});
