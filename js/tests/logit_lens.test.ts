// The logit lens in a page: what its cells say, what a click and a key select, a token that is followed, any length.
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import logitLens from "../views/logit_lens.tsx";
import { Fake, jsonTile, type Key, tileOf } from "./fake.ts";
import { canvasOf, cellColour, colour, colours, middle } from "./grid.ts";
import { chunkOf, endAll, show, styled } from "./text.ts";

const WORDS = ["the", "␣cat", "␣sat", "␣on", "↵"];
const LAYERS = [0, 1, 2];
const BLOCK = 4;

beforeAll(styled);
beforeEach(() => page.viewport(1200, 1000));
afterEach(endAll);

/** Numbers that tell where they are from. */
const probability = (layer: number, position: number) => (1 + ((5 * layer + 3 * position) % 9)) / 11;
const ofToken = (token: number, layer: number, position: number) => ((token + layer + 2 * position) % 10) / 11;

/** Python's answers for one or several prompts of these words. */
function model(texts: string[][], traits: object = {}, kl = true): Fake {
  const prompts = texts.map((text, i) => ({
    name: `prompt ${i}`, model: "tiny", kind: "logit lens", site: "resid_post", layers: LAYERS, size: text.length,
    block: BLOCK, vocabulary: 100, kl,
  })); // prettier-ignore
  const answer = ({ what, prompt, ...key }: Key) => {
    const size = texts[prompt]!.length;
    const first = BLOCK * (key.block as number);
    const positions = Array.from({ length: Math.min(BLOCK, size - first) }, (_, i) => first + i);
    const plane = (of: (layer: number, position: number) => number) => LAYERS.flatMap((l) => positions.map((p) => of(l, p))); // prettier-ignore
    if (what === "tokens") return jsonTile(chunkOf(texts[prompt]!, key.chunk as number));
    if (what === "lens") {
      const values = [plane(probability), plane((l, p) => 2 * probability(l, p)), plane((l) => (kl ? 2 - l : NaN))];
      return tileOf(Float32Array.from(values.flat()), [3, LAYERS.length, positions.length]);
    }
    if (what === "tops") return jsonTile(LAYERS.map((l) => positions.map((p) => `w${l}.${p}`)));
    if (what === "token") {
      if (key.text === "Mary") throw new Error("'Mary' is 2 tokens to tiny. One token would be ' Mary'.");
      return jsonTile({ token: 7, text: key.text });
    }
    if (what === "standing") {
      const of = key.of === "rank" ? 10 : 1;
      return tileOf(Float32Array.from(plane((l, p) => of * ofToken(key.token as number, l, p))), [3, positions.length]);
    }
    if (what === "cell") {
      const ids = [3, 4, ...(key.token >= 0 ? [key.token as number] : [])];
      const lines = ids.map((id) => LAYERS.map((l) => ofToken(id, l, key.position as number)));
      return jsonTile({ tokens: ids.map((id) => `t${id}`), ids, ranks: ids.map((_, i) => i), lines });
    }
    if (what === "writes") {
      if (key.layer === 0) throw new Error("InputError: these do not split.");
      return jsonTile({
        token: `t${key.token < 0 ? 3 : key.token}`, labels: ["embed", "L0 attn", "L0 mlp", "rest", "constant"],
        values: [1, -2, 0.5, 0, 0.25], heads: [[-1, -0.75]], total: -0.25, scale: 3.5, softcap: null,
      }); // prettier-ignore
    }
    throw new Error(`no tile is called ${what}`);
  };
  const state = {
    title: "Logit lens", prompts, prompt: 0, compare: null, layer: 2, position: texts[0]!.length - 1,
    measure: "probability", token: "", top_k: 2, scale: "linear", colour_range: [], _live: true, _opening: [],
    _version: 0, ...traits,
  }; // prettier-ignore
  return new Fake(state, answer);
}

