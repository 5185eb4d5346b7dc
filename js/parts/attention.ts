// What the attention view talks about: its traits, its panels, and the names of its tiles (as in views/attention.py).
import { bound, decode } from "../colour.ts";
import type { Tile } from "../tiles.ts";
import { useTiles } from "../view.tsx";
import { useTokenTiles } from "./token.tsx";

export interface Prompt {
  name: string;
  shape: [layers: number, heads: number, queries: number, keys: number];
  causal: boolean;
  same: boolean; // queries and keys are the same tokens
  rows: number; // queries in a band of exact weights
  columns: number;
  chunk: number; // tokens in a tile of them
  recorded: boolean; // by a model that can say what values carry, and run again
}

export const TRAITS = [
  "title", "prompts", "prompt", "compare", "difference", "layer", "head", "aggregate", "query", "key", "direction",
  "reading", "scale", "colour_range", "pooling", "dim_special", "viewport", "sort_by", "region", "search", "labels",
  "score_names", "weigh", "token", "ablate", "_live",
] as const; // prettier-ignore

export interface Traits {
  title: string;
  prompts: Prompt[];
  prompt: number;
  compare: number | null;
  difference: boolean;
  layer: number;
  head: number;
  aggregate: "none" | "mean" | "max" | "rollout";
  query: number | null;
  key: number | null;
  direction: "query" | "key";
  reading: "matrix" | "arcs";
  scale: "linear" | "sqrt" | "log";
  colour_range: [number, number] | [];
  pooling: "max" | "mean";
  dim_special: boolean;
  viewport: Viewport | [];
  sort_by: string;
  region: Viewport | [];
  search: string;
  labels: [layer: number, head: number, label: string][];
  score_names: string[];
  weigh: "attention" | "value" | "logit";
  token: string; // whose logit; none: of the one that comes next
  ablate: "none" | "zero" | "mean";
  _live: boolean;
}

export const SIDE = 256; // pixels of an image tile, as in pyramid.py

export type Viewport = [firstQuery: number, lastQuery: number, firstKey: number, lastKey: number];
export type Cell = { query: number; key: number };

/** One head of one prompt, or of the difference of two: what a large picture shows. */
export interface Panel {
  prompt: number;
  minus: number;
  weigh: string; // what weights are multiplied by; empty: nothing
  layer: number;
  head: number | string;
}
/** Whose weights: all that a panel says but the head. */
export type Of = Pick<Panel, "prompt" | "minus" | "weigh">;

const name = (key: object) => JSON.stringify(key);

const of = (what: string, { prompt, minus, weigh }: Of) => ({ what, prompt, minus, ...(weigh && { weigh }) });
const head = (what: string, panel: Panel) => ({ ...of(what, panel), layer: panel.layer, head: panel.head });

export const keys = {
  tokens: (prompt: number, axis: "query" | "key", chunk: number) => name({ what: "tokens", prompt, axis, chunk }),
  atlas: (whose: Of, pooling: string) => name({ ...of("atlas", whose), pooling }),
  rows: (panel: Panel, band: number) => name({ ...head("rows", panel), band }),
  columns: (panel: Panel, band: number) => name({ ...head("columns", panel), band }),
  image: (panel: Panel, pooling: string, level: number, row: number, column: number) =>
    name({ ...head("image", panel), pooling: level ? pooling : "max", level, row, column }),
  scores: (prompt: number, minus: number, score: string, region: number[]) =>
    name({ what: "scores", prompt, minus, name: score, ...(score === "region" ? { region } : {}) }),
  ablate: (prompt: number, layer: number, head: number, kind: string, position: number) =>
    name({ what: "ablate", prompt, layer, head, kind, position }),
};

/** Whether one tile of exact weights holds a whole head. */
export const isSmall = ({ shape, rows }: Prompt) => shape[2] <= rows;

/** The tokens of one axis at some positions, and around them; those not here yet are undefined. */
export function useTokens({ chunk, same }: Prompt, prompt: number, axis: "query" | "key", positions: number[]) {
  const of = same ? "key" : axis; // one list for both
  return useTokenTiles((i) => keys.tokens(prompt, of, i), chunk, positions);
}

/** Positions of which each chunk of tokens from `first` to `last` holds one. */
export function chunksOf({ chunk, same, shape }: Prompt, axis: "query" | "key", first: number, last: number) {
  const size = shape[!same && axis === "query" ? 2 : 3];
  const positions: number[] = [];
  for (let i = Math.floor(Math.max(0, first) / chunk); i * chunk < Math.min(last, size); i++) positions.push(i * chunk);
  return positions;
}

/** Weights from one query, or to one key, and their relative error: 0 once the exact ones are here. */
export interface Line {
  weights: Float32Array;
  error: number;
  sampled?: [number, number] | undefined; // so many of all were looked at; the others are NaN
}

/** A line of the large head: read off its picture at first, where that shows single weights, then exact. */
export function useLine(
  prompt: Prompt,
  panel: Panel,
  axis: "query" | "key",
  position: number | null,
): { line: Line | undefined; missing: boolean } {
  const [per, size] = axis === "query" ? [prompt.rows, prompt.shape[3]] : [prompt.columns, prompt.shape[2]];
  // A small head is one tile by rows; its columns are in it.
  const small = isSmall(prompt);
  const band = small || position === null ? 0 : Math.floor(position / per);
  const key = axis === "query" || small ? keys.rows(panel, band) : keys.columns(panel, band);
  const { get, errors } = useTiles(position === null ? [] : [key]);
  const squares = small || position === null ? [] : along(panel, axis, position, size);
  useTiles(errors.length ? squares : []); // a copy without the exact weights may hold their picture
  if (position === null) return { line: undefined, missing: false };
  const tile = get(key);
  if (!tile) return { line: pictured(squares.map(get), axis, position, size), missing: errors.length > 0 };
  const data = tile.data as Float32Array;
  const weights =
    small && axis === "key"
      ? Float32Array.from({ length: size }, (_, i) => data[i * tile.shape[1]! + position]!)
      : data.subarray((position - band * per) * size, (position - band * per + 1) * size);
  return { line: { weights, error: 0, sampled: tile.sampled }, missing: false };
}

/** The squares of the finest picture that a line crosses. */
function along(panel: Panel, axis: "query" | "key", position: number, size: number): string[] {
  const own = Math.floor(position / SIDE);
  return Array.from({ length: Math.ceil(size / SIDE) }, (_, other) =>
    axis === "query" ? keys.image(panel, "max", 0, own, other) : keys.image(panel, "max", 0, other, own),
  );
}

/** The line as those squares show it; nothing where one is not here. */
function pictured(squares: (Tile | undefined)[], axis: "query" | "key", position: number, size: number) {
  const weights = new Float32Array(size);
  let error = 0;
  let some = false;
  for (const [other, tile] of squares.entries()) {
    if (!tile) {
      weights.fill(NaN, other * SIDE, (other + 1) * SIDE);
      continue;
    }
    some = true;
    error = Math.max(error, bound(tile));
    const [rows, columns] = tile.shape as [number, number];
    const within = position % SIDE;
    for (let i = 0; i < (axis === "query" ? columns : rows); i++)
      weights[other * SIDE + i] = decode(
        tile,
        tile.data[axis === "query" ? within * columns + i : i * columns + within]!,
      );
  }
  return some ? { weights, error } : undefined;
}
