// Metrics over the checkpoints of a training run, and a cursor that stands on one of them.
import { useEffect, useMemo, useState } from "preact/hooks";
import { count, format } from "../colour.ts";
import { Choice } from "../parts/controls.tsx";
import { Frame } from "../parts/frame.tsx";
import { type Laid, Lines, nearest, Plot, type Series } from "../parts/plot.tsx";
import { type Axis, dash, extent, series } from "../parts/scale.ts";
import { NARROW, px, useDark, useTiles, useTraits, useWidth, view } from "../view.tsx";

const TRAITS = ["title", "panels", "banded", "step", "x_scale", "axis", "failed"] as const;
interface Traits {
  title: string;
  panels: string[][]; // which metrics share a panel
  banded: string; // what a band is; empty: there is none
  step: number; // the checkpoint, by its number
  x_scale: "linear" | "log";
  axis: string; // what steps are called
  failed: string; // why a view that is driven did not follow
}

const PACE = 500; // ms a checkpoint while playing
const stepsKey = JSON.stringify({ what: "steps" });
const metricKey = (name: string) => JSON.stringify({ what: "metric", name });

function Training() {
  const [traits, set] = useTraits<Traits>(TRAITS);
  const { panels, x_scale, axis, banded } = traits;
  const width = useWidth();
  const dark = useDark();
  const [hover, setHover] = useState<number | null>(null);
  const [playing, setPlaying] = useState(false);
  const shown = panels.flat();
  const tiles = useTiles([stepsKey, ...shown.map(metricKey)]);
  const steps = tiles.get(stepsKey)?.json as number[] | undefined;
  const last = (steps?.length ?? 1) - 1;
  const step = steps ? Math.min(traits.step, last) : traits.step;

  useEffect(() => {
    if (!playing) return;
    const timer = setTimeout(() => (step < last ? set({ step: step + 1 }) : setPlaying(false)), PACE);
    return () => clearTimeout(timer);
  }, [playing, step, last]);
  const play = () => {
    if (!playing && step === last) set({ step: 0 });
    setPlaying(!playing);
  };

  const lines = useMemo(() => new Map(shown.map((name) => [name, data(name)])), [tiles.came, shown.join("\n"), dark]);
  function data(name: string): Series | undefined {
    const tile = tiles.get(metricKey(name));
    if (!tile || !steps || tile.shape[1] !== steps.length) return undefined;
    const row = (i: number) => (tile.data as Float32Array).subarray(i * steps.length, (i + 1) * steps.length);
    const bands = tile.shape[0] === 3;
    const i = panels.find((panel) => panel.includes(name))!.indexOf(name);
    return {
      name, x: steps, y: row(0), colour: series(i, dark), dash: dash(i),
      ...(bands && { low: row(1), high: row(2) }),
    }; // prettier-ignore
  }
  const at = hover === null ? step : Math.min(hover, last);
  const place = steps ? `${axis} ${count(steps[at]!)}` : "…";
  const numbers = ({ y, low, high }: Series) =>
    (Number.isNaN(y[at]) ? "not measured" : format(y[at]!)) +
    (low && !Number.isNaN(low[at]) ? ` (${format(low[at]!)} … ${format(high![at]!)})` : "");

  const columns = width < NARROW || panels.length === 1 ? 1 : width < 1100 || panels.length === 2 ? 2 : 3;
  const size = Math.floor((width - 16 * (columns - 1)) / columns);
  const first = steps?.find((value) => value > 0);
  const low = steps?.[0] ?? 0;
  const x: Axis = { name: axis, low, high: steps?.[last] ?? 1, kind: x_scale, ...(first !== undefined && { first }) };
  const go = (to: number) => set({ step: Math.max(0, Math.min(last, to)) });
  const key = (event: KeyboardEvent) => {
    const page = Math.max(1, Math.round(last / 10));
    const to = {
      ArrowRight: step + 1, ArrowUp: step + 1, ArrowLeft: step - 1, ArrowDown: step - 1,
      PageUp: step + page, PageDown: step - page, Home: 0, End: last,
    }[event.key]; // prettier-ignore
    if (event.key === " ") play();
    else if (to !== undefined) go(to);
    else return;
    event.preventDefault();
  };

  const panel = (names: string[]) => {
    const own = names.flatMap((name) => lines.get(name) ?? []);
    const [bottom, top] = extent(own.flatMap(({ y, low, high }) => (low ? [y, low, high!] : [y])));
    return (
      <figure key={names.join("\n")} style={px({ width: size })}>
        <figcaption>
          {names.map((name) => {
            const line = lines.get(name);
            return (
              <span>
                {line && (
                  <svg width={22} height={8} aria-hidden="true">
                    <path d="M0 4H22" stroke={line.colour} stroke-width={2} stroke-dasharray={line.dash} />
                  </svg>
                )}{" "}
                {name} <b>{line ? numbers(line) : "…"}</b>
              </span>
            );
          })}
        </figcaption>
        {steps && own.length > 0 && (
          <Plot
            width={size}
            height={size < 420 ? 190 : 220}
            x={x}
            y={{ name: names.length === 1 ? names[0]! : shared(names), low: bottom, high: top }}
            label={`${names.join(", ")} over ${axis}s. Arrow keys move the cursor, the space bar plays.`}
            cursor={{ at: steps[step]!, now: step, last, words: `${axis} ${count(steps[step]!)}` }}
            onMove={(value) => setHover(nearest(steps, value))}
            onLeave={() => setHover(null)}
            onDrag={(value) => {
              setHover(null);
              go(nearest(steps, value));
            }}
            onKey={key}
          >
            {(laid) => (
              <>
                <Lines series={own} laid={laid} />
                {steps.length <= 64 && <path class="iw-checkpoints" d={marks(steps, laid)} />}
                {own.map(
                  ({ y, colour }) =>
                    !Number.isNaN(y[at]) && <circle {...dot(laid, steps[at]!, y[at]!)} fill={colour} />,
                )}
              </>
            )}
          </Plot>
        )}
      </figure>
    );
  };

  return (
    <Frame
      name="training"
      title={traits.title}
      about={
        <>
          Each line is a number measured at checkpoints of one training run (short marks below). Drag the upright line,
          or move it with the arrow keys.{banded && ` The bands are ${banded}.`}
        </>
      }
      controls={
        <>
          <button type="button" aria-pressed={playing} onClick={play} title="From checkpoint to checkpoint (space bar)">
            {playing ? "❚❚ pause" : "▶ play"}
          </button>
          <span class="iw-group" role="group" aria-label="checkpoint">
            <button type="button" title="The checkpoint before (←)" onClick={() => go(step - 1)}>
              ←
            </button>
            <button type="button" title="The next checkpoint (→)" onClick={() => go(step + 1)}>
              →
            </button>
          </span>
          <Choice
            label={axis}
            value={x_scale}
            options={["linear", "log"]}
            onChange={(next) => set({ x_scale: next })}
          />
        </>
      }
      status={
        <>
          {place}, checkpoint {count(at + 1)} of {count(last + 1)}
          {
            hover !== null && hover !== step && <small> pointed at; the cursor is on {axis} {count(steps![step]!)}</small> /* prettier-ignore */
          }
          {tiles.errors.map((error) => (
            <span class="iw-error"> {error}</span>
          ))}
          {traits.failed && <span class="iw-error"> {traits.failed}</span>}
        </>
      }
    >
      <div class="iw-training-panels">{panels.map(panel)}</div>
    </Frame>
  );
}

/** A short mark for every checkpoint. */
const marks = (steps: number[], laid: Laid) =>
  steps.map((step) => `M${laid.x.at(step).toFixed(1)} ${laid.bottom}v-5`).join("");
const dot = (laid: Laid, x: number, y: number) => ({ cx: laid.x.at(x), cy: laid.y.at(y), r: 3.5 });

/** What names have in common at their end: "loss" of train_loss and test_loss. */
function shared(names: string[]): string {
  const words = names.map((name) => name.split(/[\s_]+/));
  const last = words[0]!.at(-1)!;
  return words.every((each) => each.at(-1) === last) ? last : "";
}

export default view(Training);
