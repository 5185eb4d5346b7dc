// A feature in numbers: how strong it is how often, which logits it moves, and what is near it.
import type { ComponentChildren } from "preact";
import { count } from "../colour.ts";
import { type FeatureRecord, type Name, short } from "./feature.ts";
import { Plot } from "./plot.tsx";

type Reach = [low: number, high: number];

/** The activations that a histogram of some features goes over. */
export function reachOf(records: FeatureRecord[]): Reach {
  const edges = records.flatMap(({ histogram }) => histogram.edges.filter((edge) => edge > 0));
  return edges.length > 1 ? [Math.min(...edges) * 0.92, Math.max(...edges)] : [0.1, 1];
}

/** The activations above zero, by size; quantile groups are bands, and a click goes to the examples of one. */
export function Histogram({
  record,
  reach,
  width,
  onGroup,
}: {
  record: FeatureRecord;
  reach: Reach;
  width: number;
  onGroup: (group: number) => void;
}) {
  const { edges, counts } = record.histogram;
  if (!counts.length) return <p class="iw-note">It is active at none of these tokens.</p>;
  const most = Math.max(...counts);
  const groupAt = (value: number) => record.groups.findIndex(({ low, high }) => low !== null && low <= value && value <= high!); // prettier-ignore
  return (
    <Plot
      width={width}
      height={150}
      margin={{ left: 50, right: 6 }}
      label={`How often feature ${record.index} is how active: activations up to ${short(record.max)}, up to ${count(most)} tokens a bar`}
      x={{ name: "activation", low: reach[0], high: reach[1], kind: "log" }}
      y={{ name: "tokens", low: 0.8, high: most * 1.25, kind: "log" }}
      onDrag={(value, _, begins) => {
        if (begins && groupAt(value) >= 0) onGroup(groupAt(value));
      }}
    >
      {({ x, y, bottom, top }) => {
        const left = (value: number) => x.at(Math.max(value, reach[0]));
        const bar = (size: number, i: number) =>
          size ? `M${left(edges[i]!) + 0.5} ${bottom}V${y.at(size)}H${x.at(edges[i + 1]!) - 0.5}V${bottom}Z` : "";
        return (
          <>
            {record.groups.map(({ name, low, high, count: size }, i) =>
              size && low !== null ? (
                <rect
                  class={i % 2 ? "iw-band" : "iw-band iw-other"}
                  {...{ x: left(low), y: top, width: Math.max(0, x.at(high!) - left(low)), height: bottom - top }}
                >
                  <title>{`${name} of activations: ${short(low)} to ${short(high)}`}</title>
                </rect>
              ) : null,
            )}
            <path class="iw-histogram" d={counts.map(bar).join("")} />
          </>
        );
      }}
    </Plot>
  );
}

/** The logits that its direction raises most, and those it lowers most. */
export function Logits({ record: { top_logits: top, bottom_logits: bottom } }: { record: FeatureRecord }) {
  const most = Math.max(...[...top, ...bottom].map(([, logit]) => Math.abs(logit)));
  if (!top.length) return <p class="iw-note">It writes where no logits can be read off directly.</p>;
  const list = (name: string, pairs: [string, number][], kind: string) => (
    <table>
      <thead>
        <tr>
          <th colSpan={2} title="What one unit of activation adds to the logit, layers in between passed by">
            {name}
          </th>
        </tr>
      </thead>
      <tbody>
        {pairs.map(([token, logit]) => (
          <tr>
            <th scope="row">
              <bdi class="iw-token">{token}</bdi>
            </th>
            <td class="iw-bar">
              <i class={kind} style={{ width: `${(100 * Math.abs(logit)) / most}%` }} />
              <span>{short(logit)}</span>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
  return (
    <div class="iw-logits">
      {list("raises the logit of", top, "iw-above")}
      {list("lowers the logit of", bottom, "iw-below")}
    </div>
  );
}

/** What a feature is called: its label, else the token it is strongest at and the logit it raises most. */
export function Called({ name }: { name: Name | undefined }) {
  if (!name) return <>…</>;
  if (name.label) return <bdi class="iw-said">{name.label}</bdi>;
  return (
    <>
      <bdi class="iw-token">{name.peak ?? "never active"}</bdi>
      {name.raises !== null && (
        <small>
          {" → "}
          <bdi class="iw-token">{name.raises}</bdi>
        </small>
      )}
    </>
  );
}

/** Other features with a number each: a click goes there, another puts it beside. */
export function Others({
  title,
  about,
  features,
  names,
  onGo,
  onCompare,
}: {
  title: ComponentChildren;
  about: string;
  features: [feature: number, value: number][];
  names: ReadonlyMap<number, Name>;
  onGo: (feature: number) => void;
  onCompare?: (feature: number) => void;
}) {
  return (
    <div class="iw-others" role="group" aria-label={about}>
      <h4 title={about}>{title}</h4>
      {features.map(([feature, value]) => (
        <div>
          <button type="button" class="iw-go" onClick={() => onGo(feature)}>
            <b>{feature}</b>
            <i>{short(value)}</i>
            <span>
              <Called name={names.get(feature)} />
            </span>
          </button>
          {onCompare && (
            <button
              type="button"
              title="Put it beside this one"
              aria-label={`compare with ${feature}`}
              onClick={() => onCompare(feature)}
            >
              ⇄
            </button>
          )}
        </div>
      ))}
      {!features.length && <small>none</small>}
    </div>
  );
}
