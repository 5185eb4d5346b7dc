// A circuit as the page holds it: its nodes and edges, which of them are shown, and where they stand.
import type { Tile } from "../tiles.ts";

export interface Node {
  id: string;
  kind: string;
  layer: number | null;
  number: number | null; // of the head, the neuron, the feature
  pos: number | null;
  label: string;
  name: string; // its place in short: L1H6
  effect: number | null;
  low: number | null;
  high: number | null;
  depth: number; // where it stands in a pass
}

/** What Python says of a circuit as a whole. */
export interface Facts {
  nodes: number;
  edges: number;
  sent: number;
  total: number;
  tokens: number;
  heads: number;
  metric: string;
  how: string;
  test: "nodes" | "edges" | "";
}

export interface Edge {
  source: number; // places among the nodes
  target: number;
  via: string;
  effect: number;
  low: number;
  high: number;
}

export interface Graph {
  nodes: Node[];
  at: Map<string, number>;
  rows: Float32Array; // [edge, (source, target, via, effect, low, high)], the strongest first
  sums: Float64Array; // of |effect| of the first n edges
}

const WIDE = 6; // numbers in a row, as in views/circuit.py
const VIAS = ["", "q", "k", "v"];

/** Nodes and edges from their tiles. */
export function graphOf(nodes: Tile, edges: Tile | undefined): Graph {
  const columns = nodes.json as { [name in keyof Omit<Node, "depth">]: Node[name][] };
  const list = columns.id.map((id, i) => {
    const kind = columns.kind[i]!;
    const layer = columns.layer[i] ?? null;
    const depth = kind === "embed" ? -1 : kind === "logits" ? Infinity : 2 * (layer ?? 0) + (kind === "head" ? 0 : 1);
    const own = Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[i]]));
    return { ...own, id, depth } as unknown as Node;
  });
  const rows = (edges?.data as Float32Array | undefined) ?? new Float32Array();
  const sums = new Float64Array(rows.length / WIDE + 1);
  for (let i = 1; i < sums.length; i++) sums[i] = sums[i - 1]! + Math.abs(rows[(i - 1) * WIDE + 3]!);
  return { nodes: list, at: new Map(list.map(({ id }, i) => [id, i])), rows, sums };
}

export const edgeAt = ({ rows }: Graph, i: number): Edge => {
  const [source, target, via, effect, low, high] = rows.subarray(i * WIDE, (i + 1) * WIDE) as unknown as number[];
  return { source: source!, target: target!, via: VIAS[via!]!, effect: effect!, low: low!, high: high! };
};
export const sizeAt = ({ rows }: Graph, i: number) => Math.abs(rows[i * WIDE + 3]!);

/** How many edges have this |effect| or more. */
export function countAbove(graph: Graph, least: number): number {
  const bound = Math.fround(least); // effects came in single precision
  let [low, high] = [0, graph.sums.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sizeAt(graph, middle) >= bound) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** What is drawn as one: a node, or the nodes of a supernode. */
export interface Box {
  key: string;
  node: Node; // of a supernode, its last
  members: number[];
  group: string; // the supernode's label, or ""
}

export interface Line {
  source: Box;
  target: Box;
  via: string;
  effect: number;
  low: number;
  high: number;
}

export interface Shown {
  boxes: Box[];
  lines: Line[]; // the strongest first
  of: Map<number, Box>; // by place of a node
  edges: number; // how many are from the threshold on
  ids: string[];
}

/** The edges from the threshold on, the nodes that they have, and those that stay anyway; supernodes as one. */
export function shownOf(graph: Graph, least: number, pinned: string[], groups: string[][]): Shown {
  const { nodes, at } = graph;
  const edges = countAbove(graph, least);
  const seen = new Set<number>();
  for (let i = 0; i < edges; i++) {
    seen.add(graph.rows[i * WIDE]!);
    seen.add(graph.rows[i * WIDE + 1]!);
  }
  const kept = [...pinned, ...groups.flatMap(([, ...ids]) => ids)];
  for (const id of kept) if (at.has(id)) seen.add(at.get(id)!);
  const of = new Map<number, Box>();
  for (const [label, ...ids] of groups) {
    const members = ids.flatMap((id) => at.get(id) ?? []).sort((a, b) => nodes[a]!.depth - nodes[b]!.depth);
    const box = { key: `supernode ${label}`, node: nodes[members.at(-1)!]!, members, group: label || "group" };
    for (const place of members) of.set(place, box);
  }
  const places = [...seen].sort((a, b) => a - b);
  for (const place of places)
    if (!of.has(place)) of.set(place, { key: nodes[place]!.id, node: nodes[place]!, members: [place], group: "" });
  const lines = new Map<string, Line>();
  for (let i = 0; i < edges; i++) {
    const edge = edgeAt(graph, i);
    const [source, target] = [of.get(edge.source)!, of.get(edge.target)!];
    if (source === target) continue;
    const via = target.group ? "" : edge.via;
    const key = source.group || target.group ? `${source.key}\n${target.key}\n${via}` : String(i);
    const before = lines.get(key);
    if (before) Object.assign(before, { effect: before.effect + edge.effect, low: NaN, high: NaN });
    else lines.set(key, { ...edge, source, target, via });
  }
  const sorted = [...lines.values()].sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect));
  return { boxes: [...new Set(of.values())], lines: sorted, of, edges, ids: places.map((place) => nodes[place]!.id) };
}

