// A value along positions: a line, or between its extremes where a pixel holds several.
import { useLayoutEffect, useRef } from "preact/hooks";
import { count, format } from "../colour.ts";
import { px, useDark } from "../view.tsx";
import type { Span } from "./flow.tsx";

const HEIGHT = 56; // CSS pixels
const LEFT = 56; // for the numbers of the axis

export function Spark({
  values,
  what,
  low,
  high,
  width,
  position,
  span,
  hovered,
  onHover,
  onSelect,
}: {
  values: Float32Array;
  what: string; // the vertical axis, with its unit
  low: number;
  high: number;
  width: number;
  position: number | null;
  span: Span;
  hovered: number | null;
  onHover: (position: number | null) => void;
  onSelect: (position: number) => void;
}) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const across = Math.max(60, Math.floor(width - LEFT - 4));
  const size = values.length;
  const dark = useDark(); // the ink follows the text
  const ratio = globalThis.devicePixelRatio || 1;
  useLayoutEffect(() => {
    Object.assign(canvas.current!, { width: across * ratio, height: HEIGHT * ratio });
    const context = canvas.current!.getContext("2d")!;
    context.scale(ratio, ratio);
    context.strokeStyle = getComputedStyle(canvas.current!).color;
    context.lineWidth = 1;
    context.beginPath();
    const y = (value: number) => 1 + (HEIGHT - 2) * (1 - (value - low) / (high - low || 1));
    let down = false; // the pen, on the paper until a value is missing
    for (let x = 0; x < Math.min(across, size); x++) {
      const from = Math.floor((x * size) / Math.min(across, size));
      const to = Math.max(from + 1, Math.floor(((x + 1) * size) / Math.min(across, size)));
      let [least, most] = [Infinity, -Infinity];
      for (let i = from; i < to; i++) {
        least = Math.min(least, Number.isNaN(values[i]!) ? Infinity : values[i]!);
        most = Math.max(most, Number.isNaN(values[i]!) ? -Infinity : values[i]!);
      }
      const there = most >= least;
      const at = ((from + 0.5) / size) * across;
      if (there) {
        if (down) context.lineTo(at, y(most));
        else context.moveTo(at, y(most) - 0.5);
        context.lineTo(at, y(least) + (down ? 0 : 0.5)); // so that one alone is a dot
      }
      down = there;
    }
    context.stroke();
  }, [values, low, high, across, ratio, dark]);
  const at = (event: MouseEvent) => {
    const { left } = canvas.current!.getBoundingClientRect();
    return Math.max(0, Math.min(size - 1, Math.floor(((event.clientX - left) / across) * size)));
  };
  const mark = (i: number, name: string) => (
    <i class={name} style={px({ left: LEFT + ((i + 0.5) / size) * across - 0.5 })} />
  );
  return (
    <div class="iw-spark" style={px({ height: HEIGHT + 18 })}>
      <small style={px({ top: -2 })}>{format(high)}</small>
      <small style={px({ top: HEIGHT - 14 })}>{format(low)}</small>
      <canvas
        ref={canvas}
        style={px({ left: LEFT, width: across, height: HEIGHT })}
        role="img"
        aria-label={`${what} along ${count(size)} positions, from ${format(low)} to ${format(high)}`}
        onMouseMove={(event) => onHover(at(event))}
        onMouseLeave={() => onHover(null)}
        onClick={(event) => onSelect(at(event))}
      />
      {span.length > 0 && (
        <i
          class="iw-within"
          style={px({ left: LEFT + (span[0]! / size) * across, width: ((span[1]! - span[0]!) / size) * across })}
        />
      )}
      {position !== null && mark(position, "iw-active")}
      {hovered !== null && mark(hovered, "iw-hovered")}
      <small class="iw-spark-axis" style={px({ left: LEFT, top: HEIGHT + 2, width: across })}>
        <span>0</span>
        <span>{what}, by position</span>
        <span>{count(size - 1)}</span>
      </small>
    </div>
  );
}
