// One feature: what is said of it, its numbers, its examples, what is near.
import { useMemo, useRef, useState } from "preact/hooks";
import { count, format, type Scale } from "../colour.ts";
import { px, useTraits } from "../view.tsx";
import { Concordance, type Jump } from "./concordance.tsx";
import { Choice } from "./controls.tsx";
import {
  type Facts, type FeatureRecord, inWords, percent, Pointing, type Said, short, type Spot, useNames, usePointing,
  useWritten,
} from "./feature.ts"; // prettier-ignore
import { Legend } from "./legend.tsx";
import { Histogram, Logits, Others } from "./numbers.tsx";
import { SaidOf } from "./said.tsx";
import { One } from "./token.tsx";

export const scaleOf = ({ max }: FeatureRecord, dark: boolean): Scale => ({ kind: "linear", low: 0, high: max || 1, floor: 0, signed: false, dark }); // prettier-ignore

export function Portrait({
  record,
  number,
  errors,
  facts,
  written,
  example,
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
  facts: Facts;
  written: number;
  example: [feature: number, ...Spot] | []; // selected
  reach: [number, number];
  dark: boolean;
  lists: Record<string, number[]>;
  width: number;
  onGo: (feature: number) => void;
  onCompare: (feature: number) => void;
  onExample: (spot: Spot) => void;
}) {
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
  const [of, ...spot] = example;
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
