// How vectors lie to each other: in a plane, in space, as cosines; and what is true of them in all dimensions.
import { useMemo, useState } from "preact/hooks";
import { count, css, format, type Scale } from "../colour.ts";
import { type Bar, Bars } from "../parts/bars.tsx";
import { Cloud } from "../parts/cloud.tsx";
import { Choice, OWN_KEYS } from "../parts/controls.tsx";
import { Cosines } from "../parts/cosines.tsx";
import { Frame } from "../parts/frame.tsx";
import { Scatter } from "../parts/plot.tsx";
import { series } from "../parts/scale.ts";
import { useTokenTiles } from "../parts/token.tsx";
import type { Tile } from "../tiles.ts";
import { type Asked, NARROW, px, useDark, useTiles, useTraits, useWidth, view } from "../view.tsx";

const TRAITS = ["title", "shape", "steps", "group_names", "valued", "value_range", "variance", "bounds", "step", "feature", "reading", "rotation"] as const; // prettier-ignore
interface Traits {
  title: string;
  shape: [steps: number, items: number, dim: number];
  steps: string[];
  group_names: string[];
  valued: string; // what colours stand for
  value_range: [low: number, high: number] | [];
  variance: number[]; // share along each axis shown; empty: they are all there is
  bounds: [low: number, high: number][];
  step: number;
  feature: number | null;
  reading: "2d" | "3d" | "cosine";
  rotation: [turn: number, tilt: number];
}

// As in views/geometry.py.
const FEW = 64; // items drawn as directions
const BLOCK = 50_000; // items in a tile
const COMPARED = 400; // items in a matrix of cosines
const CHUNK = 1024; // labels in a tile
const LISTED = 100; // items whose dimensionality is a bar each

