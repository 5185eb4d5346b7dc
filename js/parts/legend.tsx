// What the colours mean: the scale, its range, and how much falls outside.
import { useLayoutEffect, useRef } from "preact/hooks";
import { format, lut, type Scale, weightAt } from "../colour.ts";

export function Legend({
  scale,
  what,
  automatic = true,
  clipped,
  onRange,
}: {
  scale: Scale;
  what: string; // with its unit
  automatic?: boolean;
  clipped?: { above: number; below: number } | null;
  onRange?: (range: [number, number] | []) => void; // if the reader may choose
}) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useLayoutEffect(() => {
    const image = new ImageData(256, 1);
    image.data.set(lut(scale));
    canvas.current!.getContext("2d")!.putImageData(image, 0, 0);
  }, [scale.signed, scale.dark]);
  const every = scale.signed ? [-1, -0.5, 0, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1];
  const crowded = every.some((at) => short(weightAt(scale, at)).length > 5);
  const ticks = crowded ? every.filter((_, i) => i % 2 === 0) : every;
  const percent = (share: number) => (share > 0 && share < 0.001 ? "< 0.1" : (100 * share).toFixed(1)) + " %";
  const limit = (which: "low" | "high") => (
    <label>
      {which}{" "}
      <input
        type="number"
        step="any"
        value={Number(scale[which].toPrecision(4))}
        disabled={scale.signed && which === "low"}
        onChange={(event) => {
          const value = event.currentTarget.valueAsNumber;
          const [low, high] = which === "low" ? [value, scale.high] : [scale.low, value];
          if (low < high) onRange?.([low, high]);
          else event.currentTarget.value = String(scale[which]);
        }}
      />
    </label>
  );
  return (
    <div
      class="iw-legend"
      role="group"
      aria-label={`Colour: ${what}, ${scale.kind} scale from ${format(weightAt(scale, ticks[0]!))} to ${format(scale.high)}`}
    >
      <div class="iw-ramp">
        <span>{what}</span>
        <canvas ref={canvas} width={256} height={1} aria-hidden="true" />
        <div>
          {ticks.map((at) => (
            <span style={{ left: `${(scale.signed ? (at + 1) / 2 : at) * 100}%` }}>{short(weightAt(scale, at))}</span>
          ))}
        </div>
      </div>
      <div class="iw-range">
        {onRange && (
          <>
            {limit("low")} {limit("high")}{" "}
            <button
              type="button"
              aria-pressed={automatic}
              onClick={() => onRange([])}
              title="Colours from nothing to the largest weight shown"
            >
              auto
            </button>
          </>
        )}
        {clipped && (clipped.above > 0 || clipped.below > 0) && (
          <small title="Of what is shown: drawn in the last colour though larger, or in the first though not zero">
            beyond the colours: {percent(clipped.above)} above, {percent(clipped.below)} below
          </small>
        )}
      </div>
    </div>
  );
}

const short = (value: number) => {
  const size = Math.abs(value);
  const text =
    size >= 0.01 || !size
      ? String(Number(value.toFixed(2)))
      : size >= 0.0005
        ? value.toFixed(3)
        : value.toExponential(0);
  return text.replace("-", "−");
};
