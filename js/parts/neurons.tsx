// The table of neurons, of which only what is near the view is asked for and drawn.
import { useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { count, format, painter, type Scale } from "../colour.ts";
import type { Tile } from "../tiles.ts";
import { px, useTiles } from "../view.tsx";
import { scaleOf } from "./values.ts";

export type Sort = "max" | "mean" | "position" | "share" | "index";
export type Pin = [layer: number, neuron: number];

export interface Traits {
  title: string;
  prompts: { name: string; size: number }[];
  layers: { name: string; neurons: number }[];
  prompt: number;
  layer: number;
  neuron: number;
  position: number | null;
  sort_by: Sort;
  filter: string;
  pinned: Pin[];
  colour_range: [number, number] | [];
}

// As in interpwidgets/views/neurons.py.
const ROWS = 32; // in a tile
export const [INDEX, MAX, MEAN, SHARE, WHERE, AT, STRIP] = [0, 1, 2, 3, 4, 5, 6];

const LINE = 22; // CSS pixels of a row
const VIEW = 14; // rows in view
const AHEAD = 8;

/** A row of a tile: numbers of one neuron. */
export const rowOf = (tile: Tile, i: number) =>
  (tile.data as Float32Array).subarray(i * tile.shape[1]!, (i + 1) * tile.shape[1]!);

/** The table, of which only what is near the view is asked for and drawn. */
export function Table({
  traits,
  size,
  dark,
  onSelect,
}: {
  traits: Traits;
  size: number;
  dark: boolean;
  onSelect: (neuron: number) => void;
}) {
  const { prompt, layer, neuron, sort_by: sort, filter } = traits;
  const position = sort === "position" ? traits.position : null;
  const key = (block: number) => JSON.stringify({ what: "rows", prompt, layer, sort, position, filter, block });
  const id = useId();
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0); // the first row in view, in steps
  const [total, setTotal] = useState(0);
  const first = Math.max(0, top - AHEAD);
  const last = Math.min(Math.max(total, ROWS), top + VIEW + 2 * AHEAD);
  const blocks: number[] = [];
  for (let block = Math.floor(first / ROWS); block * ROWS < last; block++) blocks.push(block);
  const { get, errors } = useTiles(blocks.map(key));
  const some = blocks.map((block) => get(key(block))).find(Boolean) as (Tile & Record<"total" | "least" | "most", number>) | undefined; // prettier-ignore
  useLayoutEffect(() => {
    if (some) setTotal(some.total);
  }, [some?.total]);
  const { least = 0, most = 1 } = some ?? {};
  const scale = useMemo(() => scaleOf(Float32Array.of(least, most), "linear", dark, []), [least, most, dark]);
  const at = (i: number) => {
    const tile = get(key(Math.floor(i / ROWS)));
    return tile && i < total && i % ROWS < tile.shape[0]! ? rowOf(tile, i % ROWS) : undefined;
  };
  const places = Array.from({ length: Math.max(0, Math.min(last, total) - first) }, (_, i) => first + i);
  const here = places.find((i) => at(i)?.[INDEX] === neuron);

  const press = (event: KeyboardEvent) => {
    const by: Record<string, number> = { ArrowUp: -1, ArrowDown: 1, PageUp: 1 - VIEW, PageDown: VIEW - 1 };
    const step = by[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const next = here === undefined ? top : Math.max(0, Math.min(total - 1, here + step));
    const row = at(next);
    if (row) onSelect(row[INDEX]!);
    const { scrollTop } = box.current!;
    if (next * LINE < scrollTop) box.current!.scrollTop = next * LINE;
    else if ((next + 1) * LINE > scrollTop + VIEW * LINE) box.current!.scrollTop = (next + 1 - VIEW) * LINE;
  };
  const click = ({ target }: Event) => {
    const place = (target as Element).closest<HTMLElement>("[data-row]")?.dataset.row;
    const row = place === undefined ? undefined : at(Number(place));
    if (row) onSelect(row[INDEX]!);
  };
  return (
    <>
      <div class="iw-neuron iw-head" aria-hidden="true">
        <span>neuron</span>
        <span>max</span>
        <span>mean</span>
        <span>{position === null ? "active" : `at ${position}`}</span>
        <span>text: 0 to {count(size - 1)}</span>
      </div>
      <div
        class="iw-neuron-table"
        ref={box}
        role="listbox"
        tabIndex={0}
        aria-label={`${count(total)} neurons, sorted by ${sort}. Arrow keys move the selection.`}
        aria-activedescendant={here === undefined ? undefined : `${id}-${here}`}
        style={px({ height: VIEW * LINE })}
        onScroll={() => setTop(AHEAD * Math.floor(box.current!.scrollTop / LINE / AHEAD))}
        onKeyDown={press}
        onClick={click}
      >
        <div style={px({ height: total * LINE })}>
          {places.map((i) => (
            <Row
              key={i}
              place={i}
              total={total}
              id={`${id}-${i}`}
              row={at(i)}
              selected={i === here}
              scale={scale}
              position={position}
            />
          ))}
        </div>
      </div>
      <small>
        {errors.length ? (
          <span role="alert">
            {errors[0] === "not stored in this page" ? "This copy does not hold these rows." : errors[0]}
          </span>
        ) : some ? (
          `${count(total)} of ${count(traits.layers[layer]!.neurons)} neurons; strips from ${format(least)} to ${format(most)}`
        ) : (
          "…"
        )}
      </small>
    </>
  );
}

export function Row({
  place,
  total,
  id,
  row,
  selected,
  scale,
  position,
}: {
  place: number;
  total: number;
  id: string;
  row: Float32Array | undefined;
  selected: boolean;
  scale: Scale;
  position: number | null;
}) {
  return (
    <div
      class={`iw-neuron${selected ? " iw-active" : ""}`}
      data-row={place}
      id={id}
      role="option"
      aria-selected={selected}
      aria-setsize={total}
      aria-posinset={place + 1}
      style={px({ top: place * LINE, height: LINE })}
    >
      <span>{row ? row[INDEX] : "…"}</span>
      {row && <Facts {...{ row, scale, position }} />}
    </div>
  );
}

/** What a row says of a neuron, beside its name. */
export function Facts({ row, scale, position }: { row: Float32Array; scale: Scale; position: number | null }) {
  return (
    <>
      <span title={`at position ${row[WHERE]}`}>{short(row[MAX]!)}</span>
      <span>{short(row[MEAN]!)}</span>
      <span>{position === null ? `${(100 * row[SHARE]!).toFixed(1)} %` : short(row[AT]!)}</span>
      <Strip values={row.subarray(STRIP)} scale={scale} />
    </>
  );
}

export function Strip({ values, scale }: { values: Float32Array; scale: Scale }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useLayoutEffect(() => {
    canvas.current!.width = values.length;
    const image = new ImageData(values.length, 1);
    new Uint32Array(image.data.buffer).set(Array.from(values, painter(scale)));
    canvas.current!.getContext("2d")!.putImageData(image, 0, 0);
  }, [values.buffer, values.byteOffset, scale]);
  return <canvas ref={canvas} height={1} aria-hidden="true" />;
}

export const short = (value: number) => Number(value.toPrecision(3)).toString().replace("-", "−");
