// One head as a matrix: pixels from tiles, at any zoom. Rows are queries, columns keys.
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { count, type Scale } from "../colour.ts";
import type { Tile } from "../tiles.ts";
import { px, useTiles } from "../view.tsx";
import {
  type Cell,
  chunksOf,
  isSmall,
  keys,
  type Panel,
  type Prompt,
  SIDE,
  useTokens,
  type Viewport,
} from "./attention.ts";
import { Axis } from "./axis.tsx";
import { head, pictureOf, stretch } from "./pixels.ts";
import { type Pointer, type Selected, usePointer } from "./pointer.ts";
import type { Token, TokenAt } from "./token.tsx";

const LEAST = 4; // weights across, zoomed in as far as it goes

interface Props {
  prompt: Prompt;
  panel: Panel;
  size: number; // CSS pixels a side
  labels: number; // CSS pixels for the queries' tokens
  scale: Scale;
  pooling: string;
  viewport: Viewport;
  pointer: Pointer;
  selected: Selected;
  region: number[];
  painting: boolean;
  faded: ((token: Token | undefined, position: number) => boolean) | null;
  label: string;
  onSelect: (cell: Cell) => void;
  onViewport: (viewport: Viewport) => void;
  onPaint: (region: Viewport) => void;
}

interface Drag {
  from: Cell;
  to: Cell;
  x: number;
  y: number;
  viewport: Viewport;
  paint: boolean;
  moved: boolean;
}

interface Square {
  key: string;
  row: number; // first query
  column: number;
  step: number;
}