const trait = (fake: Fake, ...names: string[]) => expect.poll(() => names.map((name) => fake.saved[name]));
const T = WORDS.length;
const at = (el: HTMLElement, layer: number, position: number) => middle(canvasOf(el), 2 - layer, position, 3, T);
const seen = (el: HTMLElement, layer: number, position: number, which = 0) => cellColour(canvasOf(el, which), 2 - layer, position, 3, T); // prettier-ignore

describe("what is drawn", () => {
  test("each cell on the colour of its probability, the last layer on top, with a word in it", async () => {
    const { el, text } = await show(logitLens, model([WORDS]));
    for (const layer of LAYERS)
      for (const position of WORDS.keys())
        await expect.poll(() => seen(el, layer, position)).toEqual(colour("light", probability(layer, position)));
    expect(colours(canvasOf(el), 0, 1, 3, T)).toBeGreaterThan(3);
    const labels = (where: string) => [...el.querySelectorAll(`${where} bdi`)].map((each) => each.textContent);
    expect(labels(".iw-heat-rows")).toEqual(["2", "1", "0"]);
    await expect.poll(() => labels(".iw-heat-bottom")).toEqual(WORDS);
    expect(text(".iw-about")).toContain("3 layers, the last on top; 5 positions");
  });

  test("other measures have their own colours and legends; KL is not there without the last layer", async () => {
    const fake = model([WORDS]);
    const { el, one, text } = await show(logitLens, fake);
    const most = Math.log(100);
    await userEvent.selectOptions(one("select"), "entropy (nats)");
    await trait(fake, "measure", "scale", "colour_range").toEqual(["entropy", "linear", []]);
    await expect.poll(() => seen(el, 1, 2)).toEqual(colour("light", (2 * probability(1, 2)) / most));
    fake.change("measure", "kl");
    await expect.poll(() => seen(el, 0, 0)).toEqual(colour("light", 2 / most));
    await expect.poll(() => text(".iw-ramp")).toContain("nats");
    fake.change("colour_range", [0, 2]);
    await expect.poll(() => seen(el, 1, 0)).toEqual(colour("light", 0.5));
    const without = await show(logitLens, model([WORDS], {}, false));
    expect([...without.one("select").querySelectorAll("option")].length).toBe(2);
  });

  test("dark", async () => {
    document.documentElement.setAttribute("style", "--jp-ui-font-color1: #eee; --jp-layout-color0: #111");
    const { el } = await show(logitLens, model([WORDS]));
    await expect.poll(() => seen(el, 1, 2)).toEqual(colour("dark", probability(1, 2)));
  });

  test("of a long prompt only what is on screen is asked for, and the selection is on screen", async () => {
    const fake = model([Array.from({ length: 2048 }, (_, i) => `t${i}`)]);
    const { el } = await show(logitLens, fake, 800);
    const blocks = () => new Set(fake.asked.flat().map((key) => (JSON.parse(key) as Key).block as number | undefined).filter((block) => block !== undefined)); // prettier-ignore
    await expect.poll(() => [...blocks()].some((block) => block === 511)).toBe(true);
    expect(blocks().size).toBeLessThan(20);
    el.querySelector(".iw-heat-scroll")!.scrollLeft = 0;
    await expect.poll(() => blocks().has(0)).toBe(true);
    expect(blocks().size).toBeLessThan(40);
    const label = () => el.querySelector(".iw-heat-bottom bdi")!.textContent;
    await expect.poll(label).toBe("t0");
  });
});

