// Attention to look at in tests: a model with weights that anyone can compute, shown in the page.
import palette from "../../interpwidgets/static/palette.json";
import attention from "../views/attention.tsx";
import { coded, Fake, jsonTile, type Key, tileOf } from "./fake.ts";

export type Weigh = (layer: number, head: number, query: number, key: number) => number;

export interface Source {
  name?: string;
  tokens: string[];
  keyTokens?: string[]; // where they differ
  ids?: number[];
  special?: number[];
  weights?: Weigh;
  causal?: boolean;
}

export const LAYERS = 2;
export const HEADS = 3;
const BAND = 1 << 16;

/** A weight that tells where it is from: different for every layer, head, query and key, below 1, causal. */
export const telling: Weigh = (layer, head, query, key) =>
  key > query ? 0 : (1 + ((7 * layer + 5 * head + 3 * query + 11 * key) % 17)) / (20 + 2 * query);

/** Python's answers for these prompts. */
export function model(sources: Source[], traits: object = {}, opened = true): Fake {
  const full = sources.map((source) => ({ causal: true, weights: telling, ...source, keys: source.keyTokens ?? source.tokens })); // prettier-ignore
  const prompts = full.map(({ tokens, keys, keyTokens, causal, name }, i) => ({
    name: name ?? `prompt ${i}`,
    shape: [LAYERS, HEADS, tokens.length, keys.length],
    causal,
    same: !keyTokens,
    rows: Math.max(1, Math.floor(BAND / keys.length)),
    columns: Math.max(1, Math.floor(BAND / tokens.length)),
    chunk: 1024,
    recorded: false,
  }));
  const weight = (prompt: number, minus: number): Weigh => {
    const [ours, theirs] = [full[prompt]!, full[minus]];
    if (!theirs) return ours.weights;
    return (l, h, q, k) =>
      q < theirs.tokens.length && k < theirs.keys.length ? ours.weights(l, h, q, k) - theirs.weights(l, h, q, k) : NaN;
  };
  const heads = Array.from({ length: HEADS }, (_, head) => head);
  const answer = ({ what, prompt, minus, ...key }: Key) => {
    const { tokens, keys, ids, special } = full[prompt]!;
    const of = weight(prompt, minus);
    const together = (l: number, h: number | string, q: number, k: number) => {
      if (typeof h === "number") return of(l, h, q, k);
      const all = heads.map((head) => of(l, head, q, k));
      return h === "max" ? Math.max(...all) : all.reduce((sum, one) => sum + one) / HEADS;
    };
    if (what === "tokens") {
      const own = key.axis === "query" ? tokens : keys;
      return jsonTile({ text: own, ids: ids ?? null, special: special ?? [] });
    }
    if (what === "atlas") {
      const plane = Array.from({ length: LAYERS }, (_, l) =>
        heads.flatMap((h) => tokens.flatMap((_, q) => keys.map((_, k) => of(l, h, q, k)))),
      ).flat();
      return coded(plane, [LAYERS, HEADS, tokens.length, keys.length], minus >= 0);
    }
    if (what === "rows" && key.layer < LAYERS) {
      const values = tokens.flatMap((_, q) => keys.map((_, k) => together(key.layer, key.head, q, k)));
      return tileOf(Float32Array.from(values), [tokens.length, keys.length]);
    }
    if (what === "scores") {
      if (key.name === "broken") throw new Error("ValueError: that score cannot be had");
      const [first, last, left, right] = (key.region ?? [0, tokens.length, 0, 1]) as number[];
      const score = (l: number, h: number) => {
        let sum = 0;
        for (let q = first!; q < last!; q++) for (let k = left!; k < right!; k++) sum += of(l, h, q, k);
        return sum / (last! - first!);
      };
      const values = Array.from({ length: LAYERS }, (_, l) => heads.map((h) => score(l, h))).flat();
      return tileOf(Float32Array.from(values), [LAYERS, HEADS]);
    }
    throw new Error(`no tile is called ${what}`);
  };
  const state: Record<string, any> = {
    title: "Attention", prompts, prompt: 0, compare: null, difference: false, layer: 0, head: 0, aggregate: "none",
    query: null, key: null, direction: "query", reading: "matrix", scale: "linear", colour_range: [], pooling: "max",
    dim_special: false, viewport: [], sort_by: "", region: [], search: "", labels: [],
    score_names: ["mine", "broken", "first token"], weigh: "attention", token: "", ablate: "none", _live: true, _opening: [], ...traits,
  }; // prettier-ignore
  const fake = new Fake(state, answer);
  if (!opened) return fake;
  const minus: unknown = state.difference ? state.compare : -1;
  return fake.open([
    ...(full[0]!.keyTokens ? [{ what: "tokens", prompt: 0, axis: "query", chunk: 0 }] : []),
    { what: "tokens", prompt: 0, axis: "key", chunk: 0 },
    { what: "atlas", prompt: 0, minus, pooling: "max" },
    { what: "rows", prompt: 0, minus, layer: state.layer, head: state.head, band: 0 },
  ]);
}