function Geometry() {
  const [traits, set] = useTraits<Traits>(TRAITS);
  const { step, feature, reading, variance, bounds, group_names, valued } = traits;
  const [, items, dim] = traits.shape;
  const width = useWidth();
  const dark = useDark();
  const [hover, setHover] = useState<number | null>(null);
  const few = items <= FEW;

  const blocks = Array.from({ length: Math.ceil(items / BLOCK) }, (_, block) => block);
  const axes = reading === "3d" ? 3 : 2;
  const kinds = valued ? "values" : group_names.length ? "groups" : "";
  const keys = {
    points: reading === "cosine" ? [] : blocks.map((block) => JSON.stringify({ what: "points", step, axes, block })),
    facts: blocks.map((block) => JSON.stringify({ what: "facts", step, block })),
    kinds: kinds ? blocks.map((block) => JSON.stringify({ what: kinds, block })) : [],
    near: JSON.stringify({ what: "near", step, feature }),
    cosine: JSON.stringify({ what: "cosine", step, feature: items > COMPARED ? feature : null }),
  };
  const asked = [
    ...keys.points,
    ...(reading === "cosine" ? [keys.cosine] : []),
    ...keys.facts,
    ...keys.kinds,
    ...(feature === null ? [] : [keys.near]),
  ];
  const tiles = useTiles(asked);
  const points = useBlocks(tiles, keys.points, items * axes);
  const facts = useBlocks(tiles, keys.facts, items * 2);
  const kind = useBlocks(tiles, keys.kinds, items);
  const cosine =
    reading === "cosine" ? (tiles.get(keys.cosine) as (Tile & { items: number[] }) | undefined) : undefined;
  const near = feature === null ? undefined : (tiles.get(keys.near)?.json as [number, number][] | undefined);

  const told = hover ?? feature;
  const named = [
    ...(few
      ? Array.from({ length: items }, (_, i) => i)
      : Array.from({ length: Math.min(items, LISTED) }, (_, i) => i)),
    ...(told === null ? [] : [told]),
    ...(near ?? []).map(([i]) => i),
    ...(cosine?.items ?? []),
  ];
  const labels = useTokenTiles((chunk) => JSON.stringify({ what: "labels", chunk }), CHUNK, named);
  const label = (i: number) => labels(i)?.text ?? "…";

  const [low, high] = traits.value_range.length ? traits.value_range : [0, 1];
  const scale = useMemo<Scale>(() => {
    const signed = low < 0;
    return { kind: "linear", low: signed ? 0 : low - 0.18 * (high - low), high: signed ? Math.max(-low, high) : high, floor: 0, signed, dark }; // prettier-ignore
  }, [low, high, dark]);
  const colour = useMemo(() => {
    const plain = series(0, dark);
    if (!kind || !kinds) return () => plain;
    if (kinds === "groups") return (i: number) => series(kind[i]!, dark);
    const known = new Map<number, string>(); // of 64 shades
    return (i: number) => {
      const value = kind[i]!;
      if (Number.isNaN(value)) return "#8888";
      const at = Math.round((64 * value) / (scale.high || 1));
      let found = known.get(at);
      if (!found) known.set(at, (found = css(scale, value).background));
      return found;
    };
  }, [kind, kinds, scale, dark]);

  const narrow = width < NARROW;
  const side = Math.floor(Math.max(240, Math.min(560, narrow ? width - 4 : 0.56 * width)));
  const beside = narrow ? width - 4 : Math.max(200, Math.min(420, width - side - 28));
  const select = (i: number) => set({ feature: i === feature ? null : i });
  const key = (event: KeyboardEvent) => {
    const now = feature ?? -1;
    const to = { ArrowRight: now + 1, ArrowDown: now + 1, ArrowLeft: now - 1, ArrowUp: now - 1, Home: 0, End: items - 1 }[event.key]; // prettier-ignore
    if (event.key === "Escape") set({ feature: null });
    else if (to !== undefined) set({ feature: Math.max(0, Math.min(items - 1, to)) });
    else return;
    event.preventDefault();
  };
  const radius = few ? 5 : items <= 5000 ? 2.5 : items <= 30_000 ? 1.5 : 1;
  const marked = [...new Set([...(few ? Array.from({ length: items }, (_, i) => i) : []), ...[hover, feature].filter((i) => i !== null)])]; // prettier-ignore
  const common = { radius, colour, onHover: setHover, onSelect: select };

  const plane = points && (
    <Scatter
      {...common}
      width={side}
      height={side - 18}
      {...square(bounds, variance)}
      points={points}
      spokes={few}
      onKey={key}
      label={`${count(items)} vectors in a plane. Arrow keys go from item to item.`}
    >
      {(laid) => (
        <>
          {few && dim === 2 && <ellipse class="iw-unit" cx={laid.x.at(0)} cy={laid.y.at(0)} rx={laid.x.at(1) - laid.x.at(0)} ry={laid.y.at(0) - laid.y.at(1)} />}
          {marked.map((i) => (
            <Mark key={i} x={laid.x.at(points[2 * i]!)} y={laid.y.at(points[2 * i + 1]!)} text={label(i)} side={side} chosen={i === feature} />
          ))}
        </>
      )}
    </Scatter>
  ); // prettier-ignore
  const space = points && (
    <Cloud
      {...common}
      size={side}
      points={points}
      bounds={bounds}
      rotation={traits.rotation}
      spokes={few}
      axes={bounds.map((_, i) => `component ${i + 1}`)}
      label={`${count(items)} vectors in space. Drag or arrow keys turn it; with Shift, arrow keys go from item to item.`}
      onKey={key}
      onRotate={(rotation) => set({ rotation })}
      marks={(at) =>
        marked.map((i) => (
          <Mark key={i} x={at[2 * i]!} y={at[2 * i + 1]!} text={label(i)} side={side} chosen={i === feature} />
        ))
      }
    />
  );

  const shown = variance.length
    ? `${axes} of ${count(dim)} dimensions, ${(100 * variance.slice(0, axes).reduce((sum, part) => sum + part, 0)).toFixed(1)} % of the variance`
    : dim === 2 ? "both dimensions" : "the one dimension"; // prettier-ignore

  return (
    <Frame
      name="geometry"
      title={traits.title}
      about={
        reading === "cosine" ? (
          <>Each cell is the cosine between two vectors: 1 the same direction, 0 a right angle, −1 opposed.</>
        ) : (
          <>
            Each point is the end of a vector{few && ", drawn from the origin"}; shown are <b>{shown}</b>.
            {variance.length > 0 &&
              " What lies together here may be far apart in the others: trust the numbers beside."}
          </>
        )
      }
      controls={
        <>
          <Choice
            label="as"
            value={reading}
            options={dim > 2 ? ["2d", "3d", "cosine"] : ["2d", "cosine"]}
            names={dim > 2 ? ["plane", "space", "cosines"] : ["plane", "cosines"]}
            onChange={(next) => set({ reading: next })}
          />
          {traits.steps.length > 1 && (
            <label>
              step{" "}
              <input
                type="range"
                {...OWN_KEYS}
                min={0}
                max={traits.steps.length - 1}
                value={step}
                aria-valuetext={traits.steps[step]}
                onInput={(event) => set({ step: event.currentTarget.valueAsNumber })}
              />{" "}
              <b>{traits.steps[step]}</b>
            </label>
          )}
          <label>
            item{" "}
            <input
              type="number"
              min={0}
              max={items - 1}
              value={feature ?? ""}
              onChange={({ currentTarget: { valueAsNumber: next } }) =>
                set({ feature: next >= 0 && next < items ? next : null })
              }
            />
          </label>
        </>
      }
      status={
        told === null ? (
          "Hover a point; click to keep it."
        ) : (
          <>
            <bdi class="iw-token">{label(told)}</bdi> <small>item {count(told)}</small>
            {facts && <>: length <b>{format(facts[2 * told]!)}</b>, dimensionality <b>{format(facts[2 * told + 1]!)}</b></>}
            {valued && kind && <>, {valued} <b>{Number.isNaN(kind[told]) ? "missing" : format(kind[told]!)}</b></>}
            {kinds === "groups" && kind && <>, {group_names[kind[told]!]}</>}
            {hover !== null && hover !== feature && <small> pointed at</small>}
          </> /* prettier-ignore */
        )
      }
    >
      <div class="iw-columns">
        <div style={px({ width: side })}>
          {tiles.errors.map((error) => (
            <p class="iw-error">{error}</p>
          ))}
          {reading === "2d" && plane}
          {reading === "3d" && space}
          {reading === "cosine" && cosine && (
            <Cosines {...{ cosine, items, feature, width: side, dark, label, onSelect: select, onHover: setHover }} />
          )}
          {valued && <Ramp scale={scale} what={valued} low={low} high={high} />}
          {kinds === "groups" && (
            <div class="iw-row">
              {group_names.map((name, i) => (
                <span>
                  <i class="iw-swatch" style={`background:${series(i, dark)}`} /> {name}
                </span>
              ))}
            </div>
          )}
        </div>
        <div style={px({ width: beside })}>
          {near && feature !== null && <Near {...{ near, feature, label, width: beside, onSelect: select }} />}
          {facts && <Room {...{ facts, items, dim, feature, label, width: beside, onSelect: select }} />}
        </div>
      </div>
    </Frame>
  );
}