describe("what is selected", () => {
  test("a click selects a cell, and the trait moves it", async () => {
    const fake = model([WORDS]);
    const { el, text } = await show(logitLens, fake);
    await userEvent.click(canvasOf(el), { position: at(el, 1, 2) });
    await trait(fake, "layer", "position").toEqual([1, 2]);
    await userEvent.hover(el.querySelector(".iw-title")!);
    await expect.poll(() => text(".iw-status")).toMatch(/^layer 1, ␣sat2 ?: w1.2 0.2727, entropy 0.5455 nats, KL 1.0000 nats selected/); // prettier-ignore
    await expect.poll(() => text(".iw-lens-cell")).toContain("After layer 1, position 2");
    fake.change("position", 4);
    await expect.poll(() => text(".iw-status")).toContain("↵4");
  });

  test("arrow keys go from layer to layer and along the prompt", async () => {
    const fake = model([WORDS], { layer: 1, position: 2 });
    const { el } = await show(logitLens, fake);
    canvasOf(el).focus();
    await userEvent.keyboard("{ArrowUp}");
    await trait(fake, "layer", "position").toEqual([2, 2]);
    await userEvent.keyboard("{ArrowLeft}{ArrowDown}{ArrowDown}");
    await trait(fake, "layer", "position").toEqual([0, 1]);
  });

  test("pointing says what is there, and is not sent", async () => {
    const fake = model([WORDS]);
    const { el, text } = await show(logitLens, fake);
    await userEvent.hover(canvasOf(el), { position: at(el, 0, 1) });
    await expect.poll(() => text(".iw-status")).toContain("layer 0, ␣cat1");
    expect(text(".iw-status")).not.toContain("selected");
    expect(fake.saved).toEqual({});
  });

  test("its tokens, their way over layers, and what was written add up", async () => {
    const { el, all, text, one } = await show(logitLens, model([WORDS], { layer: 1 }));
    await expect.poll(() => all(".iw-lens-cell td bdi").map((each) => each.textContent)).toEqual(["t3", "t4"]);
    await expect.poll(() => all(".iw-contributions tr").map((row) => row.textContent.trim())).toEqual(["embed+1.0000", "▸ L0 attn−2.0000", "L0 mlp+0.5000", "constant+0.2500"]); // prettier-ignore
    expect(text(".iw-lens-writes")).toContain("sum: logit −0.2500");
    expect(text(".iw-lens-writes")).toContain("divides by 3.5000");
    await userEvent.click(one(".iw-contributions button"));
    await expect.poll(() => all(".iw-part").map((row) => row.textContent.trim())).toEqual(["L0H0−1.0000", "L0H1−0.7500", "bias of its output−0.2500"]); // prettier-ignore
    expect(el.querySelector(".iw-trajectory")!.getAttribute("aria-label")).toContain("probability of t3: layer 0");
  });

  test("a layer can be picked from the course of its probability", async () => {
    const fake = model([WORDS]);
    const { el } = await show(logitLens, fake);
    await expect.poll(() => el.querySelector(".iw-trajectory")).not.toBeNull();
    await userEvent.click(el.querySelector(".iw-trajectory")!, { position: { x: 50, y: 60 } });
    await trait(fake, "layer").toEqual([0]);
    await expect.poll(() => el.querySelector(".iw-lens-writes")!.textContent).toContain("these do not split");
  });
});

