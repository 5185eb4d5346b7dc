// The circuit view: what is drawn of a circuit, and what a reader can do with it.
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import { styled } from "./attention.ts";
import { drawn, EDGES, endAll, head, model, NODES, pixel, show, type TestEdge, type TestNode } from "./circuit.ts";

beforeAll(styled);
beforeEach(() => page.viewport(1200, 1200));
afterEach(endAll);

type Shown = Awaited<ReturnType<typeof show>>;

/** Where an edge is halfway: its ends are straight up, so the curve passes the middle. */
function halfway(shown: Shown, source: string, target: string, shift = 0) {
  const plane = shown.el.querySelector(".iw-circuit-plane")!.getBoundingClientRect();
  const [a, b] = [shown.node(source), shown.node(target)].map((node) => node.getBoundingClientRect()) as [DOMRect, DOMRect]; // prettier-ignore
  return {
    x: ((a.left + a.right) / 2 + (b.left + b.right) / 2 + shift) / 2 - plane.left,
    y: (a.top + b.bottom) / 2 - plane.top,
  };
}

const inkOf = (shown: Shown, source: string, target: string, over = false, shift = 0) => {
  const { x, y } = halfway(shown, source, target, shift);
  return pixel(shown.canvas(over), x, y);
};

const QV = 0.3 * 34 * 2; // where q and v of a head arrive, from its middle, twice

describe("what is drawn", () => {
  test("nodes stand in layers, the embedding at the bottom", async () => {
    const shown = await show(model());
    const top = (name: string) => shown.node(name).getBoundingClientRect().top;
    for (const [above, below] of [["logits", "L1H0"], ["L1H0", "L0 mlp"], ["L0 mlp", "L0H1"], ["L0H1", "embed"]])
      expect(top(above!)).toBeLessThan(top(below!)); // prettier-ignore
    expect(top("L1H0")).toBe(top("L1H1"));
    const left = (name: string) => shown.node(name).getBoundingClientRect().left;
    expect(left("L1H0")).toBeLessThan(left("L1H1"));
    expect(shown.all(".iw-circuit-row").map((row) => row.textContent)).toEqual([
      "logits", "L1 heads", "L0 mlp", "L0 heads", "embed",
    ]); // prettier-ignore
  });

  test("an edge is as wide as its effect, and its colour tells the sign", async () => {
    const shown = await show(model());
    const [r, , b, opacity] = inkOf(shown, "embed", "L0H1", false, -QV);
    expect(opacity).toBeGreaterThan(200);
    expect(r).toBeGreaterThan(b); // positive: orange
    const negative = inkOf(shown, "L0H1", "L1H0", false, QV);
    expect(negative[3]).toBeGreaterThan(200);
    expect(negative[2]).toBeGreaterThan(negative[0]); // negative: blue
    const width = (source: string, target: string, shift = 0) => {
      const { x, y } = halfway(shown, source, target, shift);
      let count = 0;
      for (let dy = -8; dy <= 8; dy++) count += pixel(shown.canvas(), x, y + dy)[3] > 100 ? 1 : 0;
      return count;
    };
    expect(width("embed", "L0H1", -QV)).toBeGreaterThan(width("embed", NODES[1]!.label!, -QV));
  });

  test("in the dark the colours are others", async () => {
    const light = inkOf(await show(model()), "embed", "L0H1", false, -QV);
    endAll();
    document.documentElement.style.cssText = "color-scheme: dark; color: #eee; background: #111";
    document.documentElement.style.setProperty("--jp-ui-font-color1", "#eee");
    const dark = inkOf(await show(model()), "embed", "L0H1", false, -QV);
    expect(dark[3]).toBeGreaterThan(200);
    expect(dark).not.toEqual(light);
    document.documentElement.removeAttribute("style");
  });

  test("with positions, columns are tokens", async () => {
    const nodes = [{ id: "embed@1", kind: "embed", pos: 1 }, head(0, 0, 1), head(0, 1, 1), head(1, 0, 2), { id: "logits@2", kind: "logits", pos: 2 }]; // prettier-ignore
    const edges: TestEdge[] = [["embed@1", "L0H0@1", 1], ["embed@1", "L0H1@1", 1], ["L0H0@1", "L1H0@2", 1], ["L1H0@2", "logits@2", 1]]; // prettier-ignore
    const shown = await show(model(nodes, edges, {}, ["<bos>", "</script>", "␣cat"]));
    const middle = (element: Element) => {
      const { left, right } = element.getBoundingClientRect();
      return (left + right) / 2;
    };
    const [first, second] = shown.all(".iw-circuit-tokens span");
    expect(first!.textContent).toBe("</script>1");
    expect(second!.textContent).toBe("␣cat2");
    expect(middle(shown.node("embed@1"))).toBeCloseTo(middle(first!), 0);
    expect(middle(shown.node("L1H0@2"))).toBeCloseTo(middle(second!), 0);
    expect((middle(shown.node("L0H0@1")) + middle(shown.node("L0H1@1"))) / 2).toBeCloseTo(middle(first!), 0);
  });

  test("labels are text", async () => {
    const shown = await show(model());
    expect(shown.el.querySelector("img")).toBeNull();
    expect(shown.node("<img src=x onerror=alert(1)>").textContent).toContain("<img");
  });

  test("an empty circuit, and one without edges", async () => {
    const empty = await show(model([], []));
    expect(empty.text(".iw-circuit-kept")).toContain("0 of 0 edges");
    const alone = await show(model([{ id: "embed", kind: "embed" }], [], { pinned: ["embed"] }));
    expect(alone.names()).toEqual(["embed"]);
  });
});