export interface Shown {
  el: HTMLElement;
  end: () => void;
  canvas: () => HTMLCanvasElement;
  one: <E extends HTMLElement = HTMLElement>(selector: string, text?: string) => E;
  all: (selector: string) => HTMLElement[];
  text: (selector: string) => string;
  head: (layer: number, head: number) => HTMLElement;
}

/** Put the style sheet of the views into the page. */
export async function styled() {
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = new URL("../../interpwidgets/static/style.css", import.meta.url).href;
  const loaded = new Promise((resolve, reject) => {
    style.onload = resolve;
    style.onerror = reject;
  });
  document.head.append(style);
  await loaded;
}

const open: (() => void)[] = [];

/** Show a view of this model. Ended after the test by `endAll`. */
export async function show(fake: Fake, width = 1100): Promise<Shown> {
  const el = document.createElement("div");
  el.style.width = `${width}px`;
  document.body.append(el);
  const cleanup = await attention.render({ model: fake, el });
  const end = () => {
    cleanup();
    el.remove();
  };
  open.push(end);
  const all = (selector: string) => [...el.querySelectorAll<HTMLElement>(selector)];
  const one = <E extends HTMLElement>(selector: string, text?: string) => {
    const found = all(selector).find((element) => text === undefined || element.textContent.trim() === text);
    if (!found) throw new Error(`nothing is ${selector}${text === undefined ? "" : ` with the text ${text}`}`);
    return found as E;
  };
  return {
    el,
    end,
    all,
    one,
    text: (selector) => one(selector).textContent.replace(/\s+/g, " ").trim(),
    canvas: () => one<HTMLCanvasElement>(".iw-pixels canvas"),
    head: (layer, head) => one(`.iw-thumbs button[aria-label^="layer ${layer} head ${head}"]`),
  };
}

export function endAll() {
  for (const end of open.splice(0)) end();
  document.documentElement.removeAttribute("style");
}

/** Where a cell of the matrix is on its canvas, in CSS pixels. */
export function cellAt(canvas: HTMLCanvasElement, query: number, key: number, queries: number, keys = queries) {
  const { width, height } = canvas.getBoundingClientRect();
  return { x: ((key + 0.5) / keys) * width, y: ((query + 0.5) / queries) * height };
}

/** The colour of a cell as drawn: red, green, blue, opacity. */
export function pixel(canvas: HTMLCanvasElement, query: number, key: number, queries: number, keys = queries) {
  const x = Math.floor(((key + 0.5) / keys) * canvas.width);
  const y = Math.floor(((query + 0.5) / queries) * canvas.height);
  return [...canvas.getContext("2d")!.getImageData(x, y, 1, 1).data];
}

/** The colour at a place from 0 to 1 of a palette: its stops, joined by straight lines. */
export function colour(name: keyof typeof palette, at: number): number[] {
  const stops = palette[name];
  const place = (Math.round(at * 255) / 255) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(place));
  const channel = (stop: string, c: number) => parseInt(stop.slice(1 + 2 * c, 3 + 2 * c), 16);
  const mixed = [0, 1, 2].map((c) => {
    const [from, to] = [channel(stops[low]!, c), channel(stops[low + 1]!, c)];
    return Math.round(from + (to - from) * (place - low));
  });
  return [...mixed, 255];
}