describe("a token that is followed", () => {
  test("is typed, read by Python, and coloured", async () => {
    const fake = model([WORDS]);
    const { el, one, text } = await show(logitLens, fake);
    await userEvent.fill(one("input[type=search]"), "␣dog");
    await userEvent.keyboard("{Enter}");
    await trait(fake, "token", "measure").toEqual(["␣dog", "token_probability"]);
    await expect.poll(() => seen(el, 1, 2)).toEqual(colour("light", ofToken(7, 1, 2)));
    await expect.poll(() => text(".iw-status")).toContain("probability of ␣dog");
    await expect.poll(() => text(".iw-lens-writes")).toContain("t7");
    fake.change("measure", "token_rank");
    await expect.poll(() => text(".iw-ramp")).toContain("rank of ␣dog (0: likeliest)");
    await userEvent.clear(one("input[type=search]"));
    await userEvent.keyboard("{Enter}");
    await trait(fake, "token", "measure").toEqual(["", "probability"]);
  });

  test("one that is none is refused in words, and nothing changes", async () => {
    const fake = model([WORDS]);
    const { all, one } = await show(logitLens, fake);
    await userEvent.fill(one("input[type=search]"), "Mary");
    await userEvent.keyboard("{Enter}");
    await expect.poll(() => all("[role=alert]").map((each) => each.textContent)).toEqual(["'Mary' is 2 tokens to tiny. One token would be ' Mary'."]); // prettier-ignore
    expect(fake.saved.token).toBeUndefined();
  });

  test("one of the list is followed by a click", async () => {
    const fake = model([WORDS]);
    const { el } = await show(logitLens, fake);
    await expect.poll(() => el.querySelectorAll(".iw-lens-cell button").length).toBe(2);
    await userEvent.click(el.querySelectorAll(".iw-lens-cell button")[1]!);
    await trait(fake, "token").toEqual(["t4"]);
  });
});

describe("several prompts, little room, trouble", () => {
  test("another prompt takes the selection along as far as it can, a second stands below", async () => {
    const fake = model([WORDS, ["a", "b"]]);
    const { el, all, one } = await show(logitLens, fake);
    await userEvent.selectOptions(all("select")[1]!, "prompt 1");
    await trait(fake, "compare").toEqual([1]);
    await expect.poll(() => el.querySelectorAll(".iw-heat").length).toBe(2);
    await expect.poll(() => all("figcaption").map((each) => each.textContent)).toEqual(["prompt 0", "prompt 1"]);
    await expect.poll(() => el.querySelectorAll(".iw-legend").length).toBe(1);
    await userEvent.selectOptions(one("select"), "prompt 1");
    await trait(fake, "prompt", "position").toEqual([1, 1]);
    await expect.poll(() => el.querySelectorAll(".iw-heat").length).toBe(1);
  });

  test.each([360, 500, 900])("%d pixels: nothing sticks out", async (width) => {
    const { el, all } = await show(logitLens, model([WORDS, WORDS], { compare: 1, layer: 1 }), width);
    await expect.poll(() => all(".iw-contributions").length).toBe(2);
    const right = el.getBoundingClientRect().right;
    for (const element of all("canvas, button, input, select, svg, table, .iw-heat-scroll")) {
      const scrolled = element.closest(".iw-heat-scroll");
      const box = (scrolled ?? element).getBoundingClientRect();
      expect(box.right, element.outerHTML.slice(0, 80)).toBeLessThanOrEqual(right + 1);
    }
  });

  test("hostile tokens are text", async () => {
    const hostile = ["<img src=x onerror=window.hacked=1>", "</script>", "عربي", "\u202eabc", "a"];
    const fake = model([hostile], { title: hostile[0] });
    const { all, text } = await show(logitLens, fake);
    await expect.poll(() => all(".iw-heat-bottom bdi").map((each) => each.textContent)).toEqual(hostile);
    expect(text(".iw-title")).toBe(hostile[0]);
    expect(all("img, script")).toEqual([]);
    expect("hacked" in window).toBe(false);
  });

  test("a saved copy says what it does not hold, and asks nobody", async () => {
    const fake = model([WORDS], { _live: false });
    fake.open([{ what: "tokens", prompt: 0, chunk: 0 }, { what: "lens", prompt: 0, block: 0 }]); // prettier-ignore
    const answer = fake.tile;
    fake.tile = (key) => {
      if (key.what === "cell" || key.what === "lens") throw new Error("not stored in this page");
      return answer(key);
    };
    const { text } = await show(logitLens, fake);
    await expect.poll(() => text(".iw-status")).toContain("saved copy");
    await expect.poll(() => text(".iw-lens-cell")).toContain("This copy does not hold this cell");
    await expect.poll(() => text("figure")).toContain("This copy does not hold these positions");
  });
});
