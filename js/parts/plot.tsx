// Plots: axes with names, lines with bands, bars with intervals, points by the hundred thousand.
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { px } from "../view.tsx";
import { type Axis, type Placed, placed } from "./scale.ts";

export interface Laid {
  x: Placed;
  y: Placed;
  left: number;
  top: number;
  right: number;
  bottom: number;
  same: string; // for plots whose values have the same places
}

export interface Cursor {
  at: number; // on the x axis
  now: number; // which of how many, for a screen reader
  last: number;
  words: string;
}

interface PlotProps {
  width: number;
  height: number;
  x: Axis;
  y: Axis;
  label: string;
  margin?: { left?: number; right?: number; top?: number; bottom?: number };
  cursor?: Cursor | undefined;
  onMove?: ((x: number, y: number) => void) | undefined; // the pointer, in values
  onLeave?: (() => void) | undefined;
  onDrag?: ((x: number, y: number, begins: boolean) => void) | undefined; // while a button is down
  onKey?: ((event: KeyboardEvent) => void) | undefined;
  under?: ComponentChildren; // a canvas, below the axes
  children?: (laid: Laid) => ComponentChildren; // SVG
}

/** Where things are in a plot of that size. */
function laidOut({ width, height, x, y, margin }: Pick<PlotProps, "width" | "height" | "x" | "y" | "margin">): Laid {
  const [left, right] = [margin?.left ?? 52, width - (margin?.right ?? 20)];
  const [top, bottom] = [margin?.top ?? 8, height - (margin?.bottom ?? 34)];
  const across = placed(x, left, right, Math.max(2, Math.floor((right - left) / 80)));
  const up = placed(y, bottom, top, Math.max(2, Math.floor((bottom - top) / 34)));
  const same = [width, height, x.low, x.high, x.kind, x.first, y.low, y.high, y.kind, y.first].join();
  return { x: across, y: up, left, top, right, bottom, same };
}

/** Axes, and what is drawn between them. */
export function Plot(props: PlotProps) {
  const { width, height, x, y, label, cursor, onMove, onLeave, onDrag, onKey, under, children } = props;
  const svg = useRef<SVGSVGElement>(null);
  const laid = laidOut(props);
  const { x: across, y: up, left, top, right, bottom } = laid;
  const told = (event: PointerEvent, tell: (x: number, y: number) => void) => {
    const box = svg.current!.getBoundingClientRect();
    tell(across.back(event.clientX - box.left), up.back(event.clientY - box.top));
  };
  const slider = cursor && {
    role: "slider" as const,
    "aria-valuemin": 0,
    "aria-valuemax": cursor.last,
    "aria-valuenow": cursor.now,
    "aria-valuetext": cursor.words,
  };
  return (
    <div class="iw-plot" style={px({ width, height })}>
      {under}
      <svg
        ref={svg}
        width={width}
        height={height}
        aria-label={label}
        role="img"
        {...slider}
        tabindex={onKey ? 0 : -1}
        onKeyDown={onKey}
        onPointerDown={(event) => {
          if (!onDrag || event.button) return;
          svg.current!.setPointerCapture(event.pointerId);
          told(event, (a, b) => onDrag(a, b, true));
        }}
        onPointerMove={(event) => {
          if (onDrag && event.buttons & 1) told(event, (a, b) => onDrag(a, b, false));
          else if (onMove) told(event, onMove);
        }}
        onPointerLeave={onLeave}
      >
        {up.ticks.map(([value, text]) => (
          <g key={text}>
            <line class="iw-grid" x1={left} x2={right} y1={up.at(value)} y2={up.at(value)} />
            <text x={left - 5} y={up.at(value) + 4} text-anchor="end">
              {text}
            </text>
          </g>
        ))}
        {across.ticks.map(([value, text]) => (
          <g key={text}>
            <line class="iw-grid" x1={across.at(value)} x2={across.at(value)} y1={bottom} y2={bottom + 4} />
            <text x={across.at(value)} y={bottom + 16} text-anchor="middle">
              {text}
            </text>
          </g>
        ))}
        <path class="iw-base" d={`M${left} ${top}V${bottom}H${right}`} />
        <text class="iw-axis-name" x={right} y={height - 4} text-anchor="end">
          {x.name}
        </text>
        <text class="iw-axis-name" transform={`translate(11 ${(top + bottom) / 2}) rotate(-90)`} text-anchor="middle">
          {y.name}
        </text>
        {children?.(laid)}
        {cursor && <line class="iw-cursor" x1={across.at(cursor.at)} x2={across.at(cursor.at)} y1={top} y2={bottom} />}
      </svg>
    </div>
  );
}

