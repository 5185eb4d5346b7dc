// The features of a dictionary: a table of all of them, and what one answers to and does.
import { useMemo, useRef } from "preact/hooks";
import { count, format } from "../colour.ts";
import type { Part } from "../parts/connections.tsx";
import { Toggle } from "../parts/controls.tsx";
import {
  Ahead,
  type Facts,
  type FeatureRecord,
  type How,
  recordKey,
  saidKey,
  type Spot,
  useWritten,
} from "../parts/feature.ts";
import { FeatureMap } from "../parts/featuremap.tsx";
import { Frame } from "../parts/frame.tsx";
import { Filter, Going, Lists } from "../parts/going.tsx";
import { reachOf } from "../parts/numbers.tsx";
import { Portrait, scaleOf } from "../parts/portrait.tsx";
import { Rows, rowsAt } from "../parts/rows.tsx";
import { Trial } from "../parts/trial.tsx";
import { NARROW, px, useDark, useShared, useTiles, useTraits, useWidth, view } from "../view.tsx";

interface Traits {
  title: string;
  facts: Facts;
  feature: number;
  compare: number | null;
  example: [feature: number, ...Spot] | [];
  whole: boolean;
  filter: string;
  sort_by: string;
  text: string;
  position: number | null;
  intervention: How;
  strength: number;
  map: boolean;
  layer: number | null;
  head: number | null;
  neuron: number | null;
  written: number;
  error: string;
}
const TRAITS = [
  "title", "facts", "feature", "compare", "example", "whole", "filter", "sort_by", "text", "position", "intervention",
  "strength", "map", "layer", "head", "neuron", "written", "error",
] as const; // prettier-ignore

const NONE = {};
const WIDE = 1180; // CSS pixels, from which two features stand side by side next to the table

