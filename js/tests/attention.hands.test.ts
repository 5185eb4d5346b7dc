// Real clicks and keys on the attention view, and what reaches Python.
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import { cellAt, colour, endAll, HEADS, LAYERS, model, pixel, show, styled, type Shown, telling } from "./attention.ts";
import { type Fake, jsonTile, tileOf } from "./fake.ts";

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

describe("mouse", () => {
  let fake: Fake;
  let shown: Shown;
  beforeEach(async () => {
    fake = model([{ tokens: WORDS, ids: [5, 6, 7, 8, 9, 6] }], { colour_range: [0, 1] });
    shown = await show(fake);
  });

  test("a click on a thumbnail chooses the head", async () => {
    await userEvent.click(shown.head(1, 2));
    await traits(fake, "layer", "head", "aggregate").toEqual([1, 2, "none"]);
    await expect.poll(() => pixel(shown.canvas(), 4, 2, T)).toEqual(colour("light", telling(1, 2, 4, 2)));
  });

  test("a click in the matrix keeps a weight, a second lets it go", async () => {
    await click(shown, 4, 1);
    await traits(fake, "query", "key").toEqual([4, 1]);
    await userEvent.hover(shown.one(".iw-title"));
    await expect.poll(() => shown.text(".iw-status")).toContain(`${telling(0, 0, 4, 1).toFixed(4)} selected`);
    await click(shown, 4, 1);
    await traits(fake, "query", "key").toEqual([null, null]);
  });

  test("the weight under the pointer is exact, and stays in the page", async () => {
    for (const [q, k] of [
      [5, 0],
      [3, 3],
      [2, 1],
    ] as const) {
      await hover(shown, q, k);
      await expect
        .poll(() => shown.text(".iw-status"))
        .toContain(`query ${WORDS[q]!}${q} → key ${WORDS[k]!}${k}: ${telling(0, 0, q, k).toFixed(4)}`);
    }
    await hover(shown, 1, 4);
    await expect.poll(() => shown.text(".iw-status")).toContain("masked (a later token)");
    expect(fake.saved).toEqual({});
    await userEvent.hover(shown.one(".iw-title"));
    await expect.poll(() => shown.text(".iw-status")).toContain("Hover a weight");
  });

  test("Ctrl and the wheel zoom; a plain wheel is the notebook's", async () => {
    const wheel = (ctrlKey: boolean, deltaY: number) => {
      const box = shown.canvas().getBoundingClientRect();
      const { x, y } = cellAt(shown.canvas(), 2, 2, T);
      const event = new WheelEvent("wheel", {
        ctrlKey,
        deltaY,
        clientX: box.x + x,
        clientY: box.y + y,
        cancelable: true,
      });
      shown.canvas().dispatchEvent(event);
      return event.defaultPrevented;
    };
    await expect.poll(() => wheel(true, -100)).toBe(true);
    expect(wheel(false, -100)).toBe(false);
    await traits(fake, "viewport").not.toEqual([undefined]);
    const [top, bottom, left, right] = fake.saved.viewport as number[];
    expect(bottom! - top!).toBeLessThan(T);
    expect(right! - left!).toBeLessThan(T);
    const middle = ((2.5 - left!) / (right! - left!)) * shown.canvas().width;
    const row = ((2.5 - top!) / (bottom! - top!)) * shown.canvas().height;
    const at = () => [...shown.canvas().getContext("2d")!.getImageData(middle, row, 1, 1).data];
    await expect.poll(at).toEqual(colour("light", telling(0, 0, 2, 2)));
    await userEvent.click(shown.one("button", "all"));
    await traits(fake, "viewport").toEqual([[]]);
    await expect.poll(() => pixel(shown.canvas(), 5, 0, T)).toEqual(colour("light", telling(0, 0, 5, 0)));
  });

  test("a drag moves the zoomed matrix and selects nothing", async () => {
    fake.change("viewport", [0, 4, 0, 4]);
    const canvas = shown.canvas();
    const before = cellAt(canvas, 2, 2, 4);
    await expect.poll(() => pixel(canvas, 3, 3, 4)).toEqual(colour("light", telling(0, 0, 3, 3)));
    const after = cellAt(canvas, 1, 1, 4);
    await userEvent.dragAndDrop(canvas, canvas, { sourcePosition: before, targetPosition: after });
    await traits(fake, "viewport").not.toEqual([undefined]);
    const viewport = fake.saved.viewport as number[];
    for (const [i, edge] of [1, 5, 1, 5].entries()) expect(viewport[i]).toBeCloseTo(edge, 1);
    expect([fake.saved.query, fake.saved.key]).toEqual([undefined, undefined]);
    await expect.poll(() => pixel(canvas, 3, 3, 4)).toEqual(colour("light", telling(0, 0, 4, 4)));
  });

  test.each(["shift", "the checkbox"])("a region painted with %s ranks the heads", async (how) => {
    const canvas = shown.canvas();
    const [sourcePosition, targetPosition] = [cellAt(canvas, 2, 0, T), cellAt(canvas, 4, 1, T)];
    if (how === "shift") await userEvent.keyboard("{Shift>}");
    else await userEvent.click(shown.one("label", "paint a region"));
    await userEvent.dragAndDrop(canvas, canvas, { sourcePosition, targetPosition });
    if (how === "shift") await userEvent.keyboard("{/Shift}");
    await traits(fake, "region", "sort_by").toEqual([[2, 5, 0, 2], "region"]);
    const score = (layer: number, head: number) => {
      let sum = 0;
      for (const q of [2, 3, 4]) for (const k of [0, 1]) sum += telling(layer, head, q, k);
      return sum / 3;
    };
    const heads = Array.from({ length: LAYERS * HEADS }, (_, i) => [Math.floor(i / HEADS), i % HEADS] as const);
    heads.sort((a, b) => score(...b) - score(...a));
    const ranked = heads.map(([l, h]) => `${l}.${h} ${score(l, h).toFixed(2)}`);
    await expect.poll(() => shown.all(".iw-thumbs button small").map((small) => small.textContent)).toEqual(ranked);
    await userEvent.click(shown.one("button", "clear region"));
    await traits(fake, "region", "sort_by").toEqual([[], ""]);
  });

  test("a click on a token shades by it, and the strongest are buttons", async () => {
    await userEvent.click(shown.all(".iw-tokens span")[3]!);
    await traits(fake, "query").toEqual([3]);
    const order = [0, 1, 2, 3].sort((a, b) => telling(0, 0, 3, b) - telling(0, 0, 3, a));
    await expect.poll(() => shown.text(".iw-caption")).toContain("what query ␣on3 attends to");
    await userEvent.hover(shown.one(".iw-title"));
    const best = order[0]!;
    await expect
      .poll(() => shown.all(".iw-strongest button")[0]!.textContent)
      .toBe(`${WORDS[best]!}${best} ${telling(0, 0, 3, best).toFixed(4)}`);
    await userEvent.click(shown.all(".iw-strongest button")[0]!);
    await traits(fake, "query", "key").toEqual([3, best]);
    await userEvent.click(shown.one("button", "to a key"));
    await traits(fake, "direction").toEqual(["key"]);
    await userEvent.hover(shown.one(".iw-title"));
    await expect.poll(() => shown.text(".iw-caption")).toContain(`which queries attend to key ${WORDS[best]!}${best}`);
  });

  test("a token's tooltip tells its position, id and weight", async () => {
    const token = () => shown.all(".iw-tokens span")[1]!;
    await userEvent.hover(token());
    await expect.poll(() => token().title).toBe(`␣cat · position 1 · id 6 · ${telling(0, 0, 1, 1).toFixed(4)}`);
    fake.change("head", 1); // other weights under a pointer at rest
    await expect.poll(() => token().title).toBe(`␣cat · position 1 · id 6 · ${telling(0, 1, 1, 1).toFixed(4)}`);
  });

  test("the range of colours is set by its ends, and set free again", async () => {
    const high = shown.all(".iw-range input")[1] as HTMLInputElement;
    await userEvent.fill(high, "0.25");
    await userEvent.tab();
    await traits(fake, "colour_range").toEqual([[0, 0.25]]);
    await userEvent.click(shown.one("button", "auto"));
    await traits(fake, "colour_range").toEqual([[]]);
    await expect.poll(() => Number((shown.all(".iw-range input")[1] as HTMLInputElement).value)).toBeGreaterThan(0.5);
  });
});

