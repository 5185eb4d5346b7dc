// A heat map with labelled rows and columns. Only the columns on screen are drawn, so thousands of them are as fast as
// ten. Rows run from top to bottom in the order of their numbers; what a number stands for is the caller's.
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { count, css, painter, type Scale } from "../colour.ts";
import { px } from "../view.tsx";
import { nice } from "./axis.tsx";

export interface GridCell {
  row: number;
  column: number;
}

interface Props {
  rows: number;
  columns: number;
  /** NaN: missing, and hatched. Drawn again when it is another function, so keep it while the values are the same. */
  value: (row: number, column: number) => number;
  scale: Scale;
  rowLabel: (row: number) => string;
  columnLabel: (column: number) => string;
  columnTick?: (column: number) => string; // where there is no room for labels; else the column's number
  above?: (column: number) => string; // a second label for each column, on the other side
  differs?: (column: number) => boolean; // columns whose labels are marked
  text?: ((row: number, column: number) => string | undefined) | undefined; // written into the cell
  dotted?: ((row: number, column: number) => boolean) | undefined;
  selected: GridCell | null;
  width: number; // CSS pixels, labels included
  labelWidth?: number; // CSS pixels beside the rows
  cellWidth?: readonly [least: number, most: number]; // CSS pixels; beyond the least, columns scroll
  cellHeight?: number; // CSS pixels; as high as wide if left out
  axes: readonly [rows: string, columns: string]; // what the sides are
  label: string; // for those who do not see it
  onSelect: (cell: GridCell) => void;
  onHover?: (cell: GridCell | null) => void;
  /** The first column on screen and the one after the last, in steps of a page: what to have at hand. */
  onWindow?: (first: number, last: number) => void;
}

const ROOM = 13; // CSS pixels a label needs
const PAGE = 32; // columns: the window of labels moves in steps, so that scrolling draws pixels, not text
const FLAT = 44; // CSS pixels from which labels are never turned
const TURNED = 64; // CSS pixels that turned labels may take
const GLYPH = 7; // CSS pixels of a letter of a label
const FONT = '11px ui-monospace, "SF Mono", "DejaVu Sans Mono", Menlo, monospace';