describe("what a reader does", () => {
  test("a click selects a node and its place; another click lets it go", async () => {
    const fake = model();
    const shown = await show(fake);
    await userEvent.click(shown.node("L0H1"));
    await expect.poll(() => fake.saved).toMatchObject({ node: "L0H1", layer: 0, head: 1, position: null });
    expect(shown.node("L0H1").getAttribute("aria-pressed")).toBe("true");
    await userEvent.click(shown.node("L0 mlp"));
    await expect.poll(() => fake.saved).toMatchObject({ node: "L0 mlp", layer: 0, head: null });
    await userEvent.click(shown.node("L0 mlp"));
    await expect.poll(() => fake.saved.node).toBe("");
  });

  test("what Python selects is selected, with its edges in exact numbers", async () => {
    const fake = model();
    const shown = await show(fake);
    fake.change("node", "L0H1");
    await expect.poll(() => shown.text(".iw-status")).toContain("L0H1: edges 1 in, 1 out; effect on logit difference 0.7500"); // prettier-ignore
    const [into, out] = shown.all(".iw-circuit-lists section");
    expect(into!.textContent).toContain("4.0000");
    expect(into!.textContent).toContain("by q, 95 % 3.8750 … 4.1250");
    expect(out!.textContent).toContain("−3.0000");
    await userEvent.click(out!.querySelector("button")!);
    await expect.poll(() => fake.saved.node).toBe("L1H0");
  });

  test("hovering a node shows its edges alone, and sends nothing", async () => {
    const fake = model();
    const shown = await show(fake);
    expect(drawn(shown.canvas(true))).toBe(0);
    await userEvent.hover(shown.node("L1H0"));
    await expect.poll(() => drawn(shown.canvas(true))).toBeGreaterThan(0);
    expect(inkOf(shown, "L0H1", "L1H0", true, QV)[3]).toBeGreaterThan(200);
    expect(inkOf(shown, "embed", "L0H1", true, -QV)[3]).toBe(0);
    expect(shown.el.querySelector(".iw-dimmed")).not.toBeNull();
    expect(fake.saved).toEqual({});
    await userEvent.unhover(shown.node("L1H0"));
    await expect.poll(() => shown.el.querySelector(".iw-dimmed")).toBeNull();
  });

  test("the threshold hides edges, then nodes, and says what is left", async () => {
    const fake = model();
    const shown = await show(fake);
    expect(shown.text(".iw-circuit-kept")).toBe("6 of 6 edges, 100.0 % of Σ|effect|; 7 of 7 nodes");
    const slider = shown.el.querySelector<HTMLInputElement>('input[type="range"]')!;
    expect([slider.min, slider.max, slider.value]).toEqual(["1", "6", "6"]);
    slider.focus();
    await userEvent.keyboard("{ArrowLeft}{ArrowLeft}{ArrowLeft}");
    await expect.poll(() => shown.text(".iw-circuit-kept")).toBe(`3 of 6 edges, ${((100 * 9) / 10.75).toFixed(1)} % of Σ|effect|; 4 of 7 nodes`); // prettier-ignore
    expect(shown.names()).toEqual(["embed", "L0H1", "L1H0", "logits"]);
    expect(fake.saved.threshold).toBeLessThanOrEqual(2);
    expect(fake.saved.threshold).toBeGreaterThan(1.999);
    fake.change("threshold", 4);
    await expect.poll(() => shown.names()).toEqual(["embed", "L0H1"]);
    expect(slider.value).toBe("1");
    fake.change("pinned", ["L1H1"]);
    await expect.poll(() => shown.names()).toEqual(["embed", "L0H1", "L1H1"]);
  });

  test("arrow keys move the selection, across a layer and between layers", async () => {
    const fake = model(NODES, EDGES, { node: "L1H0", layer: 1, head: 0 });
    const shown = await show(fake);
    shown.node("L1H0").focus();
    await userEvent.keyboard("{ArrowRight}");
    await expect.poll(() => fake.saved.node).toBe("L1H1");
    await expect.poll(() => document.activeElement).toBe(shown.node("L1H1"));
    await userEvent.keyboard("{ArrowDown}");
    await expect.poll(() => fake.saved.node).toBe("L0 mlp");
    await userEvent.keyboard("{ArrowDown}{ArrowDown}{ArrowDown}");
    await expect.poll(() => fake.saved.node).toBe("embed");
    await userEvent.keyboard("{ArrowUp}{ArrowUp}{ArrowUp}{ArrowUp}");
    await expect.poll(() => fake.saved.node).toBe("logits");
    expect(shown.all('.iw-circuit-node[tabindex="0"]')).toEqual([shown.node("logits")]);
  });

  test("a node is pinned, named, grouped and taken apart again", async () => {
    const fake = model(NODES, EDGES, { node: "L1H0", pinned: ["L0H1"] });
    const shown = await show(fake);
    await userEvent.click(shown.button("pin"));
    await expect.poll(() => fake.saved.pinned).toEqual(["L0H1", "L1H0"]);
    const [name, group] = shown.all<HTMLInputElement>(".iw-circuit-naming input");
    await userEvent.fill(name!, "</script> mover");
    await userEvent.keyboard("{Enter}");
    await expect.poll(() => fake.saved.node_labels).toEqual({ L1H0: "</script> mover" });
    await expect.poll(() => shown.names()).toContain("</script> mover");
    await userEvent.fill(group!, "movers");
    await userEvent.click(shown.button("group"));
    await expect.poll(() => fake.saved.supernodes).toEqual([["movers", "L0H1", "L1H0"]]);
    await expect.poll(() => shown.names()).toContain("movers");
    expect(shown.names()).not.toContain("L0H1");
    expect(inkOf(shown, "movers", "logits")[3]).toBeGreaterThan(100);
    expect(shown.text(".iw-status")).toContain("movers (2 nodes): edges 1 in, 1 out");
    await userEvent.click(shown.button(/movers \(2\) ×/));
    await expect.poll(() => fake.saved.supernodes).toEqual([]);
    await userEvent.click(shown.button("unpin all 2"));
    await expect.poll(() => fake.saved.pinned).toEqual([]);
  });

  test("an empty name is the own name again", async () => {
    const fake = model(NODES, EDGES, { node: "L1H0", node_labels: { L1H0: "mover", L1H1: "other" } });
    const shown = await show(fake);
    await userEvent.fill(shown.all<HTMLInputElement>(".iw-circuit-naming input")[0]!, "");
    await userEvent.keyboard("{Enter}");
    await expect.poll(() => fake.saved.node_labels).toEqual({ L1H1: "other" });
    await expect.poll(() => shown.names()).toContain("L1H0");
  });

  test("edges between two groups are one, their sum", async () => {
    const nodes: TestNode[] = [head(0, 0), head(0, 1), head(1, 0)];
    const edges: TestEdge[] = [["L0H0", "L1H0", 3, "q"], ["L0H1", "L1H0", -1, "q"]]; // prettier-ignore
    const shown = await show(model(nodes, edges, { node: "L1H0", supernodes: [["pair", "L0H0", "L0H1"]] }));
    expect(shown.names()).toEqual(["pair", "L1H0"]);
    expect(shown.all(".iw-circuit-lists section")[0]!.textContent).toContain("2.0000pair");
  });

  test("search marks nodes by what they are called", async () => {
    const fake = model(NODES, EDGES, { node_labels: { L1H1: "induction" } });
    const shown = await show(fake);
    const marked = () => shown.all(".iw-found").map((each) => each.textContent);
    await userEvent.fill(shown.el.querySelector<HTMLInputElement>('input[type="search"]')!, "INDUC");
    await expect.poll(marked).toEqual(["induction"]);
    expect(fake.saved.search).toBe("INDUC");
    fake.change("search", "l0h");
    await expect.poll(() => marked().length).toBe(2);
  });
});