function FeatureView() {
  const { model, tiles } = useShared();
  const [traits, set] = useTraits<Traits>(TRAITS);
  const { facts, feature, compare, written } = traits;
  const live = model.get<boolean>("_live");
  const width = useWidth();
  const dark = useDark();
  const wanted = useRef({}).current;
  const columns = width >= NARROW && (compare === null || width >= WIDE);
  const lines = columns ? 26 : 8;
  // What goes to the portraits stays the same, so that they are not drawn again for a click elsewhere.
  const { ask, go, beside, example, part } = useMemo(() => {
    const ask = (next: number) => {
      const [filter, sort, written] = [model.get<string>("filter"), model.get<string>("sort_by"), model.get<number>("written")]; // prettier-ignore
      tiles.want(wanted, [recordKey(next), saidKey(next, written), ...rowsAt({ filter, sort, written }, next, lines, facts.features)]); // prettier-ignore
    };
    return {
      ask,
      go: (next: number) => {
        ask(next); // all of it in one message, before anything is drawn: Python works meanwhile
        set({ feature: next });
      },
      beside: (next: number) => set({ compare: next === model.get<number>("feature") ? null : next }),
      example: (of: number, spot: Spot) => set({ example: [of, ...spot] }),
      part: (chosen: Part) => set(chosen),
    };
  }, [model, tiles, lines, facts]);

  const shown = useRecord(feature);
  const other = useRecord(compare ?? feature);
  const records = [shown.record, compare === null ? undefined : other.record].flatMap((record) => record ?? []);
  const [low, high] = reachOf(records);
  const asked = { filter: traits.filter, sort: traits.sort_by, written };
  const ready = shown.record?.index === feature || shown.errors.length > 0;
  const lists = useWritten<Record<string, number[]>>({ what: "lists" }, written) ?? NONE;

  const left = columns ? Math.min(520, Math.max(300, Math.floor(0.36 * width))) : width;
  const right = columns ? width - left - 24 : width;
  const each = compare !== null && right >= 640 ? Math.floor((right - 20) / 2) : right;
  const { layer, head, neuron } = traits;
  const portrait = (record: FeatureRecord | undefined, number: number, errors: string[]) => (
    <Portrait
      key={number === compare ? "beside" : "shown"}
      {...{ record, number, errors, facts, written, low, high, dark, lists, layer, head, neuron }}
      example={traits.example}
      width={each}
      onGo={go}
      onCompare={beside}
      onExample={example}
      onPart={part}
    />
  );
  return (
    <Frame
      name="feature"
      title={traits.title}
      about={
        <>
          {facts.dictionary ? <>The {facts.dictionary}</> : `${count(facts.features)} features`}, on{" "}
          {count(facts.tokens)} tokens. Choose one in the table; its examples stand below each other by the token they
          are of, on the colour of its activation.
        </>
      }
      controls={
        <Going
          features={facts.features}
          {...{ feature, asked, compare, ask, go }}
          onCompare={(compare) => set({ compare })}
        />
      }
      status={<Selected {...{ traits }} record={shown.record} />}
    >
      {traits.error && (
        <p class="iw-error" role="alert">
          Not written: {traits.error}
        </p>
      )}
      <Ahead features={ready ? [feature + 1, feature - 1].filter((i) => i >= 0 && i < facts.features) : []} />
      <div class="iw-columns">
        <div style={px({ width: left })}>
          <Filter filter={traits.filter} onFilter={(filter) => set({ filter })} />
          <Rows
            key={`${traits.filter}\n${traits.sort_by}`}
            asked={asked}
            features={facts.features}
            feature={feature}
            width={left}
            {...{ lines, ready }}
            onSort={(sort_by) => set({ sort_by })}
            onSelect={go}
          />
          <Lists lists={lists} filter={traits.filter} onFilter={(filter) => set({ filter })} />
          <Toggle label="map of all features" value={traits.map} onChange={(map) => set({ map })} />
          {traits.map &&
            (facts.columns.includes("x") ? (
              <FeatureMap
                features={facts.features}
                marked={compare === null ? [feature] : [feature, compare]}
                near={shown.record?.neighbours.map(([i]) => i) ?? []}
                width={left}
                dark={dark}
                onSelect={go}
              />
            ) : (
              <small>This store has no map: it was built without directions.</small>
            ))}
        </div>
        <div class="iw-large">
          {compare !== null && <Pair a={feature} b={compare} />}
          <div class="iw-portraits">
            {portrait(shown.record, feature, shown.errors)}
            {compare !== null && portrait(other.record, compare, other.errors)}
          </div>
          {facts.runs && shown.record && (live || traits.text) && (
            <Trial
              tried={traits}
              scale={scaleOf(shown.record, dark)}
              most={shown.record.max}
              {...{ live, written }}
              onChange={set}
              onGo={go}
              onCompare={beside}
            />
          )}
          {!facts.runs && live && (
            <small>
              To try it on text of your own, and to steer with it: store.bind(model, dictionary), or FeatureView(store,
              model=model, dictionary=dictionary).
            </small>
          )}
        </div>
      </div>
    </Frame>
  );
}

/** A feature's record; the last one until it is here. */
function useRecord(feature: number) {
  const last = useRef<FeatureRecord | undefined>(undefined);
  const { get, errors } = useTiles([recordKey(feature)]);
  const record = get(recordKey(feature))?.json as FeatureRecord | undefined;
  if (record) last.current = record;
  return { record: record ?? (errors.length ? undefined : last.current), errors };
}

/** How near two features are. */
function Pair({ a, b }: { a: number; b: number }) {
  const key = JSON.stringify({ what: "pair", features: [a, b] });
  const pair = useTiles([key]).get(key)?.json as { cosine: number | null; jaccard: number | null } | undefined;
  if (!pair) return null;
  const said = (value: number | null, otherwise: string) => (value === null ? otherwise : format(value));
  return (
    <p class="iw-pair">
      {a} and {b}: cosine of their directions <b>{said(pair.cosine, "not among the nearest")}</b>, active together{" "}
      <b>{said(pair.jaccard, "not among the most")}</b> (Jaccard)
    </p>
  );
}

/** What is selected, in words. */
function Selected({
  traits: { feature, compare, facts },
  record,
}: {
  traits: Traits;
  record: FeatureRecord | undefined;
}) {
  return (
    <>
      Feature {count(feature)} of {count(facts.features)}
      {record?.index === feature && (
        <>
          , active at <b>{count(record.count)}</b> tokens, at most <b>{format(record.max)}</b>
        </>
      )}
      {compare !== null && `, beside feature ${count(compare)}`}.
    </>
  );
}

export default view(FeatureView);