export function Grid(props: Props) {
  const { rows, columns, value, scale, text, dotted, selected, width, onSelect, onHover, onWindow } = props;
  const { labelWidth = 44, cellWidth = [6, 28], columnLabel, above, differs } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const room = Math.max(40, width - labelWidth - 4);
  const cell = clamp(room / columns, cellWidth[0], cellWidth[1]);
  const height = props.cellHeight ?? cell;
  const shown = Math.min(room, cell * columns);
  const [[first, last], setWindow] = useState(() => {
    const left = selected ? Math.max(0, selected.column + 1 - shown / cell) : 0; // it will be scrolled into view
    return pages(left, left + shown / cell, columns);
  });
  const [hovered, setHovered] = useState<GridCell | null>(null);
  const ratio = devicePixelRatio || 1;
  const fitted = useMemo(() => new Map<string, string>(), [cell]);

  const draw = () => {
    if (!scroller.current) return; // scrolled, then gone
    const left = scroller.current.scrollLeft;
    const from = Math.floor(left / cell);
    const to = Math.min(columns, Math.ceil((left + shown) / cell));
    const window = pages(from, to, columns);
    if (window[0] !== first || window[1] !== last) setWindow(window);
    const context = sized(canvas.current!, shown, rows * height, ratio);
    paintCells(context, { ...props, from, to, x: from * cell - left, cell, height });
    if (text && cell > 2 * GLYPH && height >= ROOM) {
      context.font = FONT;
      context.textBaseline = "middle";
      for (let row = 0; row < rows; row++)
        for (let column = from; column < to; column++) {
          const written = text(row, column);
          if (!written) continue;
          context.fillStyle = css(scale, value(row, column)).color;
          context.fillText(fit(context, written, cell - 6, fitted), column * cell - left + 3, (row + 0.5) * height + 1);
        }
    }
    if (dotted)
      for (let row = 0; row < rows; row++)
        for (let column = from; column < to; column++)
          if (dotted(row, column)) {
            context.fillStyle = css(scale, value(row, column)).color;
            context.globalAlpha = 0.55;
            const radius = Math.min(1.7, cell / 5, height / 5);
            const x = text ? (column + 1) * cell - 5 : (column + 0.5) * cell;
            context.beginPath();
            context.arc(x - left, text ? row * height + 5 : (row + 0.5) * height, radius, 0, 2 * Math.PI);
            context.fill();
            context.globalAlpha = 1;
          }
  };
  useLayoutEffect(draw, [value, text, dotted, scale, rows, columns, cell, height, shown, ratio]);
  useLayoutEffect(() => onWindow?.(first, last), [first, last]);
  useLayoutEffect(() => {
    if (!selected) return;
    const [start, end] = [selected.column * cell, (selected.column + 1) * cell];
    const box = scroller.current!;
    if (start < box.scrollLeft) box.scrollLeft = start;
    else if (end > box.scrollLeft + shown) box.scrollLeft = end - shown;
  }, [selected?.column, cell, shown]);

  const at = (event: MouseEvent): GridCell => {
    const box = canvas.current!.getBoundingClientRect();
    return {
      row: clamp(Math.floor((event.clientY - box.top) / height), 0, rows - 1),
      column: clamp(Math.floor((event.clientX - box.left + scroller.current!.scrollLeft) / cell), 0, columns - 1),
    };
  };
  const hover = (next: GridCell | null) => {
    if (next?.row === hovered?.row && next?.column === hovered?.column) return;
    setHovered(next);
    onHover?.(next);
  };
  const press = (event: KeyboardEvent) => {
    const from = selected ?? { row: 0, column: 0 };
    const to: Record<string, GridCell> = {
      ArrowUp: { ...from, row: from.row - 1 },
      ArrowDown: { ...from, row: from.row + 1 },
      ArrowLeft: { ...from, column: from.column - 1 },
      ArrowRight: { ...from, column: from.column + 1 },
      Home: { ...from, column: 0 },
      End: { ...from, column: columns - 1 },
    };
    const next = to[event.key];
    if (!next) return;
    event.preventDefault();
    next.row = clamp(next.row, 0, rows - 1);
    next.column = clamp(next.column, 0, columns - 1);
    if (!selected || next.row !== selected.row || next.column !== selected.column) onSelect(next);
  };

  const longest = Math.max(...sample(columns).map((i) => Math.max(columnLabel(i).length, above?.(i).length ?? 0)));
  const turned = cell >= ROOM && cell < FLAT && longest * GLYPH + 4 > cell;
  const tall = turned ? Math.min(TURNED, longest * GLYPH + 8) : 18; // CSS pixels of a row of labels
  const side = (label: (column: number) => string, which: string) => (
    <Columns
      {...{ label, which, first, last, columns, cell, turned, tall, differs }}
      tick={props.columnTick ?? count}
      marked={selected?.column}
    />
  );
  const below = useMemo(() => side(columnLabel, "bottom"), [columnLabel, differs, first, last, columns, cell, tall, selected?.column]); // prettier-ignore
  const over = useMemo(() => above && side(above, "top"), [above, differs, first, last, columns, cell, tall, selected?.column]); // prettier-ignore
  const frame = ({ row, column }: GridCell) => px({ left: column * cell, top: row * height, width: cell, height });
  const step = nice(ROOM / height);
  const named = Array.from({ length: Math.ceil(rows / step) }, (_, i) => i * step);
  return (
    <div class="iw-heat" style={`grid-template-columns:${labelWidth}px ${shown}px`}>
      <div class="iw-heat-rows" style={px({ height: rows * height, "margin-top": over ? tall : 0 })}>
        {named.map((row) => (
          <span
            class={row === selected?.row ? "iw-marked" : ""}
            style={px({ top: (row + 0.5) * height })}
            title={props.rowLabel(row)}
          >
            <bdi>{props.rowLabel(row)}</bdi>
          </span>
        ))}
      </div>
      <div class="iw-heat-scroll" ref={scroller} onScroll={draw}>
        <div style={px({ width: cell * columns })}>
          {over}
          <div class="iw-heat-cells" style={px({ height: rows * height })}>
            <canvas
              ref={canvas}
              tabIndex={0}
              role="img"
              aria-label={props.label}
              onPointerMove={(event) => hover(at(event))}
              onPointerLeave={() => hover(null)}
              onClick={(event) => onSelect(at(event))}
              onKeyDown={press}
            />
            {hovered && <i class="iw-heat-hovered" style={frame(hovered)} />}
            {selected && <i class="iw-heat-selected" style={frame(selected)} />}
          </div>
          {below}
        </div>
      </div>
      <small class="iw-heat-axes">
        <span>{props.axes[0]}</span> <span>{props.axes[1]}</span>
      </small>
    </div>
  );
}

interface Drawn {
  rows: number;
  value: (row: number, column: number) => number;
  scale: Scale;
  from: number;
  to: number;
  x: number; // CSS pixels from the canvas' left to the first column
  cell: number;
  height: number;
}

const scratch = document.createElement("canvas");