export function Matrix(props: Props) {
  const { prompt, panel, size, scale, pooling, viewport, region, painting, faded, label, pointer, selected } = props;
  const [, , queries, nKeys] = prompt.shape;
  const canvas = useRef<HTMLCanvasElement>(null);
  const [drag, setDrag] = useState<Drag | null>(null);

  const { error } = useTiles([]);
  const squares = visible(prompt, panel, pooling, viewport, size * (devicePixelRatio || 1), error);
  const atlasKey = keys.atlas(panel, pooling);
  const wanted = squares.map(({ key }) => key);
  const { get, errors, missing } = useTiles([atlasKey, ...wanted]);
  const atlas = typeof panel.head === "number" ? get(atlasKey) : undefined;
  const here = squares.flatMap((square) => get(square.key) ?? []);
  const sampled = here.find((tile) => tile.sampled)?.sampled;

  const queryTokens = useTokens(prompt, panel.prompt, "query", span(prompt, "query", viewport, size));
  const keyTokens = useTokens(prompt, panel.prompt, "key", span(prompt, "key", viewport, size));

  useLayoutEffect(() => {
    const ratio = devicePixelRatio || 1;
    const side = Math.floor(size * ratio);
    const image = new ImageData(side, side);
    const [top, bottom, left, right] = viewport;
    const draw = (tile: Tile, row: number, column: number, down: number, across: number) =>
      stretch(pictureOf(tile, scale, row, column, prompt.causal), image, {
        left: ((column - left) / (right - left)) * side,
        top: ((row - top) / (bottom - top)) * side,
        width: ((tile.shape[1]! * across) / (right - left)) * side,
        height: ((tile.shape[0]! * down) / (bottom - top)) * side,
      });
    if (atlas && here.length < squares.length)
      draw(head(atlas, panel.layer, panel.head as number), 0, 0, ...atlas.step);
    for (const { key, row, column, step } of squares) {
      const tile = get(key);
      if (tile) draw(tile, row, column, step, step);
    }
    Object.assign(canvas.current!, { width: side, height: side });
    canvas.current!.getContext("2d")!.putImageData(image, 0, 0);
  }, [wanted.join("\n"), here.length, atlas, scale, size, viewport.join(), panel.layer, panel.head]);

  const at = (event: MouseEvent): Cell => {
    const box = canvas.current!.getBoundingClientRect();
    const [top, bottom, left, right] = viewport;
    const down = (event.clientY - box.top) / box.height;
    const across = (event.clientX - box.left) / box.width;
    return {
      query: clamp(Math.floor(top + down * (bottom - top)), 0, queries - 1),
      key: clamp(Math.floor(left + across * (right - left)), 0, nKeys - 1),
    };
  };
  const zoom = (factor: number, around?: Cell) => props.onViewport(zoomed(viewport, queries, nKeys, factor, around));

  useLayoutEffect(() => {
    const wheel = (event: WheelEvent) => {
      if (!event.ctrlKey && !event.metaKey) return; // a plain wheel scrolls the notebook
      event.preventDefault();
      zoom(event.deltaY < 0 ? 0.8 : 1.25, at(event));
    };
    const element = canvas.current!;
    element.addEventListener("wheel", wheel, { passive: false });
    return () => element.removeEventListener("wheel", wheel);
  });

  const down = (event: PointerEvent) => {
    canvas.current!.setPointerCapture(event.pointerId);
    const paint = painting || event.shiftKey;
    setDrag({ from: at(event), to: at(event), x: event.clientX, y: event.clientY, viewport, paint, moved: false });
  };
  const move = (event: PointerEvent) => {
    pointer.set(at(event));
    if (!drag) return;
    const [dx, dy] = [drag.x - event.clientX, drag.y - event.clientY];
    const moved = drag.moved || Math.hypot(dx, dy) > 4; // a click may tremble
    setDrag({ ...drag, to: at(event), moved });
    if (drag.paint || !moved) return;
    const shift = (first: number, last: number, pixels: number, most: number) => {
      const by = clamp((pixels / size) * (last - first), -first, most - last);
      return [first + by, last + by] as const;
    };
    const [top, bottom, left, right] = drag.viewport;
    props.onViewport([...shift(top, bottom, dy, queries), ...shift(left, right, dx, nKeys)]);
  };
  const up = () => {
    if (drag?.paint && drag.moved) props.onPaint(box(drag.from, drag.to));
    else if (drag && !drag.moved) props.onSelect(drag.from);
    setDrag(null);
  };
  const press = (event: KeyboardEvent) => {
    const cell = pointer.cell(selected);
    const from = { query: cell.query ?? queries - 1, key: cell.key ?? 0 };
    const by: Record<string, [number, number]> = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    };
    const step = by[event.key];
    if (step) {
      const query = clamp(from.query + step[0], 0, queries - 1);
      const key = clamp(from.key + step[1], 0, nKeys - 1);
      if (query !== cell.query || key !== cell.key) props.onSelect({ query, key }); // the same again would let it go
    } else if (event.key === "+" || event.key === "=") zoom(0.5, from);
    else if (event.key === "-") zoom(2, from);
    else if (event.key === "0") props.onViewport([0, queries, 0, nKeys]);
    else return;
    event.preventDefault();
  };

  const place = (edge: number, [first, last]: [number, number]) => ((edge - first) / (last - first)) * size;
  const vertical: [number, number] = [viewport[0], viewport[1]];
  const horizontal: [number, number] = [viewport[2], viewport[3]];
  const rect = ([top, bottom, left, right]: number[]) => ({
    x: place(left!, horizontal),
    y: place(top!, vertical),
    width: place(right!, horizontal) - place(left!, horizontal),
    height: place(bottom!, vertical) - place(top!, vertical),
  });
  const outlined = drag?.paint ? box(drag.from, drag.to) : region;
  const veils = useMemo(() => (faded ? veil(faded, viewport, queryTokens, keyTokens) : []), [faded, viewport.join(), queryTokens, keyTokens]); // prettier-ignore

  const marked = { pointer, selected };

  return (
    <div class="iw-matrix" style={`grid-template-columns:${props.labels}px max-content`}>
      <Axis axis="query" first={viewport[0]} last={viewport[1]} size={size} at={queryTokens} {...marked} />
      <div class="iw-pixels" style={px({ width: size, height: size })}>
        <canvas
          ref={canvas}
          tabIndex={0}
          role="img"
          aria-label={label}
          style={`${px({ width: size, height: size })};cursor:${painting ? "cell" : "crosshair"}`}
          onPointerDown={down}
          onPointerMove={move}
          onPointerUp={up}
          onPointerLeave={() => pointer.set(null)}
          onDblClick={(event) => zoom(0.5, at(event))}
          onKeyDown={press}
        />
        <svg class="iw-over" width={size} height={size} aria-hidden="true">
          {veils.map((veiled) => (
            <rect class="iw-veil" {...rect(veiled)} />
          ))}
          {outlined.length > 0 && <rect class="iw-region" {...rect(outlined)} />}
          <Cross {...marked} viewport={viewport} rect={rect} />
        </svg>
        {missing > 0 && <span class="iw-busy">computing…</span>}
      </div>
      <Axis axis="key" first={viewport[2]} last={viewport[3]} size={size} at={keyTokens} {...marked} />
      {sampled && (
        <small
          class="iw-note"
          title="Zoom in until a row of pixels is few enough queries, and every weight is looked at."
        >
          Each row of pixels looks at {sampled[0]} of its {count(sampled[1])} queries.
        </small>
      )}
      {errors.map((error) => (
        <small class="iw-note" role="alert">
          {error === "not stored in this page" ? "This copy holds no finer picture of this head." : error}
        </small>
      ))}
    </div>
  );
}