describe("a test of the circuit", () => {
  const asked = (fake: ReturnType<typeof model>) => fake.asked.flat().map((key) => JSON.parse(key) as { what: string });

  test("runs at a click, of the nodes shown or of those pinned", async () => {
    const fake = model(NODES, EDGES, { threshold: 2 }, [], "nodes");
    const shown = await show(fake);
    expect(asked(fake).filter(({ what }) => what === "faithfulness")).toEqual([]);
    await userEvent.click(shown.button("Ablate everything outside the 4 nodes shown"));
    await expect.poll(() => shown.text(".iw-circuit-test")).toContain("2 of 5 heads and MLPs, 4 prompts");
    expect(asked(fake)).toContainEqual({ what: "faithfulness", nodes: ["embed", "L0H1", "L1H0", "logits"] });
    const said = shown.text(".iw-circuit-test");
    expect(said).toContain("7.5000 (95 % 7.0000 … 8.0000)94 % to the whole model");
    expect(said).toContain("1.0000 mean of 2");
    expect(said).toContain("1.000088 % to all ablated");
    fake.change("pinned", ["L1H1"]);
    await expect.poll(() => shown.text(".iw-circuit-tests")).toContain("outside the 1 node pinned");
    await userEvent.click(shown.button("Ablate everything outside the 1 node pinned"));
    await expect.poll(() => asked(fake).at(-1)).toEqual({ what: "faithfulness", nodes: ["L1H1"] });
  });

  test("by edges, how many are shown is part of it", async () => {
    const fake = model(NODES, EDGES, { threshold: 4 }, [], "edges");
    const shown = await show(fake);
    await userEvent.click(shown.button(/^Ablate everything/));
    await expect.poll(() => asked(fake).at(-1)).toEqual({ what: "faithfulness", nodes: ["embed", "L0H1"], edges: 1 });
  });

  test("there is none without a model, and a saved page shows those that were made", async () => {
    expect((await show(model())).all(".iw-circuit-tests")).toEqual([]);
    const without = await show(Object.assign(model(NODES, EDGES, { _live: false }, [], "nodes"), { tile: () => { throw new Error("not stored in this page"); } })); // prettier-ignore
    await expect
      .poll(() => without.text(".iw-circuit-tests"))
      .toBe("No test of the 7 nodes shown was stored in this copy.");
    expect(without.text(".iw-status")).toContain("saved copy");
    const stored = await show(model(NODES, EDGES, { _live: false }, [], "nodes"));
    await expect.poll(() => stored.text(".iw-circuit-test")).toContain("94 % to the whole model");
  });
});