/** Blocks of numbers, one after the other; undefined until all are here, and as many as expected. */
function useBlocks(tiles: Asked, keys: string[], size: number): Float32Array | undefined {
  return useMemo(() => {
    const parts = keys.map((key) => tiles.get(key)?.data as Float32Array | undefined);
    if (!parts.length || parts.some((part) => !part)) return undefined;
    if (parts.length === 1) return parts[0]!.length === size ? parts[0] : undefined;
    const all = new Float32Array(parts.reduce((sum, part) => sum + part!.length, 0));
    for (let i = 0, at = 0; i < parts.length; at += parts[i++]!.length) all.set(parts[i]!, at);
    return all.length === size ? all : undefined;
  }, [tiles.came, keys.join("\n"), size]);
}

/** Both axes of a plane to one scale, so that angles are angles. */
function square(bounds: [number, number][], variance: number[]) {
  const half = 0.56 * Math.max(...bounds.slice(0, 2).map(([low, high]) => high - low), 1e-6);
  const [x, y] = [0, 1].map((i) => {
    const [low, high] = bounds[i]!;
    const name = variance.length ? `component ${i + 1} (${(100 * variance[i]!).toFixed(1)} % of the variance)` : `dimension ${i}`; // prettier-ignore
    return { name, low: (low + high) / 2 - half, high: (low + high) / 2 + half };
  });
  return { x: x!, y: y!, margin: { left: 52, right: 8, top: 8, bottom: 34 } };
}

