// The same weights as arcs between the tokens of a column: the strongest of the window, or those of one query.
import { useMemo } from "preact/hooks";
import { css, format, place, type Scale } from "../colour.ts";
import { px, useTiles } from "../view.tsx";
import { type Cell, chunksOf, keys, type Panel, type Prompt, useTokens, type Viewport } from "./attention.ts";
import { type Pointer, type Selected, usePointer } from "./pointer.ts";
import type { TokenAt } from "./token.tsx";

const LINE = 18; // CSS pixels a token
const WINDOW = 48; // tokens drawn at once
const MOST = 200; // arcs drawn at once

export function Arcs({
  prompt,
  panel,
  width,
  scale,
  viewport,
  pointer,
  selected,
  onSelect,
}: {
  prompt: Prompt;
  panel: Panel;
  width: number;
  scale: Scale;
  viewport: Viewport;
  pointer: Pointer;
  selected: Selected;
  onSelect: (cell: Partial<Cell>) => void;
}) {
  const [, , queries, nKeys] = prompt.shape;
  const { cell } = usePointer(pointer, selected);
  const centre = cell.query ?? Math.floor(viewport[0]);
  const first = Math.max(0, Math.min(Math.max(queries, nKeys) - WINDOW, centre < WINDOW ? 0 : centre - WINDOW / 2));
  const last = first + WINDOW;
  const rows = [first, Math.min(last, queries)] as const;
  const columns = [first, Math.min(last, nKeys)] as const;
  const bands: string[] = [];
  for (let b = Math.floor(rows[0] / prompt.rows); b * prompt.rows < rows[1]; b++) bands.push(keys.rows(panel, b));
  const { get, missing } = useTiles(bands);
  const query = useTokens(prompt, panel.prompt, "query", chunksOf(prompt, "query", ...rows));
  const key = useTokens(prompt, panel.prompt, "key", chunksOf(prompt, "key", ...columns));
  const edges = useMemo(() => {
    const all: [query: number, key: number, weight: number][] = [];
    for (let q = rows[0]; q < rows[1]; q++) {
      const tile = get(keys.rows(panel, Math.floor(q / prompt.rows)));
      for (let k = columns[0]; tile && k < columns[1]; k++) {
        const weight = tile.data[(q % prompt.rows) * nKeys + k]!;
        if (Math.abs(weight) > 0.001) all.push([q, k, weight]);
      }
    }
    return all.sort((a, b) => Math.abs(b[2]) - Math.abs(a[2])).slice(0, MOST);
  }, [bands.join("\n"), missing, first]);
  const one = cell.query !== undefined && cell.query >= rows[0] && cell.query < rows[1] ? cell.query : undefined;
  const height = (Math.max(rows[1], columns[1]) - first) * LINE;
  const y = (i: number) => (i - first + 0.5) * LINE;
  const [left, right] = [110, width - 110];
  const list = (axis: "query" | "key", [from, to]: readonly [number, number], x: number, tokens: TokenAt) =>
    Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i).map((i) => (
      <span
        class={`iw-arc-token iw-arc-${axis}${i === cell[axis] ? " iw-marked" : ""}`}
        style={px({ top: y(i) - LINE / 2, [axis === "query" ? "left" : "right"]: 0, width: x, height: LINE })}
        onMouseEnter={() => axis === "query" && pointer.set({ query: i, key: Math.min(i, nKeys - 1) })}
        onClick={() => onSelect({ [axis]: i })}
      >
        <small>{i}</small> <bdi>{tokens(i)?.text ?? "…"}</bdi>
      </span>
    ));
  return (
    <div
      class="iw-arcs"
      style={px({ width, height })}
      onMouseLeave={() => pointer.set(null)}
      role="img"
      aria-label={`The ${edges.length} strongest weights between tokens ${first} and ${last - 1}`}
    >
      {list("query", rows, left - 6, query)}
      <svg width={width} height={height} aria-hidden="true">
        {edges.map(([q, k, weight]) => {
          const at = Math.abs(place(scale, weight));
          const quiet = one !== undefined && q !== one;
          const middle = (left + right) / 2;
          return (
            <path
              d={`M${left},${y(q)}C${middle},${y(q)} ${middle},${y(k)} ${right},${y(k)}`}
              stroke={css(scale, weight).background}
              stroke-width={0.6 + 4 * at}
              stroke-opacity={quiet ? 0.06 : 0.25 + 0.75 * at}
            >
              <title>{format(weight)}</title>
            </path>
          );
        })}
      </svg>
      {list("key", columns, width - right - 6, key)}
      {missing > 0 && <span class="iw-busy">computing…</span>}
    </div>
  );
}