describe("much, and little room", () => {
  test("a thousand nodes and twenty thousand edges", async () => {
    const nodes = Array.from({ length: 1000 }, (_, i) => ({ id: `f${i}`, kind: "feature", layer: i % 25, number: i, pos: i % 7 })); // prettier-ignore
    const edges = Array.from({ length: 20_000 }, (_, i): TestEdge => {
      const source = i % 990;
      const target = Math.min(999, source + 1 + (Math.floor(i / 990) % 9));
      return [`f${source}`, `f${target}`, (i % 2 ? 1 : -1) * (1 + i)];
    });
    const fake = model(
      nodes,
      edges,
      { threshold: 19_900 },
      Array.from({ length: 7 }, (_, i) => `t${i}`),
    );
    const shown = await show(fake);
    expect(shown.text(".iw-circuit-kept")).toContain("101 of 20,000 edges");
    const slider = shown.el.querySelector<HTMLInputElement>('input[type="range"]')!;
    slider.focus();
    const before = fake.state.threshold as number;
    await userEvent.keyboard("{ArrowRight}{ArrowRight}");
    await expect.poll(() => fake.state.threshold as number).toBeLessThan(before); // in larger steps where there are many
    await userEvent.keyboard("{End}");
    await expect.poll(() => shown.text(".iw-circuit-kept")).toContain("20,000 of 20,000 edges, 100.0 %");
    expect(shown.names().length).toBe(999); // f0 to f998 have an edge
    expect(shown.text("figcaption")).toContain("drawn: the 2,000 strongest edges");
  });

  test("nothing is wider than a narrow page", async () => {
    await page.viewport(400, 900);
    const shown = await show(model(NODES, EDGES, { node: "L0H1" }, [], "nodes"), 360);
    await userEvent.click(shown.button(/^Ablate everything/));
    await expect.poll(() => shown.all(".iw-circuit-test").length).toBe(1);
    const right = shown.el.getBoundingClientRect().right;
    for (const each of shown.all(".iw-circuit-node, .iw-row, figcaption, .iw-circuit-lists section, .iw-circuit-test"))
      expect(each.getBoundingClientRect().right, each.className).toBeLessThanOrEqual(right + 0.5);
  });

  test("other data of the same view", async () => {
    const fake = model();
    const shown = await show(fake);
    expect(shown.names().length).toBe(7);
    const other = model([head(0, 0), head(1, 1)], [["L0H0", "L1H1", 1, "k"]]);
    fake.tile = other.tile;
    fake.state._opening = other.state._opening;
    fake.change("facts", other.state.facts);
    fake.change("_version", 1);
    await expect.poll(() => shown.names()).toEqual(["L0H0", "L1H1"]);
  });
});