export interface Series {
  name: string;
  colour: string;
  dash?: string;
  x: ArrayLike<number>;
  y: ArrayLike<number>;
  low?: ArrayLike<number> | undefined; // a band, where there is one
  high?: ArrayLike<number> | undefined;
}

/** Lines, each with its band. Where a value is NaN a line is broken. */
export const Lines = ({ series, laid }: { series: Series[]; laid: Laid }) => (
  <g class="iw-lines">
    {series.map((each) => (
      <Line key={each.name} {...each} laid={laid} />
    ))}
  </g>
);

function Line({ colour, dash, x, y, low, high, laid }: Series & { laid: Laid }) {
  const path = useMemo(() => line(x, y, laid), [x, y, laid.same]);
  const area = useMemo(() => (low && high ? band(x, low, high, laid) : ""), [x, low, high, laid.same]);
  return (
    <>
      {area && <path d={area} fill={colour} opacity={0.18} />}
      <path d={path} fill="none" stroke={colour} stroke-width={1.8} stroke-dasharray={dash} />
    </>
  );
}

/** A path through the values: of those that share a pixel's column, the first, the extremes and the last. */
export function line(x: ArrayLike<number>, y: ArrayLike<number>, laid: Laid): string {
  let path = "";
  let pen = "M";
  const put = (across: number, up: number) => {
    path += `${pen}${across.toFixed(1)} ${up.toFixed(1)}`;
    pen = "L";
  };
  const crowded = x.length > 4 * (laid.right - laid.left);
  let [column, low, high, end] = [NaN, 0, 0, 0];
  const flush = () => {
    if (!Number.isNaN(column)) for (const up of [low, high, end]) put(column, up);
    column = NaN;
  };
  for (let i = 0; i < x.length; i++) {
    const [across, up] = [laid.x.at(x[i]!), laid.y.at(y[i]!)];
    if (Number.isNaN(across) || Number.isNaN(up)) {
      flush();
      pen = "M";
    } else if (!crowded) {
      put(across, up);
      if (!drawn(y[i - 1]) && !drawn(y[i + 1])) path += "h0.1"; // a point between gaps is still seen
    } else if (Math.round(across) === column) {
      [low, high, end] = [Math.min(low, up), Math.max(high, up), up];
    } else {
      flush();
      [column, low, high, end] = [Math.round(across), up, up, up];
      put(column, up);
    }
  }
  flush();
  return path;
}

const drawn = (value: number | undefined) => value !== undefined && !Number.isNaN(value);

/** The area between two lines, in one piece for each stretch where both are there. */
function band(x: ArrayLike<number>, low: ArrayLike<number>, high: ArrayLike<number>, laid: Laid): string {
  let path = "";
  for (let first = 0; first < x.length; first++) {
    if (!drawn(low[first]) || !drawn(high[first])) continue;
    let last = first;
    while (last + 1 < x.length && drawn(low[last + 1]) && drawn(high[last + 1])) last++;
    const part = (list: ArrayLike<number>) => Array.from({ length: last + 1 - first }, (_, i) => list[first + i]!);
    const back = line(part(x).reverse(), part(low).reverse(), laid);
    path += line(part(x), part(high), laid) + back.replace("M", "L") + "Z";
    first = last;
  }
  return path;
}

/** The index of the value nearest to one, in a list that ascends. */
export function nearest(list: ArrayLike<number>, value: number): number {
  let [low, high] = [0, list.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (list[middle]! <= value) low = middle;
    else high = middle;
  }
  return Math.abs(list[high]! - value) < Math.abs(list[low]! - value) ? high : low;
}

interface PointsProps {
  laid: Pick<Laid, "left" | "top" | "right" | "bottom">;
  at: Float32Array; // pixels, x and y of each in turn
  radius: number;
  colour: (i: number) => string; // few different ones: points of one colour are drawn together
  order?: ArrayLike<number> | undefined; // the last one on top
  spokes?: readonly number[] | null; // x and y of where lines to every point begin
}