describe("keyboard", () => {
  test("arrows walk over weights, plus and minus zoom, zero shows all", async () => {
    const fake = model([{ tokens: WORDS }], { query: 3, key: 1 });
    const shown = await show(fake);
    await expect.poll(() => shown.text(".iw-status")).toContain("query ␣on3");
    shown.canvas().focus();
    for (const [keys, cell] of [
      ["{ArrowDown}", [4, 1]],
      ["{ArrowRight}", [4, 2]],
      ["{ArrowUp}{ArrowUp}", [2, 2]],
      ["{ArrowLeft}{ArrowLeft}{ArrowLeft}", [2, 0]],
    ] as const) {
      await userEvent.keyboard(keys);
      await traits(fake, "query", "key").toEqual(cell);
    }
    await userEvent.keyboard("+");
    await traits(fake, "viewport").not.toEqual([undefined]);
    expect((fake.saved.viewport as number[])[1]! - (fake.saved.viewport as number[])[0]!).toBeLessThan(T);
    await userEvent.keyboard("0");
    await traits(fake, "viewport").toEqual([[]]);
  });

  test("arrows walk over heads, in the order shown", async () => {
    const fake = model([{ tokens: WORDS }]);
    const shown = await show(fake);
    shown.head(0, 0).focus();
    await userEvent.keyboard("{ArrowRight}");
    await traits(fake, "layer", "head").toEqual([0, 1]);
    await userEvent.keyboard("{ArrowDown}");
    await traits(fake, "layer", "head").toEqual([1, 1]);
    await expect.poll(() => document.activeElement).toBe(shown.head(1, 1));
    await userEvent.keyboard("{ArrowDown}");
    await traits(fake, "layer", "head").toEqual([1, 1]);
  });

  test("everything that can be clicked can be reached, and has a name", async () => {
    const shown = await show(model([{ tokens: WORDS }, { tokens: WORDS }]));
    for (const control of shown.all("button, select, input, canvas[tabindex]")) {
      const label = control.getAttribute("aria-label") ?? control.closest("label")?.textContent ?? control.textContent;
      expect(label.trim(), control.outerHTML).not.toBe("");
    }
    expect(shown.all(".iw-thumbs button[tabindex='0']").length).toBe(1);
    expect(shown.canvas().getAttribute("aria-label")).toContain("layer 0, head 0");
    expect(shown.one(".iw-status").getAttribute("role")).toBe("status");
  });
});

