// Effects of interventions as heat maps: how large, how sure, and, where the model is at hand, run again.
import { useCallback, useMemo, useState } from "preact/hooks";
import { count, format, type Scale } from "../colour.ts";
import { Choice, Select } from "../parts/controls.tsx";
import {
  type Label,
  key,
  type Measure,
  NOT_HERE,
  type Panel,
  placeOf,
  roleOf,
  ROLES,
  sides,
  type Traits,
  useLabels,
  useNumbers,
  usePair,
} from "../parts/effects.ts";
import { Frame } from "../parts/frame.tsx";
import { Grid, type GridCell } from "../parts/grid.tsx";
import { Legend } from "../parts/legend.tsx";
import { type Outcome, OutcomeTable } from "../parts/outcome.tsx";
import { NARROW, useDark, useShared, useTiles, useTraits, useWidth, view } from "../view.tsx";

const TRAITS = [
  "title", "panels", "pairs", "panel", "cell", "layer", "head", "position", "neuron", "prompt", "measure", "held",
  "colour_range",
] as const; // prettier-ignore

const LABELS = 62; // CSS pixels beside the rows

const NAMES: Record<Measure, string> = {
  effect: "effect: change of the metric",
  recovered: "share of the way from corrupted to clean",
  value: "the metric itself",
};

function Patching() {
  const [traits, set] = useTraits<Traits>(TRAITS);
  const { panels, measure } = traits;
  const width = useWidth();
  const dark = useDark();
  const [hovered, setHovered] = useState<(GridCell & { panel: number }) | null>(null);
  const [touched, setTouched] = useState(false);

  const [low, chosen] = traits.colour_range as [number?, number?];
  const scale = useMemo((): Scale => {
    const at = { kind: "linear" as const, floor: 1e-3, dark };
    if (measure === "value") {
      const [least, most] = [Math.min(...panels.map(({ range }) => range[0])), Math.max(...panels.map(({ range }) => range[1]))]; // prettier-ignore
      return { ...at, low: low ?? least, high: chosen ?? (most > least ? most : least + 1), signed: false };
    }
    const sizes = panels.map(({ most, gap }) =>
      measure === "effect" ? most : gap === null ? 0 : most / Math.abs(gap),
    );
    return { ...at, low: 0, high: chosen ?? (Math.max(0, ...sizes) || 1), signed: true };
  }, [panels, measure, low, chosen, dark]);

  const first = panels[traits.panel];
  if (!first)
    return (
      <Frame name="patching" title={traits.title} about="Nothing has been run yet." status="">
        <p class="iw-note">Give a sweep this view, and it fills as the sweep runs: patch_sweep(…, into=view.show).</p>
      </Frame>
    );
  const [done, of] = panels.reduce(([some, all], panel) => [some + panel.done[0], all + panel.done[1]], [0, 0]);
  const options = (["effect", "recovered", "value"] as const).filter((name) => name !== "recovered" || panels.some(({ gap }) => gap !== null)); // prettier-ignore
  const narrow = width < NARROW;
  const room = panels.length === 1 || narrow ? width : Math.floor((width - 24 * (Math.min(3, panels.length) - 1)) / Math.min(3, panels.length)); // prettier-ignore
  const three = first.axes.length === 3;
  const select = (at: number, cell: number[], labels: Label[][] | undefined) => {
    setTouched(true);
    const moved: Partial<Traits> = { panel: at, cell };
    for (const role of Object.values(ROLES)) moved[role] = null;
    for (const [i, [name]] of panels[at]!.axes.entries()) {
      const role = roleOf(name);
      const label = labels?.[i]![cell[i]!];
      if (role) moved[role] = typeof label === "number" ? label : cell[i]!;
    }
    set(moved);
  };
  return (
    <Frame
      name="patching"
      title={traits.title}
      about={
        <>
          {first.how}. Each cell is one intervention, coloured by what became of {first.metric}. A dot: the 95 %
          interval includes no effect.{" "}
          {done < of && <b>{`${count(done)} of ${count(of)} cells run so far; hatched: not yet.`}</b>}
        </>
      }
      controls={
        <>
          <Choice
            label="show"
            value={measure}
            options={options}
            onChange={(next) => set({ measure: next, colour_range: [] })}
          />
          {three && <Held traits={traits} set={set} select={select} />}
          {traits.pairs.length > 1 && (
            <Select
              label="prompt"
              value={traits.prompt}
              options={traits.pairs.map((name, i) => [i, name])}
              onChange={(prompt) => set({ prompt })}
            />
          )}
        </>
      }
      status={<Status traits={traits} cell={hovered} />}
    >
      <div class="iw-panels">
        {panels.map((panel, at) => (
          <figure key={at}>
            {panels.length > 1 && <figcaption>{panel.name || panel.how}</figcaption>}
            <Table
              {...{ traits, panel, at, scale }}
              width={room}
              onHover={(cell) => setHovered(cell && { ...cell, panel: at })}
              onSelect={select}
            />
          </figure>
        ))}
      </div>
      <div class="iw-row">
        <Legend
          scale={scale}
          what={`${NAMES[measure]}${measure === "recovered" ? "" : ` (${first.metric})`}`}
          automatic={chosen === undefined}
          onRange={(range) => set({ colour_range: range })}
        />
        <small>
          corrupted {format(first.corrupted)}
          {first.clean !== null && <>, clean {format(first.clean)}</>}; {count(first.n)}{" "}
          {first.n === 1 ? "prompt: no intervals" : "prompts"}
        </small>
      </div>
      <Run traits={traits} touched={touched} />
    </Frame>
  );
}