/** Points on a canvas. */
export function Points({ laid, at, radius, colour, order, spokes }: PointsProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const { left, top, right, bottom } = laid;
  useLayoutEffect(() => {
    const ratio = devicePixelRatio;
    const target = canvas.current!;
    [target.width, target.height] = [Math.round((right - left) * ratio), Math.round((bottom - top) * ratio)];
    const context = target.getContext("2d")!;
    const size = at.length / 2;
    if (size > CROWD) {
      const image = context.createImageData(target.width, target.height);
      stamp(image, { at, colour, order, x: -left, y: -top, ratio, side: Math.max(1, Math.round(2 * radius * ratio)) });
      context.putImageData(image, 0, 0);
      return;
    }
    context.scale(ratio, ratio);
    context.translate(-left, -top);
    for (let n = 0; n < size; n++) {
      const i = order?.[n] ?? n;
      const [x, y] = [at[2 * i]!, at[2 * i + 1]!];
      context.fillStyle = context.strokeStyle = colour(i);
      if (spokes) {
        context.beginPath();
        context.moveTo(spokes[0]!, spokes[1]!);
        context.lineTo(x, y);
        context.stroke();
      }
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      context.fill();
    }
  }, [left, top, right, bottom, at, radius, colour, order, spokes]);
  return <canvas ref={canvas} class="iw-points" aria-hidden="true" style={px({ left, top, width: right - left, height: bottom - top })} />; // prettier-ignore
}

const CROWD = 5000; // points: more are squares of pixels, a hundred thousand in a few milliseconds
const inks = new Map<string, number>(); // the four bytes of a colour

interface Stamped extends Pick<PointsProps, "at" | "colour" | "order"> {
  x: number; // CSS pixels that everything is moved by
  y: number;
  ratio: number;
  side: number; // device pixels
}

function stamp(image: ImageData, { at, colour, order, x, y, ratio, side }: Stamped) {
  const pixels = new Uint32Array(image.data.buffer);
  const { width, height } = image;
  for (let n = 0; n < at.length / 2; n++) {
    const i = order?.[n] ?? n;
    const left = Math.round((at[2 * i]! + x) * ratio - side / 2);
    const top = Math.round((at[2 * i + 1]! + y) * ratio - side / 2);
    if (!(left >= 0 && top >= 0 && left + side <= width && top + side <= height)) continue;
    const ink = inks.get(colour(i)) ?? mix(colour(i));
    for (let row = top; row < top + side; row++) pixels.fill(ink, row * width + left, row * width + left + side);
  }
}

/** What a canvas makes of a colour. */
function mix(colour: string): number {
  const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d")!;
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  const [ink] = new Uint32Array(context.getImageData(0, 0, 1, 1).data.buffer);
  inks.set(colour, ink!);
  return ink!;
}

/** The point that is nearest to a pixel, within a reach; null if none is. */
export function pointAt(at: Float32Array, x: number, y: number, reach = 12): number | null {
  let [found, least] = [-1, reach * reach];
  for (let i = 0; i < at.length; i += 2) {
    const [dx, dy] = [at[i]! - x, at[i + 1]! - y];
    const distance = dx * dx + dy * dy;
    if (distance <= least) [found, least] = [i / 2, distance];
  }
  return found < 0 ? null : found;
}

interface ScatterProps extends Omit<PlotProps, "under" | "onMove" | "onDrag" | "onLeave"> {
  points: Float32Array; // x and y of each in turn
  radius: number;
  colour: (i: number) => string;
  spokes?: boolean; // from the origin
  onHover: (point: number | null) => void;
  onSelect: (point: number) => void;
}

/** Points between axes; the nearest one answers. */
export function Scatter({ points, radius, colour, spokes, onHover, onSelect, ...plot }: ScatterProps) {
  const laid = laidOut(plot);
  const at = useMemo(() => {
    const pixels = new Float32Array(points.length);
    for (let i = 0; i < pixels.length; i += 2) {
      pixels[i] = laid.x.at(points[i]!);
      pixels[i + 1] = laid.y.at(points[i + 1]!);
    }
    return pixels;
  }, [points, laid.same]);
  const origin = useMemo<[number, number] | null>(() => (spokes ? [laid.x.at(0), laid.y.at(0)] : null), [spokes, laid.same]); // prettier-ignore
  const find = (a: number, b: number) => pointAt(at, laid.x.at(a), laid.y.at(b));
  return (
    <Plot
      {...plot}
      onMove={(a, b) => onHover(find(a, b))}
      onLeave={() => onHover(null)}
      onDrag={(a, b, begins) => {
        const point = begins ? find(a, b) : null;
        if (point !== null) onSelect(point);
      }}
      under={<Points laid={laid} at={at} radius={radius} colour={colour} spokes={origin} />}
    />
  );
}