describe("finding", () => {
  test("search marks tokens and next walks through them", async () => {
    const fake = model([{ tokens: WORDS }]);
    const shown = await show(fake);
    await userEvent.fill(shown.one("input[type=search]"), " CAT");
    await traits(fake, "search").toEqual([" CAT"]);
    const marked = () => shown.all(".iw-tokens span").flatMap((span, i) => (span.matches(".iw-found") ? [i] : []));
    await expect.poll(marked).toEqual([1, 5]);
    for (const expected of [1, 5, 1]) {
      await userEvent.click(shown.one("button", "next"));
      await traits(fake, "query").toEqual([expected]);
    }
    await userEvent.fill(shown.one("input[type=search]"), "zebra");
    await expect.poll(() => shown.el.textContent).toContain("0 found");
    expect(marked()).toEqual([]);
  });

  test("heads are ranked by a score, and a score that fails says why", async () => {
    const fake = model([{ tokens: WORDS }], { labels: [[1, 0, "induction"]] });
    const shown = await show(fake);
    await userEvent.selectOptions(shown.one(".iw-heads select"), "mine");
    await traits(fake, "sort_by").toEqual(["mine"]);
    const scores = () => shown.all(".iw-thumbs button small b").map((b) => Number(b.textContent));
    await expect.poll(() => scores().length).toBe(LAYERS * HEADS);
    expect(scores()).toEqual([...scores()].sort((a, b) => b - a));
    await userEvent.hover(shown.head(1, 0));
    await expect.poll(() => shown.head(1, 0).title).toContain("layer 1 head 0, induction, mine");
    fake.change("sort_by", "broken");
    await expect
      .poll(() => shown.all("[role=alert]").map((alert) => alert.textContent))
      .toEqual(["ValueError: that score cannot be had"]);
  });
});