/** Of three axes, which one is held, and where. */
function Held({
  traits,
  set,
  select,
}: {
  traits: Traits;
  set: (some: Partial<Traits>) => void;
  select: (at: number, cell: number[], labels: Label[][] | undefined) => void;
}) {
  const panel = traits.panels[traits.panel]!;
  const labels = useLabels(traits.panel);
  const cell = placeOf(traits, panel, labels);
  const { kept } = sides(panel, traits.held);
  const [name, size] = panel.axes[kept]!;
  return (
    <>
      <Select
        label="one"
        value={name}
        options={panel.axes.map(([axis]) => [axis, axis])}
        onChange={(held) => set({ held })}
      />
      <Select
        label="at a time:"
        value={cell[kept] ?? 0}
        options={Array.from({ length: size }, (_, i) => [i, String(labels?.[kept]?.[i] ?? i)])}
        onChange={(at) =>
          select(
            traits.panel,
            cell.map((place, i) => (i === kept ? at : place)),
            labels,
          )
        }
      />
    </>
  );
}

function Table({
  traits,
  panel,
  at,
  scale,
  width,
  onSelect,
  onHover,
}: {
  traits: Traits;
  panel: Panel;
  at: number;
  scale: Scale;
  width: number;
  onSelect: (at: number, cell: number[], labels: Label[][] | undefined) => void;
  onHover: (cell: GridCell | null) => void;
}) {
  const labels = useLabels(at);
  const pair = usePair(traits);
  const cell = placeOf(traits, panel, labels);
  const numbers = useNumbers(panel, at, traits.held, cell);
  const { rows, columns, row, column } = numbers;
  const upwards = row >= 0 && panel.axes[row]![0] === "layer"; // the last layer on top
  const own = (r: number) => (upwards ? rows - 1 - r : r);
  const { measure } = traits;
  const fresh = [numbers.came, measure, panel.gap, upwards, rows];
  const value = useCallback((r: number, c: number) => {
    if (measure === "value") return numbers.value(own(r), c);
    const effect = numbers.effect(own(r), c);
    return measure === "effect" ? effect : effect / (panel.gap ?? NaN);
  }, fresh);
  const dotted = useCallback((r: number, c: number) => {
    return numbers.low(own(r), c) <= 0 && numbers.high(own(r), c) >= 0;
  }, fresh);
  const label = (axis: number, i: number) => labels?.[axis]?.[i] ?? i;
  const token = (side: string[] | null | undefined, axis: number, i: number) => {
    const position = label(axis, i);
    return panel.axes[axis]![0] === "pos" && typeof position === "number" ? side?.[position] : undefined;
  };
  const byToken = panel.axes[column]![0] === "pos" && pair && typeof label(column, 0) === "number";
  const shown = byToken ? (pair.corrupted ?? pair.clean) : null;
  const beside = byToken && pair.corrupted ? pair.clean : null;
  const columnLabel = useCallback((c: number) => token(shown, column, c) ?? String(label(column, c)), [labels, shown, column]); // prettier-ignore
  const above = useCallback((c: number) => token(beside, column, c) ?? "", [labels, beside, column]);
  const columnTick = useCallback((c: number) => String(label(column, c)), [labels, column]);
  const marked = useMemo(() => new Set(byToken ? pair.marked : []), [pair, byToken]);
  const differs = useCallback((c: number) => marked.has(Number(label(column, c))), [marked, labels, column]);
  const rowLabel = (r: number) => {
    if (row < 0) return "";
    const word = token(pair?.corrupted ?? pair?.clean, row, own(r));
    return word === undefined ? String(label(row, own(r))) : `${label(row, own(r))} ${word}`;
  };
  const selected =
    cell.length && (at === traits.panel || sameAxes(panel, traits.panels[traits.panel]!))
      ? { row: row < 0 ? 0 : own(cell[row]!), column: cell[column]! }
      : null;
  const choose = (to: GridCell) => {
    const next = panel.axes.map((_, i) => cell[i] ?? 0);
    if (row >= 0) next[row] = own(to.row);
    next[column] = to.column;
    onSelect(at, next, labels);
  };
  const name = (axis: number) => (axis < 0 ? "" : panel.axes[axis]![0]);
  const columnName = `${name(column)}${shown ? `: ${beside ? "clean above, corrupted below" : "its token"}` : ""} →`;
  return (
    <>
      <Grid
        {...{
          rows,
          columns,
          value,
          dotted,
          scale,
          columnLabel,
          columnTick,
          differs,
          selected,
          rowLabel,
          onHover,
          width,
        }}
        {...(beside && { above })}
        labelWidth={LABELS}
        cellWidth={[6, 44]}
        cellHeight={Math.max(10, Math.min(24, 420 / rows))}
        axes={[row < 0 ? "" : `${name(row)} ${upwards ? "↑" : "↓"}`, columnName]}
        label={`Effects${panel.name ? `, ${panel.name}` : ""}: rows are ${name(row) || "one"}, columns ${name(column)}. Arrow keys move the selection.`}
        onSelect={choose}
      />
      {numbers.errors.map((error) => (
        <small class="iw-note" role="alert">
          {error === NOT_HERE ? "This copy does not hold all of this table." : error}
        </small>
      ))}
    </>
  );
}