/** The row and the column of the marked cell. */
function Cross({
  pointer,
  selected,
  viewport,
  rect,
}: {
  pointer: Pointer;
  selected: Selected;
  viewport: Viewport;
  rect: (edges: number[]) => object;
}) {
  const { query, key } = usePointer(pointer, selected).cell;
  const [top, bottom, left, right] = viewport;
  return (
    <>
      {query !== undefined && <rect class="iw-cross" {...rect([query, query + 1, left, right])} />}
      {key !== undefined && <rect class="iw-cross" {...rect([top, bottom, key, key + 1])} />}
    </>
  );
}

const clamp = (value: number, low: number, high: number) => Math.max(low, Math.min(high, value));

/** Which tokens an axis must have: all of them if it can name them, none if it only numbers positions. */
const span = (prompt: Prompt, axis: "query" | "key", viewport: Viewport, size: number): number[] => {
  const [first, last] = axis === "query" ? [viewport[0], viewport[1]] : [viewport[2], viewport[3]];
  return (last - first) / size > 0.5 ? [] : chunksOf(prompt, axis, first, last);
};

const box = (a: Cell, b: Cell): Viewport => [
  Math.min(a.query, b.query), Math.max(a.query, b.query) + 1, Math.min(a.key, b.key), Math.max(a.key, b.key) + 1,
]; // prettier-ignore

export function zoomed(viewport: Viewport, queries: number, nKeys: number, factor: number, around?: Cell): Viewport {
  const [top, bottom, left, right] = viewport;
  const side = (first: number, last: number, size: number, centre: number) => {
    const width = clamp((last - first) * factor, Math.min(LEAST, size), size);
    const start = clamp(centre - ((centre - first) / (last - first)) * width, 0, size - width);
    return [start, start + width] as const;
  };
  const query = around ? around.query + 0.5 : (top + bottom) / 2;
  const key = around ? around.key + 0.5 : (left + right) / 2;
  return [...side(top, bottom, queries, query), ...side(left, right, nKeys, key)];
}

/**
 * The tiles that show this viewport: one of exact weights, or squares of the level that gives a pixel a pixel. A copy
 * without that level may hold a finer one.
 */
function visible(
  prompt: Prompt,
  panel: Panel,
  pooling: string,
  viewport: Viewport,
  device: number,
  failed: (key: string) => unknown,
): Square[] {
  if (isSmall(prompt)) return [{ key: keys.rows(panel, 0), row: 0, column: 0, step: 1 }];
  const [top, bottom, left, right] = viewport;
  const best = Math.max(0, Math.ceil(Math.log2(Math.max(bottom - top, right - left) / device)));
  const at = (level: number) => {
    const side = SIDE * 2 ** level;
    const squares: Square[] = [];
    for (let row = Math.floor(top / side); row * side < bottom; row++)
      for (let column = Math.floor(left / side); column * side < right; column++)
        if (!(prompt.causal && column > row)) {
          const key = keys.image(panel, pooling, level, row, column);
          squares.push({ key, row: row * side, column: column * side, step: 2 ** level });
        }
    return squares;
  };
  const squares = at(best);
  return best > 0 && squares.some(({ key }) => failed(key)) ? at(best - 1) : squares;
}

/** Bands over faded queries and keys. */
function veil(
  faded: (token: Token | undefined, position: number) => boolean,
  [top, bottom, left, right]: Viewport,
  query: TokenAt,
  key: TokenAt,
): number[][] {
  const bands: number[][] = [];
  const end = (last: number, first: number) => (last - first > 2000 ? first + 1 : last); // at that size only the first shows
  for (let i = Math.floor(top); i < end(bottom, top); i++) if (faded(query(i), i)) bands.push([i, i + 1, left, right]);
  for (let i = Math.floor(left); i < end(right, left); i++) if (faded(key(i), i)) bands.push([top, bottom, i, i + 1]);
  return bands;
}