export interface Layout {
  at: Map<Box, { x: number; y: number }>;
  box: number; // how wide a box may be
  height: number;
  rows: { name: string; y: number; boxes: Box[] }[]; // from the top; boxes from the left
  columns: { pos: number | null; x: number; width: number }[]; // none without positions
}

/** Positions across, layers upwards; without positions, heads by their number. */
export function layoutOf(boxes: Box[], left: number, width: number, heads: number): Layout {
  const depths = [...new Set(boxes.map(({ node }) => node.depth))].sort((a, b) => b - a);
  const step = Math.max(30, Math.min(58, 700 / depths.length));
  const cells = new Map<string, Box[]>();
  for (const box of boxes) {
    const key = `${box.node.depth} ${box.node.pos}`;
    cells.set(key, [...(cells.get(key) ?? []), box]);
  }
  const positions = [...new Set(boxes.map(({ node }) => node.pos))].sort((a, b) => (a ?? -1) - (b ?? -1));
  const flat = positions.every((pos) => pos === null);
  const sizes = positions.map((pos) => Math.max(...depths.map((depth) => cells.get(`${depth} ${pos}`)?.length ?? 1)));
  if (flat) sizes[0] = Math.max(sizes[0] ?? 1, heads);
  const unit = (width - left) / sizes.reduce((sum, size) => sum + size, 0);
  const starts = sizes.map((_, i) => left + unit * sizes.slice(0, i).reduce((sum, size) => sum + size, 0));
  const at = new Map<Box, { x: number; y: number }>();
  const rows = depths.map((depth, row) => {
    const y = step * (row + 0.5);
    const own: Box[] = [];
    for (const [column, pos] of positions.entries()) {
      const some = (cells.get(`${depth} ${pos}`) ?? []).sort((a, b) => (a.node.number ?? 0) - (b.node.number ?? 0));
      const room = sizes[column]! * unit;
      some.forEach((box, i) => {
        const byHead = flat && box.node.kind === "head";
        const share = byHead ? ((box.node.number ?? 0) + 0.5) / sizes[0]! : (i + 0.5) / some.length;
        at.set(box, { x: starts[column]! + share * room, y });
      });
      own.push(...some);
    }
    return { name: rowName(own), y, boxes: own };
  });
  const columns = positions.map((pos, i) => ({ pos, x: starts[i]! + (sizes[i]! * unit) / 2, width: sizes[i]! * unit }));
  const box = Math.max(6, Math.min(92, 0.86 * unit));
  return { at, box, height: step * depths.length, rows, columns: flat ? [] : columns };
}

function rowName(boxes: Box[]): string {
  const { kind, layer } = boxes[0]!.node;
  if (layer === null) return kind;
  const kinds = new Set(boxes.map(({ node }) => node.kind));
  return `L${layer}${kinds.size === 1 && (kind === "head" || kind === "mlp") ? ` ${kind === "head" ? "heads" : kind}` : ""}`;
}
