// The features of a dictionary: a table of all of them, and what one answers to and does.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { count, format, type Scale } from "../colour.ts";
import { Concordance, type Jump } from "../parts/concordance.tsx";
import { Choice, Toggle } from "../parts/controls.tsx";
import {
  type Facts, type FeatureRecord, type How, inWords, percent, Pointing, recordKey, type Said, short, type Spot, useNames,
  usePointing, useWritten,
} from "../parts/feature.ts"; // prettier-ignore
import { FeatureMap } from "../parts/featuremap.tsx";
import { Frame } from "../parts/frame.tsx";
import { Legend } from "../parts/legend.tsx";
import { Histogram, Logits, Others, reachOf } from "../parts/portrait.tsx";
import { blockOf, Rows, useRows } from "../parts/rows.tsx";
import { SaidOf } from "../parts/said.tsx";
import { One } from "../parts/token.tsx";
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
  written: number;
  error: string;
}
const TRAITS = [
  "title", "facts", "feature", "compare", "example", "whole", "filter", "sort_by", "text", "position", "intervention",
  "strength", "map", "written", "error",
] as const; // prettier-ignore

const WIDE = 1180; // CSS pixels, from which two features stand side by side next to the table

function FeatureView() {
  const { model } = useShared();
  const [traits, set] = useTraits<Traits>(TRAITS);
  const { facts, feature, compare, written } = traits;
  const live = model.get<boolean>("_live");
  const width = useWidth();
  const dark = useDark();
  const go = (next: number) => next !== feature && set({ feature: next });
  const beside = (next: number) => set({ compare: next === feature ? null : next });

  const shown = useRecord(feature);
  const other = useRecord(compare ?? feature);
  const records = [shown.record, compare === null ? undefined : other.record].flatMap((record) => record ?? []);
  const reach = reachOf(records);
  const asked = { filter: traits.filter, sort: traits.sort_by, written };
  const [near, setNear] = useState<number[]>([]); // rows above and below
  const around = [...near, feature + 1, feature - 1].filter((i) => i >= 0 && i < facts.features);
  const ready = shown.record?.index === feature; // what may be wanted next is asked for when this one is here
  useTiles(ready ? [...new Set(around)].map(recordKey) : []);
  const lists = useWritten<Record<string, number[]>>({ what: "lists" }, written) ?? {};

  const columns = width >= NARROW && (compare === null || width >= WIDE);
  const left = columns ? Math.min(520, Math.max(300, Math.floor(0.36 * width))) : width;
  const right = columns ? width - left - 24 : width;
  const each = compare !== null && right >= 640 ? Math.floor((right - 20) / 2) : right;
  const portrait = (record: FeatureRecord | undefined, number: number, errors: string[]) => (
    <Portrait
      key={number === compare ? "beside" : "shown"}
      {...{ record, number, errors, traits, reach, dark, lists }}
      width={each}
      onGo={go}
      onCompare={beside}
      onExample={(spot) => set({ example: [number, ...spot] })}
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
      controls={<Going {...{ facts, feature, asked, traits, go }} onCompare={(compare) => set({ compare })} />}
      status={<Selected {...{ traits }} record={shown.record} />}
    >
      {traits.error && (
        <p class="iw-error" role="alert">
          Not written: {traits.error}
        </p>
      )}
      <div class="iw-columns">
        <div style={px({ width: left })}>
          <Filter filter={traits.filter} onFilter={(filter) => set({ filter })} />
          <Rows
            key={`${traits.filter}\n${traits.sort_by}`}
            asked={asked}
            features={facts.features}
            feature={feature}
            width={left}
            lines={columns ? 26 : 8}
            onSort={(sort_by) => set({ sort_by })}
            onSelect={go}
            onBeside={setNear}
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

const scaleOf = ({ max }: FeatureRecord, dark: boolean): Scale => ({ kind: "linear", low: 0, high: max || 1, floor: 0, signed: false, dark }); // prettier-ignore

/** From feature to feature. */
function Going({
  facts,
  feature,
  asked,
  traits: { compare },
  go,
  onCompare,
}: {
  facts: Facts;
  feature: number;
  asked: { filter: string; sort: string; written: number };
  traits: Traits;
  go: (feature: number) => void;
  onCompare: (feature: number | null) => void;
}) {
  const [trail, setTrail] = useState({ visited: [feature], at: 0 });
  useLayoutEffect(() => {
    const { visited, at } = trail;
    if (visited[at] !== feature) setTrail({ visited: [...visited.slice(0, at + 1), feature].slice(-200), at: Math.min(at + 1, 199) }); // prettier-ignore
  }, [feature]);
  const walk = (by: number) => {
    const at = trail.at + by;
    setTrail({ ...trail, at });
    go(trail.visited[at]!);
  };
  // A row at random, of those that pass the filter: it may have to come first.
  const [wish, setWish] = useState<number | null>(null);
  const { at, total } = useRows(asked, [blockOf(wish ?? 0)]);
  const index = wish === null ? undefined : at(wish)?.[0];
  useEffect(() => {
    if (index === undefined) return;
    setWish(null);
    go(index as number);
  }, [index]);
  const last = facts.features - 1;
  const number = (label: string, value: number | null, onNumber: (value: number) => void) => (
    <label>
      {label}{" "}
      <input
        type="number"
        min={0}
        max={last}
        value={value ?? ""}
        onChange={(event) => {
          const to = event.currentTarget.valueAsNumber;
          if (to >= 0 && to <= last) onNumber(Math.floor(to));
          else event.currentTarget.value = String(value ?? "");
        }}
      />
    </label>
  );
  return (
    <>
      <span class="iw-group" role="group" aria-label="visited">
        <button type="button" disabled={trail.at === 0} onClick={() => walk(-1)}>
          ← back
        </button>
        <button type="button" disabled={trail.at >= trail.visited.length - 1} onClick={() => walk(1)}>
          forward →
        </button>
      </span>
      <span class="iw-group" role="group" aria-label="by number">
        <button type="button" disabled={feature === 0} onClick={() => go(feature - 1)}>
          previous
        </button>
        <button type="button" disabled={feature === last} onClick={() => go(feature + 1)}>
          next
        </button>
        <button type="button" disabled={!total} onClick={() => setWish(Math.floor(Math.random() * total!))}>
          random
        </button>
      </span>
      {number("feature", feature, go)}
      {number("beside it", compare, (to) => onCompare(to === feature ? null : to))}
      {compare !== null && (
        <button type="button" onClick={() => onCompare(null)}>
          only one
        </button>
      )}
    </>
  );
}

function Filter({ filter, onFilter }: { filter: string; onFilter: (filter: string) => void }) {
  return (
    <label class="iw-filter">
      <input
        type="search"
        aria-label="filter: a number, a word, or a condition"
        title="A number; a word in labels, notes and tokens; or a condition over the columns, as in store.query"
        placeholder="31, a word, or density < 0.01 and max_activation > 20"
        value={filter}
        onChange={(event) => onFilter(event.currentTarget.value)}
      />
    </label>
  );
}

/** Lists that the reader keeps: a click filters the table. */
function Lists({
  lists,
  filter,
  onFilter,
}: {
  lists: Record<string, number[]>;
  filter: string;
  onFilter: (filter: string) => void;
}) {
  const conditions: [string, string][] = Object.keys(lists).map((list) => [list, `'${list.replaceAll("'", "''")}' in lists`]); // prettier-ignore
  if (!conditions.length) return null;
  return (
    <div class="iw-row" role="group" aria-label="lists">
      {conditions.map(([list, condition]) => (
        <button
          type="button"
          aria-pressed={filter === condition}
          onClick={() => onFilter(filter === condition ? "" : condition)}
        >
          {list === "starred" && "★ "}
          <bdi>{list}</bdi>
        </button>
      ))}
    </div>
  );
}

/** One feature: what is said of it, its numbers, its examples, what is near. */
function Portrait({
  record,
  number,
  errors,
  traits,
  reach,
  dark,
  lists,
  width,
  onGo,
  onCompare,
  onExample,
}: {
  record: FeatureRecord | undefined;
  number: number;
  errors: string[];
  traits: Traits;
  reach: [number, number];
  dark: boolean;
  lists: Record<string, number[]>;
  width: number;
  onGo: (feature: number) => void;
  onCompare: (feature: number) => void;
  onExample: (spot: Spot) => void;
}) {
  const { facts, written } = traits;
  const said = useWritten<Said>({ what: "said", feature: number }, written);
  const near = record ? [...record.neighbours, ...record.co_firing].map(([i]) => i) : [];
  const names = useNames(near, written);
  const [jump, setJump] = useState<Jump | null>(null);
  const [whole, setWhole] = useTraits<{ whole: boolean }>(["whole"]);
  const [effects, setEffects] = useState(false);
  const most = useMemo(() => largestEffect(record), [record]);
  const scale = useMemo(
    () => record && (effects && most ? { ...scaleOf(record, dark), high: most, signed: true } : scaleOf(record, dark)),
    [record, dark, effects, most],
  );
  const pointing = useRef(new Pointing<Spot>()).current;
  if (!record || !scale)
    return (
      <article style={px({ width })}>
        <h3>Feature {count(number)}</h3>
        {errors.length ? <p role="alert">{inWords(errors[0]!, "this feature; it holds the one it was saved with, and those near it")}</p> : "…"}
      </article>
    ); // prettier-ignore
  const [of, ...spot] = traits.example;
  const selected: Spot | [] = of === record.index ? spot : [];
  const half = width >= 520 ? Math.floor((width - 24) / 2) : width;
  return (
    <article class={record.index === number ? "" : "iw-stale"} style={px({ width })} aria-label={`Feature ${number}`}>
      <div class="iw-row">
        <h3>Feature {count(record.index)}</h3>
        <span class="iw-facts">
          active at <b>{count(record.count)}</b> of {count(facts.tokens)} tokens ({percent(record.density)}), max{" "}
          <b>{short(record.max)}</b>, mean where active <b>{short(record.mean)}</b>
        </span>
      </div>
      <SaidOf key={record.index} feature={record.index} said={said} lists={Object.keys(lists)} />
      <div class="iw-columns">
        <div style={px({ width: half })}>
          <Histogram
            record={record}
            reach={reach}
            width={half}
            onGroup={(group) => setJump({ feature: record.index, group })}
          />
        </div>
        <div style={px({ width: half })}>
          <Logits record={record} />
        </div>
      </div>
      <div class="iw-row">
        <Choice
          label="examples"
          value={whole.whole ? "whole" : "snippets"}
          options={["snippets", "whole"]}
          names={["around it", "whole contexts"]}
          onChange={(value) => setWhole({ whole: value === "whole" })}
        />
        {most > 0 && (
          <Choice
            label="colours"
            value={effects ? "effect" : "activation"}
            options={["activation", "effect"]}
            names={["activation", "effect of ablation"]}
            onChange={(value) => setEffects(value === "effect")}
          />
        )}
        <span class="iw-group" role="group" aria-label="go to the examples of a group">
          {record.groups.map(({ name }, group) => (
            <button
              type="button"
              title={name === "top" ? "The strongest" : `${name} of activations`}
              onClick={() => setJump({ feature: record.index, group })}
            >
              {name.replace(" %", "").split("–")[0]}
            </button>
          ))}
        </span>
        <Legend scale={scale} what={effects && most ? "change of log-probability in nats" : "activation"} />
      </div>
      <Concordance
        record={record}
        whole={whole.whole}
        effects={effects && most > 0}
        scale={scale}
        selected={selected}
        pointing={pointing}
        jump={jump}
        onSelect={onExample}
      />
      <Where pointing={pointing} selected={selected} record={record} />
      <div class="iw-columns iw-near-lists">
        <Others
          title="Nearest directions"
          about="Cosine of the decoder directions, over the whole dictionary"
          features={record.neighbours}
          {...{ names, onGo, onCompare }}
        />
        <Others
          title="Active together"
          about="Tokens at which both are active, of those at which either is (Jaccard)"
          features={record.co_firing}
          {...{ names, onGo, onCompare }}
        />
      </div>
    </article>
  );
}

function largestEffect(record: FeatureRecord | undefined): number {
  const effects = record?.groups.flatMap(({ examples }) => examples.flatMap((example) => example.effects ?? [])) ?? [];
  return effects.reduce<number>((most, effect) => Math.max(most, Math.abs(effect ?? 0)), 0);
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

/** The token pointed at or selected: its activation, and where it is. */
function Where({
  pointing,
  selected,
  record,
}: {
  pointing: Pointing<Spot>;
  selected: Spot | [];
  record: FeatureRecord;
}) {
  const spot = usePointing(pointing) ?? (selected.length ? selected : null);
  const found = spot && record.groups[spot[0]]?.examples[spot[1]];
  if (!spot || !found) return <div class="iw-where">Point at a token for its activation; click to keep it.</div>;
  const at = spot[2];
  const i = at - found.start;
  const [value, effect] = [found.values[i], found.effects?.[i]];
  return (
    <div class="iw-where">
      <One
        token={found.tokens[i] === undefined ? undefined : { text: found.tokens[i], special: false }}
        position={at}
      />{" "}
      {value === undefined || value === null ? (
        "beyond what is kept around this example"
      ) : (
        <>
          activation <b>{i === found.position || !value ? format(value) : `≈ ${short(value)}`}</b>
          {i !== found.position && value > 0 && " ± 3 %"}
        </>
      )}
      {effect !== undefined && effect !== null && (
        <>
          ; without the feature its log-probability changes by <b>{format(effect)}</b>
        </>
      )}
      <small>
        {" "}
        token {at} of context {count(found.context)}
      </small>
    </div>
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
