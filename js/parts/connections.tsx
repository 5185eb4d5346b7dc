// What a feature reads from and writes to, by weights alone.
import { count, format } from "../colour.ts";
import { px, useTiles } from "../view.tsx";
import { inWords, useNames } from "./feature.ts";
import { Called } from "./numbers.tsx";

type One = [layer: number | null, number: number, via: string, weight: number, cosine: number, token: string | null];
interface Ranked {
  kind: "token" | "head" | "neuron" | "feature" | "logit";
  count: number;
  chance: number; // |cosine| of the largest of as many random directions; of heads, the root mean square
  top: One[];
}
interface Told {
  reads: Ranked[];
  writes: Ranked[];
  untold: string[];
}

export interface Part {
  layer: number;
  head: number | null;
  neuron: number | null;
}

const TITLES = { token: "embeddings", head: "heads", neuron: "neurons", feature: "features", logit: "logits" };

export function Connections({
  feature,
  written,
  width,
  chosen,
  onGo,
  onPart,
}: {
  feature: number;
  written: number;
  width: number;
  chosen: { layer: number | null; head: number | null; neuron: number | null };
  onGo: (feature: number) => void;
  onPart: (part: Part) => void;
}) {
  const key = JSON.stringify({ what: "connections", feature });
  const { get, errors } = useTiles([key]);
  const told = get(key)?.json as Told | undefined;
  const features = told ? [...told.reads, ...told.writes].flatMap(({ kind, top }) => (kind === "feature" ? top : [])) : []; // prettier-ignore
  const names = useNames(
    features.map(([, number]) => number),
    written,
  );
  if (!told)
    return <div class="iw-note" role={errors.length ? "alert" : undefined}>{errors.length ? inWords(errors[0]!, "these") : "…"}</div>; // prettier-ignore
  const most = Math.max(...[...told.reads, ...told.writes].flatMap(({ top }) => top.map((one) => Math.abs(one[4]))), 1e-9); // prettier-ignore

  const row = ({ kind, chance }: Ranked, [layer, number, via, weight, cosine, token]: One) => {
    const part = kind === "head" || kind === "neuron";
    const here = part && layer === chosen.layer && number === (kind === "head" ? chosen.head : chosen.neuron);
    const name =
      kind === "head" ? `L${layer}H${number}` : kind === "neuron" ? `L${layer} neuron ${number}` : String(number);
    const what = (
      <>
        <span>
          {token !== null ? <bdi class="iw-token">{token}</bdi> : <b>{name}</b>}
          {via && <small> by {via}</small>} {kind === "feature" && <Called name={names.get(number)} />}
        </span>
        <span class="iw-bar">
          <i
            class={kind === "head" ? "" : cosine < 0 ? "iw-below" : "iw-above"}
            style={`width:${(100 * Math.abs(cosine)) / most}%`}
          />
          <span>{cosine.toFixed(2).replace("-", "−")}</span>
        </span>
      </>
    );
    const title = `weight ${format(weight)} a unit${kind === "head" ? ", a length: its sign is that of what it attends to" : ""}; cosine ${format(cosine)}, at random ${chance.toFixed(2)}`;
    const style = Math.abs(cosine) > chance ? "iw-linked" : "iw-linked iw-by-chance";
    return kind === "token" || kind === "logit" ? (
      <div class={style} title={title}>
        {what}
      </div>
    ) : (
      <button
        type="button"
        class={style}
        title={title}
        aria-pressed={part ? here : undefined}
        onClick={() => (part ? onPart({ layer: layer!, head: kind === "head" ? number : null, neuron: kind === "neuron" ? number : null }) : onGo(number))}
      >
        {what}
      </button>
    ); // prettier-ignore
  };
  const side = (title: string, about: string, ranked: Ranked[]) => (
    <section style={px({ width: width >= 520 ? Math.floor((width - 24) / 2) : width })} aria-label={title}>
      <h4 title={about}>{title}</h4>
      {ranked.map((each) => (
        <div role="group" aria-label={TITLES[each.kind]}>
          <small>
            {TITLES[each.kind]}, of {count(each.count)}
            {each.kind === "head" ? "; at random " : "; the largest at random "}
            {each.chance.toFixed(2)}
          </small>
          {each.top.map((one) => row(each, one))}
        </div>
      ))}
      {!ranked.length && <small>nothing that weights tell</small>}
    </section>
  );
  return (
    <div class="iw-connections">
      <div class="iw-columns">
        {side("Reads from", "What the encoder direction gets from what is written before it", told.reads)}
        {side("Writes to", "What the decoder direction moves in what reads after it", told.writes.filter(({ kind }) => kind !== "logit"))}
      </div>
      <small>
        Cosines of directions, by weights alone; faint ones are no larger than by chance. A weight knows nothing of how
        active a part is, where a head looks, or what layers in between do: a hypothesis, to be ablated.
      </small>
      {told.untold.map((line) => (
        <small>{line}</small>
      ))}
    </div>
  ); // prettier-ignore
}