/** What the colours of values stand for: those that points have, from the least value to the largest. */
function Ramp({ scale, what, low, high }: { scale: Scale; what: string; low: number; high: number }) {
  const ends = scale.signed ? [-scale.high, scale.high] : [low, high];
  const stops = Array.from(
    { length: 17 },
    (_, i) => css(scale, ends[0]! + (i / 16) * (ends[1]! - ends[0]!)).background,
  );
  return (
    <div class="iw-row" role="group" aria-label={`Colour: ${what}, from ${format(ends[0]!)} to ${format(ends[1]!)}`}>
      <small>{what}</small> {format(ends[0]!)}
      <i class="iw-gradient" style={`background:linear-gradient(90deg,${stops.join()})`} />
      {format(ends[1]!)}
    </div>
  );
}

const Mark = ({ x, y, text, side, chosen }: { x: number; y: number; text: string; side: number; chosen: boolean }) => (
  <g class={chosen ? "iw-mark iw-marked" : "iw-mark"}>
    {chosen && <circle cx={x} cy={y} r={8} />}
    <text x={x > 0.75 * side ? x - 9 : x + 9} y={y - 6} text-anchor={x > 0.75 * side ? "end" : "start"}>
      {text.length > 24 ? text.slice(0, 23) + "…" : text}
    </text>
  </g>
);

interface Beside {
  label: (i: number) => string;
  feature: number | null;
  width: number;
  onSelect: (i: number) => void;
}

/** The items nearest to the one selected, and those most opposed. */
function Near({ near, feature, label, width, onSelect }: Beside & { near: [number, number][] }) {
  const bars: Bar[] = near.map(([i, value]) => ({ label: <bdi>{label(i)}</bdi>, value, opens: true }));
  const degrees = (value: number) => `${((Math.acos(value) * 180) / Math.PI).toFixed(1)}°`;
  return (
    <>
      <strong>
        Nearest to <bdi>{label(feature!)}</bdi>
      </strong>{" "}
      <small>by cosine, in all dimensions; the number is the angle</small>
      <Bars
        {...{ bars, width }}
        axis="cosine"
        label={`Items by their cosine with ${label(feature!)}`}
        words={degrees}
        selected={null}
        onSelect={(i) => onSelect(near[i]![0])}
      />
    </>
  );
}

/** The share of a dimension that each item has to itself; of many items, how they spread. */
function Room({
  facts,
  items,
  dim,
  feature,
  label,
  width,
  onSelect,
}: Beside & {
  facts: Float32Array;
  items: number;
  dim: number;
}) /* prettier-ignore */ {
  const sum = useMemo(() => facts.reduce((total, value, i) => total + (i % 2 ? value : 0), 0), [facts]);
  const bars: Bar[] = Array.from({ length: items <= LISTED ? items : 0 }, (_, i) => ({
    label: <bdi>{label(i)}</bdi>,
    value: facts[2 * i + 1]!,
    opens: true,
  }));
  return (
    <>
      <strong>Feature dimensionality</strong>{" "}
      <small>
        ‖w‖² / Σ (ŵ · w′)²: the share of a dimension that an item has to itself. All {count(items)} together have{" "}
        {sum.toFixed(2)} of {count(dim)} dimensions.
      </small>
      {bars.length > 0 && (
        <Bars
          {...{ bars, width }}
          axis="share of a dimension"
          label="Feature dimensionality of each item. Arrow keys move."
          words={(value) => value.toFixed(3)}
          selected={feature}
          onSelect={onSelect}
        />
      )}
    </>
  );
}

export default view(Geometry);
