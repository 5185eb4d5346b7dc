// Points in space, seen without perspective: turned by dragging and by keys.
import type { ComponentChildren } from "preact";
import { useMemo, useRef, useState } from "preact/hooks";
import { px } from "../view.tsx";
import { pointAt, Points } from "./plot.tsx";

type Rotation = [turn: number, tilt: number]; // degrees
const PACE = 0.5; // degrees a pixel
const STEP = 7.5; // degrees a key
const SORTED = 20_000; // points: among more, which one lies in front cannot be seen

interface Props {
  size: number;
  points: Float32Array; // x, y and z of each in turn
  bounds: [low: number, high: number][]; // of each axis
  rotation: Rotation;
  radius: number;
  colour: (i: number) => string;
  spokes: boolean; // lines from the origin
  axes: string[];
  label: string;
  marks: (at: Float32Array) => ComponentChildren; // SVG, from the pixels of the points
  onHover: (point: number | null) => void;
  onSelect: (point: number) => void;
  onRotate: (rotation: Rotation) => void;
  onKey: (event: KeyboardEvent) => void; // keys that do not turn
}

export function Cloud(props: Props) {
  const { size, points, bounds, radius, colour, spokes, axes, label, marks, onHover, onSelect, onRotate, onKey } =
    props;
  const [turning, setTurning] = useState<Rotation | null>(null); // told to Python when the button is up
  const begun = useRef<{ x: number; y: number; from: Rotation } | null>(null);
  const [turn, tilt] = turning ?? props.rotation;
  const seen = useMemo(() => viewer(bounds, turn, tilt, size), [bounds, turn, tilt, size]);
  const { at, order } = useMemo(() => {
    const count = points.length / 3;
    const at = new Float32Array(2 * count);
    const depth = new Float32Array(count);
    for (let i = 0; i < count; i++)
      [at[2 * i], at[2 * i + 1], depth[i]] = seen(points[3 * i]!, points[3 * i + 1]!, points[3 * i + 2]!); // prettier-ignore
    const order =
      count <= SORTED ? Uint32Array.from(depth, (_, i) => i).sort((a, b) => depth[b]! - depth[a]!) : undefined;
    return { at, order };
  }, [points, seen]);
  const origin = useMemo(() => seen(0, 0, 0), [seen]);

  const svg = useRef<SVGSVGElement>(null);
  const pixel = (event: PointerEvent) => {
    const box = svg.current!.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const move = (event: PointerEvent) => {
    const { x, y } = pixel(event);
    const start = begun.current;
    if (!start) onHover(pointAt(at, x, y));
    else if (turning || Math.hypot(x - start.x, y - start.y) > 3)
      setTurning(turned(start.from, PACE * (x - start.x), PACE * (y - start.y)));
  };
  const end = (event: PointerEvent) => {
    const { x, y } = pixel(event);
    begun.current = null;
    if (turning) {
      onRotate(turning);
      setTurning(null);
      return;
    }
    const point = pointAt(at, x, y);
    if (point !== null) onSelect(point);
  };
  const key = (event: KeyboardEvent) => {
    const by = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    if (!by || event.shiftKey) onKey(event);
    else {
      event.preventDefault();
      onRotate(turned([turn, tilt], by[0]!, by[1]!));
    }
  };
  const length = 0.4 * Math.max(...bounds.map(([low, high]) => high - low));
  return (
    <div class="iw-plot iw-space" style={px({ width: size, height: size })}>
      <Points
        laid={{ left: 0, top: 0, right: size, bottom: size }}
        {...{ at, order, radius, colour }}
        spokes={spokes ? origin : null}
      />
      <svg
        ref={svg}
        width={size}
        height={size}
        role="img"
        aria-label={label}
        tabindex={0}
        onKeyDown={key}
        onPointerDown={(event) => {
          if (event.button) return;
          svg.current!.setPointerCapture(event.pointerId);
          begun.current = { ...pixel(event), from: [turn, tilt] };
        }}
        onPointerMove={move}
        onPointerUp={end}
        onPointerCancel={() => {
          begun.current = null;
          setTurning(null);
        }}
        onPointerLeave={() => onHover(null)}
      >
        {axes.map((name, i) => {
          const [x, y] = seen(i === 0 ? length : 0, i === 1 ? length : 0, i === 2 ? length : 0);
          return (
            <g key={name}>
              <line class="iw-grid" x1={origin[0]} y1={origin[1]} x2={x} y2={y} />
              <text class="iw-axis-name" x={x} y={y} text-anchor={x > 0.75 * size ? "end" : "start"}>
                {name}
              </text>
            </g>
          );
        })}
        {marks(at)}
      </svg>
    </div>
  );
}

const turned = ([turn, tilt]: Rotation, right: number, down: number): Rotation => [
  (((turn + right) % 360) + 360) % 360,
  Math.max(-90, Math.min(90, tilt + down)),
];

/** Where a point in space is on the screen, and how far away: as `projected` in views/geometry_picture.py. */
export function viewer(bounds: [number, number][], turn: number, tilt: number, size: number) {
  const [a, b] = [(turn * Math.PI) / 180, (tilt * Math.PI) / 180];
  const middle = bounds.map(([low, high]) => (low + high) / 2) as [number, number, number];
  const half = 0.75 * Math.max(...bounds.map(([low, high]) => high - low), 1e-6);
  const unit = size / (2 * 1.12 * half);
  return (px: number, py: number, pz: number): [x: number, y: number, depth: number] => {
    const [x, y, z] = [px - middle[0], py - middle[1], pz - middle[2]];
    const across = x * Math.cos(a) + z * Math.sin(a);
    const away = z * Math.cos(a) - x * Math.sin(a);
    const up = y * Math.cos(b) - away * Math.sin(b);
    return [size / 2 + unit * across, size / 2 - unit * up, away * Math.cos(b) + y * Math.sin(b)];
  };
}