describe("a recording", () => {
  const outcome = { how: "head 2 is zero", position: 3, tokens: ["␣mat", "<b>"], before: [0.75, 0.1], after: [0.25, 0.4], kl: 0.5 }; // prettier-ignore
  const recorded = (traits: object = {}) => {
    const fake = model([{ tokens: WORDS }], { ...traits });
    fake.state.prompts[0].recorded = true;
    const plain = fake.tile;
    fake.tile = (key) => {
      if (key.what === "ablate") return jsonTile({ ...outcome, how: JSON.stringify(key) });
      const tile = plain(key);
      if (!key.weigh || key.what !== "rows") return tile;
      const weights = new Float32Array(tile.bytes.slice().buffer).map((weight, i) => (i % 2 ? -weight : weight));
      return tileOf(weights, tile.meta.shape as number[]);
    };
    return fake;
  };

  test("an array offers neither weighing nor ablation", async () => {
    const shown = await show(model([{ tokens: WORDS }]));
    expect(shown.all(".iw-ablation")).toEqual([]);
    expect(shown.el.textContent).not.toContain("length of value");
  });

  test("weights are asked for as weighed, with the token, and said to be", async () => {
    const fake = recorded();
    const shown = await show(fake);
    const select = [...shown.el.querySelectorAll("select")].find(({ textContent }) => textContent.includes("logit"))!;
    await userEvent.selectOptions(select, "× effect on a logit");
    await traits(fake, "weigh").toEqual(["logit"]);
    await expect.poll(() => fake.asked.flat().some((key) => key.includes('"weigh":"logit"'))).toBe(true);
    await userEvent.fill(shown.one("input[placeholder='the next token']"), "␣mat");
    await userEvent.keyboard("{Enter}");
    await traits(fake, "token").toEqual(["␣mat"]);
    await expect.poll(() => fake.asked.flat().at(-1)).toContain('"weigh":"logit ␣mat"');
    expect(shown.text(".iw-about")).toContain("added directly to the logit of ␣mat");
    await hover(shown, 4, 1);
    await expect.poll(() => shown.text(".iw-status")).toContain(`−${telling(0, 0, 4, 1).toFixed(4)}`);
  });

  test("without a head, the next token is another; another head is another run", async () => {
    const fake = recorded({ query: 3, key: 1 });
    const shown = await show(fake);
    expect(shown.text(".iw-ablation")).toContain("run the model without it");
    await userEvent.selectOptions(shown.one(".iw-ablation select"), "zero in its place");
    await traits(fake, "ablate").toEqual(["zero"]);
    await expect.poll(() => shown.text(".iw-outcome")).toContain("␣mat75 %25 %−50.0");
    expect(shown.text(".iw-outcome")).toContain("<b>10 %40 %+30.0");
    expect(shown.text(".iw-outcome")).toContain('"layer":0,"head":0,"kind":"zero","position":3');
    shown.head(1, 2).click();
    await expect.poll(() => shown.text(".iw-outcome")).toContain('"layer":1,"head":2,"kind":"zero","position":3');
  });

  test("a saved page says what it cannot run", async () => {
    const fake = recorded({ _live: false, ablate: "mean" });
    fake.tile = () => {
      throw new Error("not stored in this page");
    };
    const shown = await show(fake);
    await expect.poll(() => shown.text(".iw-ablation")).toContain("This needs a running kernel.");
  });
});
