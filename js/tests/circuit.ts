// Circuits to look at in tests, and a model that answers for them as views/circuit.py does.
import circuit from "../views/circuit.tsx";
import { Fake, jsonTile, type Key, tileOf } from "./fake.ts";

export interface TestNode {
  id: string;
  kind: string;
  layer?: number;
  number?: number;
  pos?: number;
  label?: string;
  effect?: number;
}
export type TestEdge = [source: string, target: string, effect: number, via?: string];

export const head = (layer: number, number: number, pos?: number): TestNode => ({
  id: `L${layer}H${number}${pos === undefined ? "" : `@${pos}`}`,
  kind: "head",
  layer,
  number,
  ...(pos !== undefined && { pos }),
});

/** A model of two layers of two heads: what is tested most. */
export const NODES: TestNode[] = [
  { id: "embed", kind: "embed" },
  { ...head(0, 0), label: "<img src=x onerror=alert(1)>" },
  { ...head(0, 1), effect: 0.75 },
  { id: "L0 mlp", kind: "mlp", layer: 0 },
  head(1, 0),
  head(1, 1),
  { id: "logits", kind: "logits" },
];
export const EDGES: TestEdge[] = [
  ["embed", "L0H1", 4, "q"],
  ["L0H1", "L1H0", -3, "v"],
  ["L1H0", "logits", 2],
  ["embed", "L0 mlp", 1],
  ["L0 mlp", "L1H1", 0.5, "k"],
  ["embed", "L0H0", 0.25, "q"],
];

export const FOUND = {
  what: "nodes", metric: "logit difference", how: "the rest becomes zero", size: 2, of: 5, n: 4,
  kept: { base: 0, value: 7.5, low: 7, high: 8, goal: 8, recovered: 0.9375, exceeds: 1, control: [0.5, 1.5] },
  removed: { base: 8, value: 1, low: null, high: null, goal: 0, recovered: 0.875, exceeds: 1, control: [] },
}; // prettier-ignore

export function model(nodes = NODES, edges = EDGES, traits: object = {}, tokens: string[] = [], test = ""): Fake {
  const at = new Map(nodes.map(({ id }, i) => [id, i]));
  const sorted = [...edges].sort((a, b) => Math.abs(b[2]) - Math.abs(a[2]));
  const answer = (key: Key) => {
    if (key.what === "nodes")
      return jsonTile({
        id: nodes.map(({ id }) => id),
        kind: nodes.map(({ kind }) => kind),
        layer: nodes.map(({ layer }) => layer ?? null),
        number: nodes.map(({ number }) => number ?? null),
        pos: nodes.map(({ pos }) => pos ?? null),
        label: nodes.map(({ label }) => label ?? ""),
        effect: nodes.map(({ effect }) => effect ?? null),
        low: nodes.map(() => null),
        high: nodes.map(() => null),
        name: nodes.map(({ id }) => id),
      });
    if (key.what === "edges") {
      const rows = sorted.flatMap(([a, b, effect, via = ""]) => [
        at.get(a)!, at.get(b)!, ["", "q", "k", "v"].indexOf(via), effect, effect - 0.125, effect + 0.125,
      ]); // prettier-ignore
      return tileOf(Float32Array.from(rows), [sorted.length, 6]);
    }
    if (key.what === "tokens") return jsonTile({ text: tokens, ids: null, special: [] });
    if (key.what === "faithfulness" && test) return jsonTile(FOUND);
    throw new Error("not stored in this page");
  };
  const facts = {
    nodes: nodes.length,
    edges: edges.length,
    sent: edges.length,
    total: edges.reduce((sum, [, , effect]) => sum + Math.abs(effect), 0),
    tokens: tokens.length,
    heads: 2,
    metric: "logit difference",
    how: "",
    test,
  };
  const state = {
    title: "Circuit", facts, node: "", layer: null, head: null, position: null, threshold: 0, pinned: [],
    supernodes: [], node_labels: {}, search: "", _live: true, _opening: [], _version: 0, ...traits,
  }; // prettier-ignore
  const fake = new Fake(state, answer);
  return fake.open([{ what: "nodes" }, { what: "edges" }, ...(tokens.length ? [{ what: "tokens", prompt: 0, chunk: 0 }] : [])]); // prettier-ignore
}

const open: (() => void)[] = [];

export async function show(fake: Fake, width = 1000) {
  const el = document.createElement("div");
  el.style.width = `${width}px`;
  document.body.append(el);
  const cleanup = await circuit.render({ model: fake, el });
  open.push(() => {
    cleanup();
    el.remove();
  });
  const all = <E extends HTMLElement = HTMLElement>(selector: string) => [...el.querySelectorAll<E>(selector)];
  const button = (text: string | RegExp) => {
    const found = all("button").find(({ textContent: own }) => (text instanceof RegExp ? text.test(own) : own.trim() === text)); // prettier-ignore
    if (!found) throw new Error(`no button says ${String(text)}`);
    return found;
  };
  return {
    el,
    all,
    button,
    node: (name: string) => {
      const found = all(".iw-circuit-node").find((each) => each.getAttribute("aria-label")!.split(", ")[0] === name);
      if (!found) throw new Error(`no node is called ${name}`);
      return found;
    },
    names: () => all(".iw-circuit-node").map((each) => each.getAttribute("aria-label")!.split(", ")[0]),
    text: (selector: string) => (el.querySelector(selector)?.textContent ?? "").replace(/\s+/g, " ").trim(),
    canvas: (over = false) => el.querySelectorAll("canvas")[over ? 1 : 0]!,
  };
}

export function endAll() {
  for (const end of open.splice(0)) end();
  document.documentElement.removeAttribute("style");
}

type Pixel = [number, number, number, number];

/** What is drawn on a canvas at a place in CSS pixels: red, green, blue, opacity. */
export function pixel(canvas: HTMLCanvasElement, x: number, y: number): Pixel {
  const ratio = canvas.width / canvas.getBoundingClientRect().width;
  return [...canvas.getContext("2d")!.getImageData(Math.round(x * ratio), Math.round(y * ratio), 1, 1).data] as Pixel;
}

/** How many pixels of a canvas are drawn. */
export const drawn = (canvas: HTMLCanvasElement) =>
  canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height).data.filter((v, i) => i % 4 === 3 && v > 0).length; // prettier-ignore