const sameAxes = (a: Panel, b: Panel) => key(a.axes) === key(b.axes);

/** The cell pointed at, else the selected one: its effect with its story. */
function Status({ traits, cell }: { traits: Traits; cell: (GridCell & { panel: number }) | null }) {
  const at = cell?.panel ?? traits.panel;
  const panel = traits.panels[at]!;
  const labels = useLabels(at);
  const pair = usePair(traits);
  const place = placeOf(traits, panel, labels);
  const numbers = useNumbers(panel, at, traits.held, place);
  const { row, column, rows } = numbers;
  if (cell) {
    if (row >= 0) place[row] = panel.axes[row]![0] === "layer" ? rows - 1 - cell.row : cell.row;
    place[column] = cell.column;
  }
  if (!place.length) return <>Hover a cell; click to keep it. Arrow keys move.</>;
  const read = (of: (r: number, c: number) => number) => of(row < 0 ? 0 : place[row]!, place[column]!);
  const effect = read(numbers.effect);
  const [low, high, control] = [read(numbers.low), read(numbers.high), read(numbers.control)];
  const names = panel.axes.map(([name], i) => {
    const label = labels?.[i]?.[place[i]!] ?? place[i]!;
    const side = pair?.corrupted ?? pair?.clean;
    return (
      <>
        {i > 0 && ", "}
        {name} {label}
        {name === "pos" && typeof label === "number" && side?.[label] !== undefined && (
          <>
            {" "}
            <bdi class="iw-token">{side[label]}</bdi>
          </>
        )}
      </>
    );
  });
  return (
    <>
      {names}:{" "}
      {Number.isNaN(effect) ? (
        "not run yet"
      ) : (
        <>
          {panel.metric} {short(panel.corrupted)} → {short(read(numbers.value))} (<b>{signed(effect)}</b>
          {panel.n > 1 && !Number.isNaN(low) && (
            <>
              , 95 % {short(low)} … {short(high)} over {panel.n} prompts
            </>
          )}
          {panel.n === 1 && ", one prompt: no interval"})
          {panel.gap !== null && (
            <>, {String(Math.round((100 * effect) / panel.gap)).replace("-", "−")} % of the way to clean</>
          )}
          {panel.draws > 0 && (
            <>
              , larger than {Math.round(100 * control)} % of {panel.draws} random components
            </>
          )}
        </>
      )}
      {!cell && <small> selected</small>}
    </>
  );
}

/** What the selected cell does to the next token. */
function Run({ traits, touched }: { traits: Traits; touched: boolean }) {
  const { model } = useShared();
  const panel = traits.panels[traits.panel]!;
  const labels = useLabels(traits.panel);
  const cell = placeOf(traits, panel, labels);
  const wanted = panel.live && cell.length > 0 && (touched || !model.get<boolean>("_live"));
  const name = key({ what: "run", panel: traits.panel, cell, prompt: traits.prompt });
  const asked = useTiles(wanted ? [name] : []);
  const outcome = asked.get(name)?.json as Outcome | undefined;
  if (!panel.live)
    return (
      <small class="iw-note">
        Not live: these effects were not made in this session, so cells cannot be run again.
      </small>
    );
  if (!wanted) return <small class="iw-note">Click a cell to run its intervention on one prompt.</small>;
  if (outcome) return <OutcomeTable outcome={outcome} names={["corrupted", "patched"]} />;
  const error = asked.errors[0];
  if (error)
    return <small role="alert">{error === NOT_HERE ? "This copy does not hold what this cell does to the next token; in a notebook it is run." : error}</small>; // prettier-ignore
  return <small class="iw-busy">running…</small>;
}

const short = (value: number) => (Math.abs(value) >= 0.1 ? value.toFixed(2).replace("-", "−") : format(value));
const signed = (value: number) => `${value > 0 ? "+" : ""}${short(value)}`;

export default view(Patching);