/** A pixel a cell, stretched without smoothing; thin lines between cells that are large enough to be told apart. */
function paintCells(context: CanvasRenderingContext2D, { rows, value, scale, from, to, x, cell, height }: Drawn) {
  const image = new ImageData(Math.max(1, to - from), rows);
  const pixels = new Uint32Array(image.data.buffer);
  const paint = painter(scale);
  for (let row = 0, i = 0; row < rows; row++)
    for (let column = from; column < to; column++) pixels[i++] = paint(value(row, column));
  Object.assign(scratch, { width: image.width, height: rows });
  scratch.getContext("2d")!.putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(scratch, x, 0, (to - from) * cell, rows * height);
  context.fillStyle = hatch(context);
  for (let row = 0, i = 0; row < rows; row++)
    for (let column = from; column < to; column++)
      if (!pixels[i++]) context.fillRect(x + (column - from) * cell, row * height, cell, height);
  if (cell < 8 || height < 8) return;
  for (let column = 1; column <= to - from; column++) context.clearRect(x + column * cell - 0.5, 0, 1, rows * height);
  for (let row = 1; row < rows; row++) context.clearRect(0, row * height - 0.5, context.canvas.width, 1);
}

/** What missing cells are filled with: diagonal lines in the colour of text, faint. */
function hatch(context: CanvasRenderingContext2D): CanvasPattern {
  Object.assign(scratch, { width: 6, height: 6 });
  const pen = scratch.getContext("2d")!;
  pen.strokeStyle = getComputedStyle(context.canvas).color;
  pen.globalAlpha = 0.3;
  for (const shift of [-6, 0, 6]) {
    pen.moveTo(shift - 1, 7);
    pen.lineTo(shift + 7, -1);
  }
  pen.stroke();
  return context.createPattern(scratch, "repeat")!;
}

/** A context that draws in CSS pixels, at the device's resolution. */
function sized(canvas: HTMLCanvasElement, width: number, height: number, ratio: number): CanvasRenderingContext2D {
  Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
  canvas.style.cssText = px({ width, height });
  const context = canvas.getContext("2d")!;
  context.scale(ratio, ratio);
  return context;
}

/** The text, cut to a width. */
function fit(context: CanvasRenderingContext2D, text: string, width: number, known: Map<string, string>): string {
  let found = known.get(text);
  if (found !== undefined) return found;
  const characters = Array.from(text);
  let kept = characters.length;
  found = text;
  while (kept > 1 && context.measureText(found).width > width) found = characters.slice(0, --kept).join("") + "…";
  known.set(text, found);
  return found;
}

/** Labels along one side, of the columns in the window. */
function Columns({
  label,
  tick,
  which,
  first,
  last,
  columns,
  cell,
  turned,
  tall,
  differs,
  marked,
}: {
  label: (column: number) => string;
  tick: (column: number) => string;
  which: string;
  first: number;
  last: number;
  columns: number;
  cell: number;
  turned: boolean;
  tall: number;
  differs: ((column: number) => boolean) | undefined;
  marked: number | undefined;
}) {
  const named = cell >= ROOM;
  const step = named ? 1 : nice((ROOM * 4) / cell);
  const places = [];
  for (let i = Math.ceil(first / step) * step; i < last; i += step) places.push(i);
  if (!named && marked !== undefined) {
    const room = (ROOM * 4) / cell;
    places.splice(0, places.length, ...places.filter((i) => Math.abs(i - marked) > room), marked);
  }
  const room = named ? cell : 4 * ROOM;
  return (
    <div
      class={`iw-heat-columns iw-heat-${which}${turned ? " iw-turned" : ""}`}
      style={px({ height: tall })}
      aria-hidden="true"
    >
      {places.map((i) => (
        <span
          class={`${i === marked ? "iw-marked" : ""}${differs?.(i) ? " iw-differs" : ""}`}
          style={px(turned ? { left: (i + 0.5) * cell } : { left: edge(i, cell, room, columns), width: room })}
          title={`${label(i)} · ${tick(i)}`}
        >
          <bdi>{named ? label(i) : tick(i)}</bdi>
        </span>
      ))}
    </div>
  );
}

/** Where a label of that width begins: centred on its column, within the grid. */
const edge = (column: number, cell: number, room: number, columns: number) =>
  Math.max(0, Math.min((column + 0.5) * cell - room / 2, columns * cell - room));

/** Columns whose labels tell whether labels fit: not all of thousands. */
const sample = (columns: number) => [...Array.from({ length: Math.min(columns, 64) }, (_, i) => i), columns - 1];

const pages = (from: number, to: number, columns: number): [number, number] => [
  Math.floor(from / PAGE) * PAGE,
  Math.min(columns, Math.ceil(to / PAGE) * PAGE),
];

const clamp = (value: number, low: number, high: number) => Math.max(low, Math.min(high, value));
