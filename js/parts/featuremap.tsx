// All features on a plane, by their directions: a click goes to the nearest.
import { useMemo, useState } from "preact/hooks";
import { count, css, type Scale } from "../colour.ts";
import { useTiles } from "../view.tsx";
import { inWords, percent } from "./feature.ts";
import { Legend } from "./legend.tsx";
import { Scatter } from "./plot.tsx";
import { extent } from "./scale.ts";

const MAP = 1 << 16; // features in a tile, as in interpwidgets/views/feature_tiles.py
const SHADES = 8;

export function FeatureMap({
  features,
  marked,
  near,
  width,
  dark,
  onSelect,
}: {
  features: number;
  marked: number[]; // the feature shown, and the one beside it
  near: number[];
  width: number;
  dark: boolean;
  onSelect: (feature: number) => void;
}) {
  const [pointed, setPointed] = useState<number | null>(null);
  const keys = Array.from({ length: Math.ceil(features / MAP) }, (_, block) => JSON.stringify({ what: "map", block }));
  const { get, errors, missing, came } = useTiles(keys);
  const all = useMemo(() => {
    const tiles = keys.map(get);
    if (!tiles.every(Boolean)) return undefined;
    const points = new Float32Array(2 * features);
    const depth = new Float32Array(features);
    tiles.forEach((tile, block) => {
      const [size, data] = [tile!.shape[1]!, tile!.data as Float32Array];
      for (let i = 0; i < size; i++) {
        points[2 * (block * MAP + i)] = data[i]!;
        points[2 * (block * MAP + i) + 1] = data[size + i]!;
      }
      depth.set(data.subarray(2 * size, 3 * size), block * MAP);
    });
    const every = (from: number) => extent([points.filter((_, i) => i % 2 === from)]);
    return { points, depth, x: every(0), y: every(1), deep: extent([depth], false, 0) };
  }, [came, features]);
  const scale = useMemo<Scale>(
    () => ({ kind: "linear", low: all?.deep[0] ?? 0, high: all?.deep[1] ?? 1, floor: 0, signed: false, dark }),
    [all, dark],
  );
  const colour = useMemo(() => {
    const shade = (share: number) =>
      css(scale, scale.low + (0.25 + 0.75 * share) * (scale.high - scale.low)).background;
    const shades = Array.from({ length: SHADES + 1 }, (_, i) => shade(i / SHADES));
    return (i: number) => {
      const value = all!.depth[i]!;
      const share = (value - scale.low) / (scale.high - scale.low || 1);
      return Number.isNaN(value) ? (dark ? "#44444a" : "#d5d5db") : shades[Math.round(SHADES * share)]!;
    };
  }, [all, scale, dark]);
  if (!all)
    return <small role={errors.length ? "alert" : undefined}>{errors.length ? inWords(errors[0]!, "the map") : `… ${missing} parts to come`}</small>; // prettier-ignore
  const { points, depth } = all;
  return (
    <div>
      <Scatter
        width={width}
        height={Math.min(width, 420)}
        margin={{ left: 40, right: 6 }}
        label={`${count(features)} features by the first two principal components of their directions`}
        x={{ name: "first component", low: all.x[0], high: all.x[1] }}
        y={{ name: "second", low: all.y[0], high: all.y[1] }}
        {...{ points, colour }}
        radius={features > 2e5 ? 0.5 : features > 5000 ? 1 : 2.5}
        onHover={setPointed}
        onSelect={onSelect}
      >
        {({ x, y }) => {
          const mark = (i: number, name: string, radius: number) =>
            i < features && <circle class={name} cx={x.at(points[2 * i]!)} cy={y.at(points[2 * i + 1]!)} r={radius} />;
          return (
            <g class="iw-mark iw-marked">
              {near.map((i) => mark(i, "iw-near", 4))}
              {marked.map((i) => mark(i, "", 6))}
            </g>
          );
        }}
      </Scatter>
      <Legend scale={scale} what="log₁₀ of density" />
      <small>
        {pointed === null
          ? "Click one to go there; rings are this feature and the nearest directions. Two components of many: what is close here need not be close."
          : `feature ${count(pointed)}, active at ${Number.isNaN(depth[pointed]!) ? "no token" : `${percent(10 ** depth[pointed]!)} of tokens`}`}
      </small>
    </div>
  );
}
