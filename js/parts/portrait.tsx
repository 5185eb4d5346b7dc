// One feature: what is said of it, its numbers, its examples, what is near.
import { Component } from "preact";
import { useMemo, useRef, useState } from "preact/hooks";
import { count, format, type Scale } from "../colour.ts";
import { px, useTraits } from "../view.tsx";
import { Concordance, type Jump } from "./concordance.tsx";
import { Connections, type Part } from "./connections.tsx";
import { Choice, Toggle } from "./controls.tsx";
import {
  type Example, type Facts, type FeatureRecord, inWords, percent, Pointing, type Said, short, type Spot, useExamples, useNames,
  usePointing, useWritten,
} from "./feature.ts"; // prettier-ignore
import { Legend } from "./legend.tsx";
import { Histogram, Logits, Others } from "./numbers.tsx";
import { SaidOf } from "./said.tsx";
import { One } from "./token.tsx";

export const scaleOf = ({ max }: FeatureRecord, dark: boolean): Scale => ({ kind: "linear", low: 0, high: max || 1, floor: 0, signed: false, dark }); // prettier-ignore

interface Props {
  number: number;
  facts: Facts;
  written: number;
  example: [feature: number, ...Spot] | []; // selected
  layer: number | null;
  head: number | null;
  neuron: number | null;
  low: number; // of the histogram
  high: number;
  dark: boolean;
  lists: Record<string, number[]>;
  width: number;
  onGo: (feature: number) => void;
  onCompare: (feature: number) => void;
  onExample: (feature: number, spot: Spot) => void;
  onPart: (part: Part) => void;
}

export function Portrait({
  record,
  errors,
  ...props
}: Props & { record: FeatureRecord | undefined; errors: string[] }) {
  const { number, width, written } = props;
  useWritten<Said>({ what: "said", feature: number }, written); // asked for together with the record
  return (
    <article
      class={record && record.index !== number ? "iw-stale" : ""}
      style={px({ width })}
      aria-label={`Feature ${number}`}
    >
      {record ? (
        <Known record={record} {...props} />
      ) : (
        <>
          <h3>Feature {count(number)}</h3>
          {errors.length ? <p role="alert">{inWords(errors[0]!, "this feature; it holds the one it was saved with, and those near it")}</p> : "…"}
        </>
      )}
    </article>
  ); // prettier-ignore
}

/** Drawn again when what it shows is another: not while the next record is on its way. */
class Known extends Component<Props & { record: FeatureRecord }> {
  override shouldComponentUpdate(next: Props & { record: FeatureRecord }) {
    return (Object.keys(next) as (keyof typeof next)[]).some(
      (key) => key !== "number" && next[key] !== this.props[key],
    );
  }
  render() {
    return <All {...this.props} />;
  }
}

function All(props: Props & { record: FeatureRecord }) {
  const { record, facts, written, example, low, high, dark, lists, width, onGo, onCompare, onExample } = props;
  const said = useWritten<Said>({ what: "said", feature: record.index }, written);
  const names = useNames(
    [...record.neighbours, ...record.co_firing].map(([i]) => i),
    written,
  );
  const examples = useExamples(record);
  const [jump, setJump] = useState<Jump | null>(null);
  const [{ whole, connections }, set] = useTraits<{ whole: boolean; connections: boolean }>(["whole", "connections"]);
  const [wanted, setEffects] = useState(false);
  const most = useMemo(() => largestEffect(record), [record]);
  const effects = wanted && most > 0;
  const scale = useMemo(
    () => (effects ? { ...scaleOf(record, dark), high: most, signed: true } : scaleOf(record, dark)),
    [record, dark, effects, most],
  );
  const pointing = useRef(new Pointing<Spot>()).current;
  const [of, ...spot] = example;
  const selected: Spot | [] = of === record.index ? spot : [];
  const half = width >= 520 ? Math.floor((width - 24) / 2) : width;
  const goTo = (group: number) => setJump({ feature: record.index, group });
  const numbers = useMemo(
    () => (
      <div class="iw-columns">
        <div style={px({ width: half })}>
          <Histogram record={record} reach={[low, high]} width={half} onGroup={(group) => goTo(group + 1)} />
        </div>
        <div style={px({ width: half })}>
          <Logits record={record} />
        </div>
      </div>
    ),
    [record, half, low, high],
  );
  return (
    <>
      <div class="iw-row">
        <h3>Feature {count(record.index)}</h3>
        <span class="iw-facts">
          active at <b>{count(record.count)}</b> of {count(facts.tokens)} tokens ({percent(record.density)}), max{" "}
          <b>{short(record.max)}</b>, mean where active <b>{short(record.mean)}</b>
        </span>
      </div>
      <SaidOf key={record.index} feature={record.index} said={said} lists={Object.keys(lists)} />
      {numbers}
      <div class="iw-row">
        <Choice
          label="examples"
          value={whole ? "whole" : "snippets"}
          options={["snippets", "whole"]}
          names={["around it", "whole contexts"]}
          onChange={(value) => set({ whole: value === "whole" })}
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
          <button type="button" title="The strongest" onClick={() => goTo(0)}>
            top
          </button>
          {record.groups.map(({ name }, group) => (
            <button type="button" title={`${name} of activations`} onClick={() => goTo(group + 1)}>
              {name.replace(" %", "").split("–")[0]}
            </button>
          ))}
        </span>
        <Legend scale={scale} what={effects ? "change of log-probability in nats" : "activation"} />
      </div>
      <Concordance
        {...{ record, examples, width, whole, effects, scale, selected, pointing, jump }}
        onSelect={(spot) => onExample(record.index, spot)}
      />
      <Where pointing={pointing} selected={selected} examples={examples} />
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
      {facts.runs && (
        <Toggle
          label="reads from, writes to"
          title="Parts of the model that its directions meet, by weights"
          value={connections}
          onChange={(next) => set({ connections: next })}
        />
      )}
      {facts.runs && connections && (
        <Connections feature={record.index} {...{ written, width, onGo }} chosen={props} onPart={props.onPart} />
      )}
    </>
  );
}

function largestEffect({ top }: FeatureRecord): number {
  const effects = top.flatMap((example) => example.effects ?? []);
  return effects.reduce<number>((most, effect) => Math.max(most, Math.abs(effect ?? 0)), 0);
}

/** The token pointed at or selected: its activation, and where it is. */
function Where({
  pointing,
  selected,
  examples,
}: {
  pointing: Pointing<Spot>;
  selected: Spot | [];
  examples: Example[][];
}) {
  const spot = usePointing(pointing) ?? (selected.length ? selected : null);
  const found = spot && examples[spot[0]]?.[spot[1]];
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
